"""Compile the layers' C code now, not at its first use: python -m relaybp.layers.native.build

crop_jpeg decodes windows of JPEG images, finish converts bytes to floats. Without a C compiler, or
for crop_jpeg without libjpeg-turbo's headers (Debian, Ubuntu: libjpeg-turbo8-dev or
libjpeg62-turbo-dev; Fedora: libjpeg-turbo-devel), or where its pixels are not OpenCV's, OpenCV,
numpy and PyTorch do the work: the same numbers, slower.
"""

from __future__ import annotations

from . import finish, jpeg

LIBRARIES = (jpeg.LIBRARY, finish.LIBRARY)

if __name__ == "__main__":
    for library in LIBRARIES:
        print(f"{library.name}: {library.state()}")
