"""Record what BVLC Caffe's convert_imageset, compute_image_mean and convert_cifar_data write.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_data_prep.py

Writes tests/golden/data_prep.npz, with the image files, for tests/test_data_prep.py.
"""

import os
import shutil
import subprocess
import tempfile

import numpy as np

# name of the image: its shape; in the order of the list file
IMAGES = {
    "a.jpg": (20, 26, 3),
    "b.JPEG": (25, 17, 3),
    "sub dir/c.png": (18, 18, 3),
    "gray.png": (16, 14),
    "alpha.png": (12, 12, 4),
    "e.bmp": (10, 13, 3),
}
LABELS = [3, 0, 7, 1, 2, 5]

# name: flags of convert_imageset
CONVERSIONS = {
    "raw": [],
    "smaller": ["-resize_width=16", "-resize_height=12"],
    "larger": ["--resize_width", "40", "--resize_height", "32"],
    "gray": ["-gray"],
    "gray_smaller": ["-gray=true", "-resize_width=16", "-resize_height=12"],
    "encoded": ["-encoded"],
    "encoded_smaller": ["-encoded", "-resize_width=16", "-resize_height=12"],
    "encoded_png": ["-encode_type=png"],
    "encoded_jpg": ["-encoded", "-encode_type", "jpg", "-noshuffle"],
    "encoded_gray": ["-gray", "-encoded"],
}
MEANS = ["smaller", "gray_smaller", "encoded_smaller"]
CIFAR_ROWS = 2  # of each batch file, recorded


def cifar_rows():
    """The first rows of the six batch files: (6, CIFAR_ROWS, 1 + 3072) bytes."""
    rows = np.random.RandomState(3).randint(0, 256, (6, CIFAR_ROWS, 3073), dtype=np.uint8)
    rows[:, :, 0] %= 10
    return rows


def _make_images(root):
    import skimage.io

    for k, (name, shape) in enumerate(IMAGES.items()):
        y, x = np.mgrid[: shape[0], : shape[1]]
        waves = [127 + 90 * np.sin(x / 4.0 + c + k) + 30 * np.cos(y / (3.0 + c)) for c in range(4)]
        pixels = np.stack(waves, axis=2) + np.random.RandomState(k).normal(0, 4, shape[:2] + (4,))
        pixels = pixels.clip(0, 255).astype(np.uint8)
        pixels = pixels[:, :, 0] if len(shape) == 2 else pixels[:, :, : shape[2]]
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        skimage.io.imsave(path, pixels, check_contrast=False)


def _records(db):
    import lmdb

    with lmdb.open(db, readonly=True, lock=False) as env, env.begin() as txn:
        return list(txn.cursor())


def _call(*command):
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _record_cifar(record, folder):
    os.makedirs(os.path.join(folder, "cifar"))
    names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
    for k, rows in enumerate(cifar_rows()):
        with open(os.path.join(folder, "cifar", names[k]), "wb") as file:
            file.write(rows.tobytes().ljust(10000 * 3073, b"\0"))
    _call("convert_cifar_data", os.path.join(folder, "cifar"), folder, "lmdb")
    for split in ("train", "test"):
        records = _records(os.path.join(folder, f"cifar10_{split}_lmdb"))
        for key, value in records:
            if int(key) % 10000 < CIFAR_ROWS:
                record[f"cifar/{split}/{key.decode()}"] = np.frombuffer(value, np.uint8)


def main():
    import golden

    record = {}
    folder = tempfile.mkdtemp(dir=golden.FOLDER)
    try:
        root = os.path.join(folder, "images", "")
        _make_images(root)
        for name in IMAGES:
            record["file/" + name] = np.fromfile(root + name, np.uint8)
        list_file = os.path.join(folder, "list.txt")
        with open(list_file, "w") as file:
            file.writelines(f"{name} {LABELS[k]}\n" for k, name in enumerate(IMAGES))
        for name, flags in CONVERSIONS.items():
            db = os.path.join(folder, name)
            _call("convert_imageset", *flags, root, list_file, db)
            for key, value in _records(db):
                record[f"{name}/{key.decode()}"] = np.frombuffer(value, np.uint8)
            if name in MEANS:
                _call("compute_image_mean", db, db + ".mean")
                record["mean/" + name] = np.fromfile(db + ".mean", np.uint8)
        _record_cifar(record, folder)
    finally:
        shutil.rmtree(folder)
    golden.save_arrays(os.path.join(golden.FOLDER, "data_prep.npz"), **record)


if __name__ == "__main__":
    main()
