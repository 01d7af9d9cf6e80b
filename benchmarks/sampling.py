"""What class-aware sampling costs at the size of Places2: start-up, memory, time a draw.

    python benchmarks/sampling.py [--rounds 5] [--out benchmarks/results/sampling.txt]

Makes an LMDB of 8.1 million tiny records in 401 classes of 4,000 to 30,000, without a class index,
as other tools make them. A first process makes the index; later ones find it and draw all records.
Times are CPU times, so other work on the machine hardly matters; the files are read from memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np

from relaybp.layers.class_aware import ClassAware
from relaybp.layers.record_index import read_index

RECORDS, CLASSES, SMALLEST, LARGEST = 8_100_000, 401, 4_000, 30_000
BATCH = 256
LIMITS = {"start_s": 2, "memory_mb": 200, "draw_us": 1}
MEANING = {
    "index_s": "first use of a database without an index: reading all labels, s",
    "start_s": "start-up: reading the index, the class lists, the first batch, s",
    "memory_mb": "memory that this adds to a process at most, mapped files included, MB",
    "private_mb": "of it private to the process, after all draws, MB",
    "draw_us": "a draw, over an epoch in batches of 256, us",
}


def places2_labels():
    """The labels (RECORDS,) of a set as unequal as Places2, shuffled."""
    mean = (RECORDS / CLASSES - SMALLEST) / (LARGEST - SMALLEST)
    ranks = (np.arange(CLASSES) + 0.5) / CLASSES
    sizes = np.round(SMALLEST + (LARGEST - SMALLEST) * ranks ** (1 / mean - 1)).astype(int)
    sizes[CLASSES // 2] += RECORDS - sizes.sum()  # of rounding
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), sizes)
    np.random.RandomState(0).shuffle(labels)
    return labels


def write_database(path):
    """An LMDB with one-pixel records of these labels under the keys of convert_imageset."""
    from caffe.proto import caffe_pb2

    records = [
        caffe_pb2.Datum(channels=1, height=1, width=1, data=b"x", label=label).SerializeToString()
        for label in range(CLASSES)
    ]
    items = ((b"%08d_x.jpg" % k, records[label]) for k, label in enumerate(places2_labels()))
    with (
        lmdb.open(path, map_size=1 << 31, sync=False) as environment,
        environment.begin(write=True) as transaction,
        transaction.cursor() as cursor,
    ):
        cursor.putmulti(items, append=True)


def memory(field):
    """A field of this process's status or smaps_rollup, MB (Linux)."""
    text = Path("/proc/self/status").read_text() + Path("/proc/self/smaps_rollup").read_text()
    return int(text.partition(field + ":")[2].split()[0]) / 1000


def measure(db):
    """What a new process finds: a dict as MEANING, without index_s."""
    found, before, private = {}, memory("VmRSS"), memory("Anonymous")
    start = time.process_time()
    index = read_index(db)
    order = ClassAware(index.labels, seed=1)
    order.draw(np.arange(BATCH))
    found["start_s"] = time.process_time() - start
    start = time.process_time()
    for first in range(0, RECORDS // BATCH * BATCH, BATCH):
        order.draw(np.arange(first, first + BATCH))
    found["draw_us"] = (time.process_time() - start) / (RECORDS // BATCH * BATCH) * 1e6
    found["memory_mb"] = memory("VmHWM") - before
    found["private_mb"] = memory("Anonymous") - private
    assert len(index) == RECORDS  # and it is still there, as in the layer
    return found


def make_index(db):
    start = time.process_time()
    read_index(db)
    return {"index_s": time.process_time() - start}


def in_new_process(function, db):
    done = subprocess.run(
        [sys.executable, __file__, "--only", function, db],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def report(rounds):
    """The lines of the table."""
    yield f"{RECORDS} records, {CLASSES} classes of {SMALLEST} to {LARGEST}"
    for name, what in MEANING.items():
        found = [result[name] for result in rounds if name in result]
        limit = LIMITS.get(name)
        verdict = (
            ""
            if limit is None
            else (f"   limit {limit}: {'kept' if statistics.median(found) < limit else 'MISSED'}")
        )
        yield (
            f"  {what:76} {statistics.median(found):8.3f}   "
            f"({min(found):.3f} to {max(found):.3f}){verdict}"
        )


def main():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--rounds", type=int, default=5, help="processes (default: 5)")
    flags.add_argument("--out", help="file for the table, besides the screen")
    flags.add_argument("--only", nargs=2, metavar=("FUNCTION", "DB"), help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.only:
        function, db = options.only
        print(json.dumps({"make_index": make_index, "measure": measure}[function](db)))
        return
    from benchmarks.data import hardware

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        write_database(folder)
        rounds = [in_new_process("make_index", folder)]
        rounds += [in_new_process("measure", folder) for _ in range(options.rounds)]
    text = "\n".join([*hardware(), "", *report(rounds)]) + "\n"
    print(text, end="")
    if options.out:
        Path(options.out).write_text(text)


if __name__ == "__main__":
    main()
