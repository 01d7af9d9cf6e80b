"""Record what LevelDB makes of a conversion by BVLC Caffe's convert_imageset: a log, then a table.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_leveldb.py

Writes tests/golden/leveldb.npz: the files of both folders, and the records as an LMDB has them, for
tests/test_leveldb.py.
"""

import os
import shutil
import subprocess
import tempfile

import numpy as np

IMAGES = 40


def _write_images(folder):
    """Gray images that Snappy can compress, and one that it cannot."""
    import skimage.io

    for k in range(IMAGES):
        pixels = np.zeros((24, 31), np.uint8)
        pixels[k % 24 :, k % 7 :: 5] = 3 * k
        if k == 7:
            pixels = np.random.RandomState(k).randint(0, 256, (24, 31)).astype(np.uint8)
        skimage.io.imsave(os.path.join(folder, f"{k}.png"), pixels, check_contrast=False)
    with open(os.path.join(folder, "list.txt"), "w") as file:
        file.writelines(f"{k}.png {k % 5}\n" for k in range(IMAGES))


def _call(*command):
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _record_files(record, name, db):
    for file in sorted(os.listdir(db)):
        if file not in ("LOCK", "LOG", "LOG.old"):
            record[f"{name}/{file}"] = np.fromfile(os.path.join(db, file), np.uint8)


def main():
    import lmdb

    import golden

    record, folder = {}, tempfile.mkdtemp(dir=golden.FOLDER)
    try:
        _write_images(folder)
        arguments = [os.path.join(folder, ""), os.path.join(folder, "list.txt")]
        for backend in ("lmdb", "leveldb"):
            db = os.path.join(folder, backend)
            _call("convert_imageset", "-gray", f"-backend={backend}", *arguments, db)
        _record_files(record, "log", db)
        _call("compute_image_mean", "-backend=leveldb", db)  # LevelDB writes when it is read
        _record_files(record, "table", db)
        path = os.path.join(folder, "lmdb")
        with lmdb.open(path, readonly=True, lock=False) as env, env.begin() as transaction:
            for key, value in transaction.cursor():
                record[f"records/{key.decode()}"] = np.frombuffer(value, np.uint8)
    finally:
        shutil.rmtree(folder)
    golden.save_arrays(os.path.join(golden.FOLDER, "leveldb.npz"), **record)


if __name__ == "__main__":
    main()
