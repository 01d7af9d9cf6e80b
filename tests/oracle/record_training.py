"""Record the losses with which BVLC Caffe trains the nets of tests/training_cases.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_training.py

writes tests/golden/training.npz: NET holds the losses, NET/disturbed those that start with every
weight changed by a relative TINY: how far rounding alone can lead.
"""

import os
import sys
import tempfile

os.environ.setdefault("GLOG_minloglevel", "2")

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import golden  # noqa: E402
import training_cases  # noqa: E402

TINY = 1e-7  # what single precision can tell apart


def main():
    recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        training_cases.write_databases(folder)
        for name in training_cases.CASES:
            recorded[name] = training_cases.losses(name, folder)
            disturbed = training_cases.losses(name, folder, TINY)
            recorded[name + "/disturbed"] = disturbed
            print(name, recorded[name][[0, 19, -1]].ravel(), flush=True)
    golden.save_arrays(os.path.join(golden.FOLDER, "training.npz"), **recorded)


if __name__ == "__main__":
    main()
