"""Record what BVLC Caffe makes of one picture, in photos of every orientation.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_one_picture.py

writes tests/golden/one_picture.npz, with the photos, for tests/test_one_picture.py.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
os.environ.setdefault("GLOG_minloglevel", "2")

from PIL import Image  # noqa: E402

import caffe  # noqa: E402
import golden  # noqa: E402
import picture_cases as cases  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402

WAYS = {
    2: Image.FLIP_LEFT_RIGHT,
    3: Image.ROTATE_180,
    4: Image.FLIP_TOP_BOTTOM,
    5: Image.TRANSPOSE,
    6: Image.ROTATE_90,
    7: Image.TRANSVERSE,
    8: Image.ROTATE_270,
}


def photo(orientation, path):
    """Write a JPEG of the picture that lies so."""
    pixels = np.random.RandomState(0).randint(0, 256, (8, 12, 3)).repeat(8, 0).repeat(8, 1)
    image, exif = Image.fromarray(pixels.astype(np.uint8)), Image.Exif()
    if orientation in WAYS:
        image = image.transpose(WAYS[orientation])
    exif[0x0112] = orientation
    image.save(path, "JPEG", quality=95, exif=exif)


def record(orientation, folder):
    """{name: array} of a photo and of its scores."""
    photo(orientation, os.path.join(folder, "x.jpg"))
    with open(os.path.join(folder, "list.txt"), "w") as file:
        file.write(f"{folder}/x.jpg 0\n")
    cases.write_mean(caffe_pb2, os.path.join(folder, "mean"))
    for db, flags in (("raw", []), ("encoded", ["-encoded"])):
        arguments = ["/", os.path.join(folder, "list.txt"), os.path.join(folder, db)]
        subprocess.run(["convert_imageset", *flags, *arguments], check=True)
    with open(os.path.join(folder, "x.jpg"), "rb") as file:
        found = {f"{orientation}/photo": np.frombuffer(file.read(), np.uint8)}
    for name, layer, db in (
        ("ImageData", "ImageData", ""),
        ("raw", "Data", "raw"),
        ("encoded, turned", "Data with force_color", "encoded"),
        ("encoded, as stored", "Data", "encoded"),
    ):
        if orientation < 5 or name != "encoded, as stored":  # which is not as high as wide
            text = cases.data_layer(layer, folder, db)
            net = os.path.join(folder, "net.prototxt")
            found[f"{orientation}/{name}"] = cases.scores(caffe, net, text)
    return found


def main():
    results = {}
    for orientation in cases.ORIENTATIONS:
        with tempfile.TemporaryDirectory() as folder:
            results.update(record(orientation, folder))
    golden.save_arrays(os.path.join(golden.FOLDER, "one_picture.npz"), **results)


if __name__ == "__main__":
    main()
