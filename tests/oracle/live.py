"""Record everything again from a live BVLC Caffe and run the test suite on the results.

    ORACLE_RUN="bash ../shared/oracle/run.sh" make oracle-test

Runs in build/live, a copy of the files that git tracks; the recordings in tests/golden stay as
they are. Arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bvlc_caffe

ROOT = Path(__file__).resolve().parents[2]
LIVE = ROOT / "build" / "live"


def main(pytest_arguments):
    if not bvlc_caffe.prefix():
        sys.exit(
            "ORACLE_RUN must say how to run a command with BVLC Caffe, for instance "
            'ORACLE_RUN="bash ../shared/oracle/run.sh"'
        )
    copy_tree()
    record()
    return run_here(
        "-m", "pytest", "-p", "no:cacheprovider", "--ignore", "tests/oracle", *pytest_arguments
    )


def copy_tree():
    """Copy the tracked files, as they are now, to LIVE."""
    shutil.rmtree(LIVE, ignore_errors=True)
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, text=True, capture_output=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (LIVE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, LIVE / name)


def record():
    """Run every recorder in LIVE; a recording that none of them makes is an error."""
    golden = LIVE / "tests" / "golden"
    given = set(golden.rglob("*.old.prototxt"))  # written by hand
    for path in golden.rglob("*"):
        if path.is_file() and path not in given:
            os.utime(path, (0, 0))
    run_here("tests/oracle/record_solvers.py", "write")
    for script in sorted(LIVE.glob("tests/oracle/record_*.py")):
        start = time.monotonic()
        bvlc_caffe.run(LIVE, "python3", f"tests/oracle/{script.name}")
        print(f"{script.name}: {time.monotonic() - start:.0f} s", flush=True)
    left = [str(path) for path in golden.rglob("*") if path.is_file() and not path.stat().st_mtime]
    if left:
        sys.exit(f"no tests/oracle/record_*.py writes {left}")


def run_here(*arguments):
    """Run this Python in LIVE, with the copy's engine; its exit status."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=LIVE, env={**os.environ, "PYTHONPATH": "python:."}
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
