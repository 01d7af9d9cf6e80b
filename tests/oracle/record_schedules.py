"""Record how BVLC Caffe trains under each schedule, with the project's own driver.

From the repository root, under BVLC Caffe's Python:

    CAFFE_ROOT=/usr/lib/python3/dist-packages python3 tests/oracle/record_schedules.py OUT.npz
"""

import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

import numpy as np  # noqa: E402

import schedule_cases  # noqa: E402
from relaybp import engine  # noqa: E402


def main(out):
    caffe = engine.load()
    recorded = {}
    for name in schedule_cases.CASES:
        with tempfile.TemporaryDirectory() as folder:
            for key, array in schedule_cases.result(caffe, name, folder).items():
                recorded[f"{name}/{key}"] = array.astype(np.float32)
    np.savez_compressed(out, **recorded)
    print("%d arrays of %d cases in %s" % (len(recorded), len(schedule_cases.CASES), out))


if __name__ == "__main__":
    main(sys.argv[1])
