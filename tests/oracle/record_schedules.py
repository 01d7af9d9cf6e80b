"""Record how BVLC Caffe trains under each schedule, with the project's own driver.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_schedules.py [OUT.npz]

Default OUT.npz: tests/golden/schedules.npz. CAFFE_ROOT, if not set, is where Python finds caffe.
"""

import importlib.util
import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault(
    "CAFFE_ROOT", os.path.dirname(os.path.dirname(importlib.util.find_spec("caffe").origin))
)
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]
sys.path.append(os.path.join(ROOT, "python"))  # for caffe_plain; caffe is found before it

import numpy as np  # noqa: E402

import golden  # noqa: E402
import schedule_cases  # noqa: E402
from relaybp import engines  # noqa: E402


def main(out):
    caffe = engines.load().caffe
    recorded = {}
    for name in schedule_cases.CASES:
        with tempfile.TemporaryDirectory() as folder:
            for key, array in schedule_cases.result(caffe, name, folder).items():
                recorded[f"{name}/{key}"] = array.astype(np.float32)
    golden.save_arrays(out, **recorded)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(golden.FOLDER, "schedules.npz"))
