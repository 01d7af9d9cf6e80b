"""DATA: a data folder as data_prep/README.md describes it, or images that become one.

A folder of images is converted once, into the user's cache; what is there is known by the images'
names, sizes and times and by how they were prepared, so that a changed folder is converted again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import subprocess
import sys
from typing import Any

from caffe_plain.database import data_file
from caffe_plain.files import user_cache
from caffe_plain.images import printable

from .data_layers import data_layers
from .errors import RelayError

VERSION = 1  # of how images are converted
INTERRUPTED = 128 + signal.SIGINT  # the status of a tool that Ctrl-C has ended
DATABASES = ("train_lmdb", "val_lmdb")


def data_folder(data: str, net: Any, crop: int | None, makes: bool = True) -> str:
    """The data folder that DATA names: itself, or what its images were converted to.

    net: the NetParameter that reads it; crop: in place of the net's own; makes: whether a folder
    of images is converted where it has not been. Raises RelayError for anything else.
    """
    _refuse_other_things(data)
    if any(os.path.exists(os.path.join(data, name)) for name in DATABASES):
        return data
    others = _databases_in(data)
    if others:
        raise RelayError(
            f"DATA={data}: holds {', '.join(others)}; expected {' and '.join(DATABASES)}: rename "
            "them, or make links with these names"
        )
    layer = next(iter(data_layers(net.layer)), None)
    if layer is None:
        raise RelayError(f"DATA={data}: net {net.name!r} reads no images from a database")
    option = f"--crop={crop or layer.get('crop_size')}"
    path = _cached(data, option)
    if makes and not os.path.exists(path):
        print(f"Converting the images of {data} into {path}", flush=True)
        make_by("data_folder", option, "--", data, path)
    return path


def make_by(tool: str, *words: str, quiet: bool = False) -> None:
    """Let a tool of data_prep make something; RelayError where it cannot, which it has said.

    Ctrl-C reaches the tool, too: it has ended, and said so, when KeyboardInterrupt is raised.
    quiet: only what goes wrong is printed.
    """
    command = [sys.executable, "-m", "relaybp.data_prep", tool, *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL if quiet else None)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        status = INTERRUPTED
    if status in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt("the same command goes on with the data")
    if status:
        raise RelayError("no data to train on, for the reason above")


def _refuse_other_things(data: str) -> None:
    if not os.path.exists(data):
        raise RelayError(
            f"DATA={data}: no such folder, from {os.getcwd()}; expected one of images with a "
            f"subfolder per class, or one with {' and '.join(DATABASES)}"
        )
    if not os.path.isdir(data) or os.path.isfile(data_file(data)):
        is_database = os.path.isdir(data) or os.path.basename(data) == "data.mdb"
        raise RelayError(
            f"DATA={data}: this is {'a database itself' if is_database else 'a file'}; name the "
            f"folder that holds {' and '.join(DATABASES)}, or images with a subfolder per class"
        )


def _databases_in(folder: str) -> list[str]:
    """The names of the databases in a folder."""
    paths = (os.path.join(folder, name) for name in sorted(os.listdir(folder)))
    found = [path for path in paths if os.path.isdir(path) and os.path.isfile(data_file(path))]
    return [printable(os.path.basename(path)) for path in found]


@functools.cache
def _cached(data: str, option: str) -> str:
    """Where the data folder lies that is made of the images in `data` with this option."""
    from .data_prep.image_tree import ImageTree  # needs OpenCV, which other data do not

    digest = hashlib.sha256(f"{VERSION} {option}".encode())
    for name in ImageTree(data).images():
        stat = os.stat(os.path.join(data, name))
        digest.update(os.fsencode(name) + b"\0%d %d\n" % (stat.st_size, stat.st_mtime_ns))
    name = f"{os.path.basename(os.path.abspath(data))}-{digest.hexdigest()[:12]}"
    return os.path.join(user_cache(), "caffe-relay", "data", name)
