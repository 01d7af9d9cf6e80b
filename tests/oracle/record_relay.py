"""Record what BVLC Caffe computes for the relay cases, with the project's own driver.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_relay.py [OUT.npz]

Default OUT.npz: tests/golden/relay.npz: for each case the losses and blobs by name, and a row of
numbers for each blob. CAFFE_ROOT, if not set, is where Python finds caffe.
"""

import importlib.util
import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault(
    "CAFFE_ROOT", os.path.dirname(os.path.dirname(importlib.util.find_spec("caffe").origin))
)
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]
sys.path.append(os.path.join(ROOT, "python"))  # for caffe_plain; caffe is found before it

import numpy as np  # noqa: E402

import golden  # noqa: E402
import relay_cases  # noqa: E402
from relaybp import engines  # noqa: E402


def main(out):
    caffe = engines.load().caffe
    folder = os.path.join(ROOT, "build", "record_relay")
    os.makedirs(folder, exist_ok=True)
    recorded, count = {}, 0
    for name in relay_cases.CASES:
        gradients, losses = relay_cases.gradients(caffe, name, folder)
        recorded[f"{name}/losses"] = np.array(sorted(losses))
        recorded[f"{name}/loss"] = np.float32([losses[key] for key in sorted(losses)])
        recorded[f"{name}/blobs"] = np.array(sorted(gradients))
        recorded[f"{name}/digests"] = np.float32(
            [relay_cases.digest(gradients[key]) for key in sorted(gradients)]
        )
        count += len(gradients)
    shutil.rmtree(folder)
    golden.save_arrays(out, **recorded)
    print("%d blobs of %d cases" % (count, len(relay_cases.CASES)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(golden.FOLDER, "relay.npz"))
