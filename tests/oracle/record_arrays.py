"""Record what scripts see that hold and reshape arrays, for tests/test_arrays.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_arrays.py [OUT]

writes OUT/arrays.json (default OUT: tests/golden).
"""

import json
import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

import array_cases  # noqa: E402
import golden  # noqa: E402


def main(out):
    found = {name: case() for name, case in array_cases.CASES.items()}
    golden.save_text(os.path.join(out, "arrays.json"), json.dumps(found, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else golden.FOLDER)
