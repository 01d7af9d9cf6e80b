"""Record what BVLC Caffe's programs print, for tests/test_command.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_command.py [OUT.json]

with BVLC Caffe's programs on PATH (default OUT: tests/golden/command.json).
"""

import json
import os
import subprocess
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)

import caffe  # noqa: E402
import command_cases  # noqa: E402
import golden  # noqa: E402


def main(out):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        command_cases.write_files(folder, caffe)
        for name, words in command_cases.COMMANDS.items():
            done = subprocess.run(
                words,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
            )
            found[name] = command_cases.plain(done.stdout)
        found["features"] = command_cases.features(folder)
    golden.save_text(out, json.dumps(found, indent=0))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(golden.FOLDER, "command.json"))
