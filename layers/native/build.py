"""Compile crop_jpeg.c: python -m layers.native.build

The library lies beside its source. Without a C compiler, without libjpeg-turbo's headers (Debian,
Ubuntu: libjpeg-turbo8-dev or libjpeg62-turbo-dev; Fedora: libjpeg-turbo-devel), or where its pixels
are not OpenCV's, none is made, and whole images are decoded with OpenCV: the same numbers, slower.
"""

import os
import subprocess
import tempfile

import numpy as np

from .jpeg import FOLDER, SOURCE, PartialDecoder, library_path

COMPILE = ["cc", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra"]


class NotBuilt(Exception):
    """Why there is no library."""


def build():
    """Compile and check what is not there yet; returns the path of the library."""
    path = library_path()
    if os.path.exists(path):
        return path
    for name in os.listdir(FOLDER):
        if name.endswith(".so"):
            os.unlink(os.path.join(FOLDER, name))
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        made = os.path.join(folder, "made.so")
        try:
            subprocess.run([*COMPILE, SOURCE, "-o", made, "-ljpeg"], check=True,
                           capture_output=True, text=True)
        except FileNotFoundError:
            raise NotBuilt("there is no C compiler (cc)") from None
        except subprocess.CalledProcessError as error:
            raise NotBuilt(error.stderr) from None
        check(PartialDecoder(made))
        os.replace(made, path)
    return path


def check(decoder):
    """Compare windows of some images with what OpenCV decodes."""
    import cv2
    random = np.random.RandomState(0)
    for quality, size in ((30, (50, 70)), (75, (64, 48)), (95, (90, 121))):
        image = cv2.resize(random.randint(0, 256, (9, 7, 3)).astype(np.uint8), size[::-1])
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for top, left in ((0, 0), (11, 17)):
            found = decoder.begin(data) == size and decoder.cut((top, left, 31, 29), 3)
            if not np.array_equal(found, whole[top:top + 31, left:left + 29]):
                raise NotBuilt("this libjpeg decodes to other pixels than OpenCV's")


def main():
    try:
        print(f"JPEG windows: {os.path.basename(build())}")
    except (NotBuilt, OSError, ImportError) as error:
        print(f"JPEG windows: not built, whole images are decoded instead\n{error}")


if __name__ == "__main__":
    main()
