#!/usr/bin/env python3
"""The cost of single pycaffe calls, here and in another Caffe.

    python benchmarks/pycaffe_calls.py
    python benchmarks/pycaffe_calls.py --beside "bash ../shared/oracle/run.sh python3"

Prints the microseconds of each call: the least over repeated runs, on one thread. A small net of
5 layers shows what a call costs besides its arithmetic, and the net's operators called directly
what no call of that net can go below; CaffeNet's first convolution shows what moving large arrays
in and out costs. `--beside` names a command that runs a script so that `import caffe` is another
Caffe; both are then measured in turns and the ratio is printed.
"""

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import timeit

SMALL = """
input: "x" input_shape { dim: 1 dim: 4 }
layer { name: "fc1" type: "InnerProduct" bottom: "x" top: "fc1"
        inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "fc1" top: "fc1" }
layer { name: "fc2" type: "InnerProduct" bottom: "fc1" top: "fc2"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }
"""
LOSS = """
input: "label" input_shape { dim: 1 }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc2" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "%s" type: "SGD" base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005
max_iter: 1000000000 display: 0 snapshot_prefix: "unused"
"""
LARGE = """
input: "data" input_shape { dim: 10 dim: 3 dim: 227 dim: 227 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 96 kernel_size: 11 stride: 4
                            weight_filler { type: "gaussian" std: 0.01 } } }
"""
CALLS = (
    "net.forward()",
    "net._forward(0, 4)",
    "net.forward(x=x)",
    "net.forward()['prob'][0, 1]",
    "net.blobs",
    "net.blobs['x'].data",
    "net.blobs['x'].diff",
    "net.params['fc1'][0].data",
    "train.forward()",
    "train.backward()",
    "solver.step(1)",
)
ROUNDS = 3  # of the two Caffes in turn


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--beside", help="a command that runs a script on another Caffe")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    args = parser.parse_args()
    if args.json or not args.beside:
        found = measure()
        print(json.dumps(found) if args.json else report(found))
        return
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(in_process([sys.executable], os.environ))
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        theirs.append(in_process(shlex.split(args.beside), env))
    print(report(least(mine), least(theirs)))


def in_process(command, env):
    """The figures of a process of its own."""
    env = dict(env, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    command = [*command, os.path.relpath(__file__), "--json"]
    printed = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(printed.decode().splitlines()[-1])


def least(runs):
    return {call: min(run[call] for run in runs) for call in runs[0]}


def report(mine, theirs=None):
    """A line for each call, with the ratio where there is something to compare with."""
    lines = ["%-42s %10s" % ("call", "us") + ("%10s %6s" % ("other", "ratio") if theirs else "")]
    for call, us in mine.items():
        line = "%-42s %10.2f" % (call, us)
        if theirs and call in theirs:
            line += "%10.2f %6.1f" % (theirs[call], us / theirs[call])
        lines.append(line)
    return "\n".join(lines)


def measure():
    """{call: microseconds}."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    import numpy as np

    import caffe

    solver = trainer(caffe)
    large = load(caffe, LARGE)
    images = np.random.rand(*large.blobs["data"].data.shape).astype(np.float32)
    x = np.random.rand(1, 4).astype(np.float32)
    solver.net.blobs["x"].data[...] = x
    names = {"net": load(caffe, SMALL), "x": x, "train": solver.net, "solver": solver}
    names.update(large=large, images=images)
    found = {call: per_call(call, names) for call in CALLS}
    fill, read = "large.blobs['data'].data[...] = images", "large.blobs['conv1'].data.copy()"
    found["fill an input of 10 x 3 x 227 x 227"] = after_forward(fill, names)
    found["copy a top of 10 x 96 x 55 x 55"] = after_forward(read, names)
    with contextlib.suppress(ImportError):  # another Caffe comes without PyTorch
        found.update(floors(names["net"]))
    return found


def floors(net):
    """What the small net's operators take without a Caffe, in PyTorch and in numpy."""
    import numpy as np
    import torch
    from torch.nn.functional import linear

    arrays = [net.blobs["x"].data, *(b.data for name in ("fc1", "fc2") for b in net.params[name])]
    x, w1, b1, w2, b2 = (torch.from_numpy(array.copy()) for array in arrays)

    def in_torch():
        return torch.softmax(linear(linear(x, w1, b1).relu_(), w2, b2), 1)

    nx, nw1, nb1, nw2, nb2 = (array.copy() for array in arrays)

    def in_numpy():
        y = nx @ nw1.T
        y += nb1
        z = np.maximum(y, 0, out=y) @ nw2.T
        z += nb2
        z -= z.max(1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(1, keepdims=True)
        return z

    np.testing.assert_allclose(in_torch().numpy(), in_numpy(), rtol=1e-5)
    names = {"in_torch": in_torch, "in_numpy": in_numpy}
    return {
        "the net's four operators in PyTorch": per_call("in_torch()", names),
        "the same in numpy": per_call("in_numpy()", names),
    }


def trainer(caffe):
    """An SGD solver of the small net with a loss, which has made a step."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        paths = [os.path.join(folder, name) for name in ("net.prototxt", "solver.prototxt")]
        for path, text in zip(paths, (SMALL + LOSS, SOLVER % paths[0])):
            with open(path, "w") as file:
                file.write(text)
        solver = caffe.SGDSolver(paths[1])
    solver.step(1)
    return solver


def load(caffe, prototxt):
    """A net in the TEST phase that has run once."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt", dir=".") as file:
        file.write(prototxt)
        file.flush()
        net = caffe.Net(file.name, caffe.TEST)
    net.forward()
    return net


def per_call(statement, names):
    """Microseconds of a call that is repeated."""
    timer, number = timeit.Timer(statement, globals=names), 200
    return 1e6 * min(timer.repeat(100, number)) / number


def after_forward(statement, names):
    """Microseconds of a call that is made once after each forward pass of the large net."""
    timer = timeit.Timer(statement, "large.forward()", globals=names)
    return 1e6 * min(timer.repeat(7, 1))


if __name__ == "__main__":
    main()
