"""What relaybp.attach does with one of BVLC Caffe's own solvers.

    bash ../shared/oracle/run.sh python3 tests/oracle/attach_steps.py FOLDER

FOLDER is for files. Prints JSON: for each schedule the weights after five steps, and the same by
the schedule alone; then runs the example in relaybp/README.md.
"""

import importlib.util
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault(
    "CAFFE_ROOT", os.path.dirname(os.path.dirname(importlib.util.find_spec("caffe").origin))
)
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]
sys.path.append(os.path.join(ROOT, "python"))  # for caffe_plain; caffe is found before it

import caffe  # noqa: E402
import schedule_cases  # noqa: E402
from nets import AUXILIARY  # noqa: E402
from readme_code import example  # noqa: E402
from relaybp import relay_file  # noqa: E402


def main(folder):
    found = {}
    for text in schedule_cases.ATTACHED:
        message = relay_file.parse_relay(text)
        relay = schedule_cases.attach(caffe, folder, message, AUXILIARY)
        relay.step(5)
        solver, schedule = schedule_cases.make(caffe, folder, text, AUXILIARY)
        schedule_cases.run(solver, schedule, 5)
        found[text] = [as_lists(relay.net), as_lists(solver.net)]
    os.chdir(folder)
    names = {}
    exec(example(), names)
    print(json.dumps([found, names["relay"].iter]))


def as_lists(net):
    return {name: array.tolist() for name, array in schedule_cases.arrays(net).items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
