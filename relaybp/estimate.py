"""How long a schedule takes on this machine, told before it begins."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from caffe_plain.phases import TRAIN

from . import run_folder
from .identity import of_batch
from .planning.blueprint import clear_fillers
from .prototxt import count
from .run_files import DEPLOY
from .run_plan import Plan

LITTLE = 10**15  # multiply-adds and additions of a schedule that is worth no measurement
BACKWARD = 2  # how many times as long as forward
BATCH, PASSES = 4, 3  # of the measurement
YEAR = 365.25 * 86400  # seconds
UNITS = (("years", YEAR), ("months", YEAR / 12), ("days", 86400), ("hours", 3600), ("minutes", 60))


def warning(caffe: Any, plan: Plan) -> str:
    """A line that says how long the schedule of a plan takes on the CPU; "" where it is short.

    caffe: the pycaffe module, computing on the CPU; the run's folder must hold its deploy net.
    """
    iterations, batch = plan.solver.max_iter, of_batch(plan.solver, plan.net)
    images = iterations * batch
    path = os.path.join(plan.run, DEPLOY)
    if not plan.of_model or not os.path.exists(path):
        return ""
    deploy = run_folder.read(path, caffe.proto.caffe_pb2.NetParameter())
    if 2 * (1 + BACKWARD) * _multiply_adds(plan) * images < LITTLE:
        return ""
    seconds = (1 + BACKWARD) * _forward_seconds(caffe, deploy) * images
    return (
        f"NOTE: {iterations:,} iterations of {batch} images take about {rounded(seconds)} on this "
        "CPU; PROFILE=short is a trial of minutes"
    )


def _multiply_adds(plan: Plan) -> float:
    """Of an image's forward pass."""
    batch = of_batch(plan.solver, plan.net) // plan.solver.iter_size
    stages = plan.solver.train_state.stage
    return count.multiply_adds(count.walk(plan.net, TRAIN, *stages[:1])) / max(batch, 1)


def _forward_seconds(caffe: Any, deploy: Any) -> float:
    """The seconds of an image's forward pass, measured."""
    deploy.layer[0].input_param.shape[0].dim[0] = BATCH
    for layer in deploy.layer:
        clear_fillers(layer)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, DEPLOY)
        run_folder.write(path, deploy)
        net = caffe.Net(path, caffe.TEST)
    return min(_seconds(net) for _ in range(PASSES)) / BATCH


def _seconds(net: Any) -> float:
    begun = time.perf_counter()
    net._forward(0, len(net.layers) - 1)
    return time.perf_counter() - begun


def rounded(seconds: float) -> str:
    """A long time in words, in the largest unit of which it has two."""
    for name, length in UNITS:
        if seconds >= 2 * length or name == "minutes":
            break
    return f"{max(round(seconds / length), 1):,} {name}"
