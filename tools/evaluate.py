#!/usr/bin/env python3
"""Test a run's newest snapshot: python tools/evaluate.py runs/resnet50_relay-... [--weights W]"""

import argparse
import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from relaybp import engine, run_folder  # noqa: E402
from relaybp.errors import RelayError  # noqa: E402
from relaybp.trainer import average_outputs, top_errors  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a folder that a training run made")
    parser.add_argument("--weights", help="a .caffemodel; default: the run's newest")
    parser.add_argument("--gpu", default="auto", help="auto, none, or a GPU index")
    args = parser.parse_args()
    try:
        evaluate(engine.load(), args)
    except (RelayError, getattr(sys.modules.get("caffe"), "CaffeError", RelayError)) as error:
        sys.exit(f"evaluate: {error}")


def evaluate(caffe, args):
    engine.use_device(caffe, args.gpu)
    pb = caffe.proto.caffe_pb2
    solver = run_folder.read(os.path.join(args.run, "solver.prototxt"), pb.SolverParameter())
    weights = args.weights or newest_snapshot(args.run)
    net = caffe.Net(solver.net, caffe.TEST, weights=weights)
    means = average_outputs(net, solver.test_iter[0])
    images = solver.test_iter[0] * next(iter(net.blobs.values())).shape[0]
    for name, mean in means.items():
        print(f"{name} {mean.mean():.4f}")
    errors = top_errors(run_folder.read(solver.net, pb.NetParameter()), means)
    print("%s: %s on %d images" % (weights, ", ".join(
        "top-%d error %.2f %%" % item for item in sorted(errors.items())), images))


def newest_snapshot(run):
    """The .caffemodel of the highest iteration in a run's folder."""
    found = glob.glob(os.path.join(run, "*_iter_*.caffemodel"))
    if not found:
        raise RelayError(f"{run}: no snapshot (*_iter_N.caffemodel) there; give --weights")
    return max(found, key=lambda path: int(re.search(r"_iter_(\d+)", path).group(1)))


if __name__ == "__main__":
    main()
