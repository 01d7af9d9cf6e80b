"""The image files and records of tests/golden/data_prep.npz, for the tests of the data tools."""

from functools import lru_cache
from pathlib import Path

import lmdb
import numpy as np

from data_prep import convert_imageset
from tests.oracle import record_data_prep as cases


@lru_cache
def golden():
    """What the original wrote: name -> bytes."""
    with np.load(Path(__file__).parent / "golden" / "data_prep.npz") as arrays:
        return {name: array.tobytes() for name, array in arrays.items()}


def golden_records(name):
    """The original's records of one of the recorded databases: key -> bytes."""
    return {key[len(name) + 1:]: value for key, value in golden().items()
            if key.startswith(name + "/")}


def write_images(folder):
    """The image files of the recorded cases in folder/images, and folder/list.txt."""
    for name in cases.IMAGES:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(golden()["file/" + name])
    rows = zip(cases.IMAGES, cases.LABELS, strict=True)
    (folder / "list.txt").write_text("".join(f"{name} {label}\n" for name, label in rows))
    return folder


def records(db):
    """All of an LMDB: key -> bytes."""
    with lmdb.open(str(db), readonly=True, lock=False) as env, env.begin() as txn:
        return {key.decode(): value for key, value in txn.cursor()}


def convert(folder, *flags, db="db", list_file="list.txt"):
    """convert_imageset on folder/images; returns the database's folder."""
    convert_imageset.main(["--workers=1", *flags, f"{folder}/images/", str(folder / list_file),
                           str(folder / db)])
    return folder / db
