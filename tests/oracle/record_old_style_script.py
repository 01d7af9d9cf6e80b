"""Record what BVLC Caffe computes in tests/old_style_script.py, for tests/test_old_style_script.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_old_style_script.py

writes tests/golden/old_style_script.npz.
"""

import os
import shutil
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

import golden  # noqa: E402
import old_style_script  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        old_style_script.main(folder)
        golden.enter(
            shutil.copy(
                os.path.join(folder, "found.npz"),
                os.path.join(golden.FOLDER, "old_style_script.npz"),
            )
        )
