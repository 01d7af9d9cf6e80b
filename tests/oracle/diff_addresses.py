"""The addresses of BVLC Caffe's diffs after each flow, and the memory each method takes to train.

    bash ../shared/oracle/run.sh python3 tests/oracle/diff_addresses.py MODEL FOLDER

Prints JSON: {"addresses": [{blob: address} after each flow], "peak_bytes": of the process}. MODEL
with its suffix; FOLDER is for files.
"""

import importlib.util
import json
import os
import resource
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault(
    "CAFFE_ROOT", os.path.dirname(os.path.dirname(importlib.util.find_spec("caffe").origin))
)
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]
sys.path.append(os.path.join(ROOT, "python"))  # for caffe_plain; caffe is found before it

import relay_cases  # noqa: E402
from relaybp import engines, flows  # noqa: E402


def main(model, folder):
    engine = engines.load()
    relay_cases.CASES[model] = (model, None)
    path, relay, param = relay_cases.prepare(engine.caffe, model, folder)
    solver = engine.make_solver(path)
    net = solver.net
    relay_cases.fill(net)
    planned = relay and flows.plan(net, relay, param)

    def iterate(runs, after_flow):
        net.clear_param_diffs()
        net._forward(0, len(net.layers) - 1)
        for run in runs:
            run()
            after_flow()
        solver.apply_update()

    iterate([engine.backward(net, planned)], lambda: None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    addresses = []
    iterate(
        [engine.backward(net, [flow]) for flow in planned or ()],
        lambda: addresses.append(
            {name: blob.diff.__array_interface__["data"][0] for name, blob in net.blobs.items()}
        ),
    )
    print(json.dumps({"addresses": addresses, "peak_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
