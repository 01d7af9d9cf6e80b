"""The image files and records of tests/golden/data_prep.npz, for the tests of the data tools."""

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import cv2
import lmdb
import numpy as np

from relaybp.data_prep import convert_imageset
from tests.oracle import record_data_prep as cases

ROOT = Path(__file__).resolve().parents[1]
SIDE_FILES = (
    "skipped.tsv",
    "class_index.tsv",
    "classes.txt",
    "settings.json",
    "record_index.npy",
    "checksums.npy",
)


@lru_cache
def golden():
    """What the original wrote: name -> bytes."""
    with np.load(Path(__file__).parent / "golden" / "data_prep.npz") as arrays:
        return {name: array.tobytes() for name, array in arrays.items()}


def golden_records(name):
    """The original's records of one of the recorded databases: key -> bytes."""
    return {
        key[len(name) + 1 :]: value for key, value in golden().items() if key.startswith(name + "/")
    }


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
    convert_imageset.main(
        ["--workers=1", *flags, f"{folder}/images/", str(folder / list_file), str(folder / db)]
    )
    return folder / db


def many_images(folder, count):
    """Tiny images of different content and their list file."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.RandomState(5)
    for k in range(count):
        pixels = rng.randint(0, 256, (4, 5, 3), dtype=np.uint8)
        cv2.imwrite(f"{folder}/images/{k}.bmp", pixels)
    (folder / "list.txt").write_text("".join(f"{k}.bmp {k % 7}\n" for k in range(count)))


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from relaybp.data_prep import {tool}, datum_db, growing_db
growing_db.BATCH_RECORDS = 50
if __name__ == "__main__":
    {before}
    {tool}.main({args!r})
"""


def script(folder, tool, before, *args):
    """The command of a data tool in a process of its own, with transactions of 50 records."""
    path = folder / f"{tool}_script.py"
    path.write_text(
        SCRIPT.format(
            path=[str(ROOT), str(ROOT / "python")], tool=tool, before=before, args=list(args)
        )
    )
    return [sys.executable, str(path)]


HANGING = (  # once 300 records are written
    "import itertools, time; put = datum_db.DatumDB.put; records = itertools.count(); "
    "hang = lambda: (print('hanging', flush=True), time.sleep(600)); "
    "datum_db.DatumDB.put = lambda *args: (next(records) < 300 or hang(), put(*args))"
)


def kill_while_writing(command, db):
    """Start a command that writes the LMDB `db` and is HANGING, and kill -9 it when it does."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert b"hanging\n" in child.stdout
        child.kill()
    assert not db.exists()
