"""Record what BVLC Caffe's solvers compute, for tests/test_solver.py.

From the repository root, this engine first, then BVLC Caffe:

    PYTHONPATH=python .venv/bin/python tests/oracle/record_solvers.py write
    bash ../shared/oracle/run.sh python3 tests/oracle/record_solvers.py [OUT]

The first writes the snapshots in build/snapshots that the second continues from; that one writes
OUT/solvers.npz and OUT/solver_snapshots.npz (default OUT: tests/golden).
"""

import os
import sys
import tempfile

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

import golden  # noqa: E402
import solver_cases  # noqa: E402

SNAPSHOTS = os.path.join(os.path.dirname(TESTS), "build", "snapshots")


def write(folder):
    """Take this Caffe's snapshots."""
    os.makedirs(folder, exist_ok=True)
    for name in solver_cases.SNAPSHOTS:
        solver_cases.save_half(name, folder)
    print("%d snapshots in %s" % (len(solver_cases.SNAPSHOTS), folder))


def record(folder, out):
    """Record the cases; continue from the other engine's snapshots and from this one's."""
    with tempfile.TemporaryDirectory() as scratch:
        cases = {
            "%s/%s" % (name, key): array
            for name in solver_cases.CASES
            for key, array in solver_cases.run(name, scratch).items()
        }
        golden.save_arrays(os.path.join(out, "solvers.npz"), **cases)
        snapshots = {}
        for name in solver_cases.SNAPSHOTS:
            add(snapshots, "%s/theirs_continued" % name, solver_cases.go_on(name, folder))
            solver_cases.save_half(name, scratch)
            add(snapshots, "%s/own_continued" % name, solver_cases.go_on(name, scratch))
            for file in sorted(os.listdir(scratch)):
                if file.startswith("%s_iter_" % name):
                    data = np.fromfile(os.path.join(scratch, file), np.uint8)
                    snapshots["%s/file/%s" % (name, file)] = data
        golden.save_arrays(os.path.join(out, "solver_snapshots.npz"), **snapshots)


def add(arrays, prefix, more):
    arrays.update({"%s/%s" % (prefix, key): array for key, array in more.items()})


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write(SNAPSHOTS)
    else:
        record(SNAPSHOTS, sys.argv[1] if len(sys.argv) > 1 else golden.FOLDER)
