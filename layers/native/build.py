"""Compile the layers' C code: python -m relaybp.layers.native.build

crop_jpeg decodes windows of JPEG images, finish converts bytes to floats. The libraries lie beside
their sources. Without a C compiler, or for crop_jpeg without libjpeg-turbo's headers (Debian,
Ubuntu: libjpeg-turbo8-dev or libjpeg62-turbo-dev; Fedora: libjpeg-turbo-devel), or where its pixels
are not OpenCV's, OpenCV, numpy and PyTorch do the work: the same numbers, slower.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile

import numpy as np

from . import LINKED, library_path, source_path
from .jpeg import PartialDecoder

# no contraction: a multiplication and an addition are rounded one after the other, as in PyTorch
COMPILE = ["cc", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra"]


class NotBuilt(Exception):
    """Why there is no library."""


def build(name: str) -> str:
    """Compile and check a library if it is not there yet; returns its path."""
    path = library_path(name)
    if os.path.exists(path):
        return path
    folder = os.path.dirname(path)
    for file in os.listdir(folder):
        if file.startswith(f"{name}-") and file.endswith(".so"):
            os.unlink(os.path.join(folder, file))
    with tempfile.TemporaryDirectory(dir=folder) as folder:
        made = os.path.join(folder, "made.so")
        try:
            subprocess.run(
                [*COMPILE, source_path(name), "-o", made, *LINKED[name]],
                check=True,
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            raise NotBuilt("there is no C compiler (cc)") from None
        except subprocess.CalledProcessError as error:
            raise NotBuilt(error.stderr) from None
        if name == "crop_jpeg":
            check(PartialDecoder(ctypes.CDLL(made)))
        os.replace(made, path)
    return path


def check(decoder: PartialDecoder) -> None:
    """Compare windows of some images with what OpenCV decodes."""
    import cv2

    random = np.random.RandomState(0)
    for quality, size in ((30, (50, 70)), (75, (64, 48)), (95, (90, 121))):
        image = cv2.resize(random.randint(0, 256, (9, 7, 3)).astype(np.uint8), size[::-1])
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for top, left in ((0, 0), (11, 17)):
            found = decoder.begin(data) == size and decoder.cut((top, left, 31, 29), 3)
            if not np.array_equal(found, whole[top : top + 31, left : left + 29]):
                raise NotBuilt("this libjpeg decodes to other pixels than OpenCV's")


def main() -> None:
    for name in LINKED:
        try:
            print(f"{name}: {os.path.basename(build(name))}")
        except (NotBuilt, OSError, ImportError) as error:
            print(f"{name}: not built; OpenCV, numpy and PyTorch do its work\n{error}")


if __name__ == "__main__":
    main()
