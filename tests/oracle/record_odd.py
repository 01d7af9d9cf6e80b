"""Record what odd values and edits do, for tests/test_odd_values.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_odd.py [OUT]

writes OUT/odd.json (default OUT: tests/golden).
"""

import json
import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

import golden  # noqa: E402
import odd_cases  # noqa: E402


def can_read(text):
    """Whether BVLC Caffe builds the net; if not, it aborts its process."""
    child = os.fork()
    if not child:
        odd_cases.net(text, force=False)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main(out):
    found = {name: case() for name, case in odd_cases.CASES.items()}
    found["spellings"] = [can_read(text) for text in odd_cases.spellings()]
    golden.save_text(os.path.join(out, "odd.json"), json.dumps(found, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else golden.FOLDER)
