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


def main(out):
    path = os.path.join(out, "arrays.json")
    found = {name: case() for name, case in array_cases.CASES.items()}
    with open(path, "w") as file:
        json.dump(found, file, sort_keys=True)
        file.write("\n")
    print("%s: %d cases, %d bytes" % (path, len(found), os.path.getsize(path)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TESTS, "golden"))
