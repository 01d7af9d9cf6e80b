"""What a run folder holds to classify, export and explain its net without the data.

solver.prototxt    of a solver of one's own a copy, which names the net where it lies
train_val.prototxt one net where that solver names two, or holds its net
deploy.prototxt    the net from pixels minus mean, in the order of the records' channels, to prob
mean.binaryproto   what is subtracted: an image, or one pixel where it is a value per channel or
                   nothing, so that a lost file is not taken for nothing
classes.txt        the names of the classes
plan.svg           which loss trains which layers, where matplotlib is installed
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from caffe_plain.errors import reason
from caffe_plain.files import write_atomically

from . import flows, run_folder
from .errors import RelayError
from .evaluation.nets import prediction_layers, softmax_of
from .evaluation.preparation import Preparation, of_database
from .evaluation.validation_set import Feed, test_feed
from .planning.blueprint import graph_of, without_branches
from .planning.trunk import Trunk
from .relay_file import SCHEDULES, RelayParameter, schedule_name
from .run_plan import Plan

DEPLOY, MEAN, CLASSES, PLAN = "deploy.prototxt", "mean.binaryproto", "classes.txt", "plan.svg"


def write(caffe: Any, plan: Plan, solver: Any) -> str:
    """Write what the folder of a plan lacks of these files, as far as its net has them.

    caffe: the pycaffe module; solver: the plan's, whose test net tells the images' size. Returns a
    line that says why there is no picture of the plan, or "".
    """
    _write_solver(caffe.proto.caffe_pb2, plan)
    net = _with_stages(caffe.proto.caffe_pb2, plan)
    try:
        feed = test_feed(net)
        layers, scores = prediction_layers(caffe.proto.caffe_pb2, net)
    except RelayError:  # it reads no database, or scores no classes
        return ""
    shape = (solver.test_nets or [solver.net])[0].blobs[feed.layer.top[0]].shape[1:]
    _write_deploy(caffe.proto.caffe_pb2, plan, layers, scores, shape, feed.scale)
    _write_mean(caffe.proto.caffe_pb2, plan.run, feed, shape[0])
    names = os.path.join(os.path.dirname(feed.source), CLASSES)
    if os.path.exists(names):
        _copy(names, os.path.join(plan.run, CLASSES))
    if os.path.exists(os.path.join(plan.run, PLAN)):
        return ""
    try:
        _draw_plan(caffe, plan, list(shape))
    except Exception as error:  # of nets there are all kinds, and a picture never ends a training
        return f"{PLAN} is not drawn: {reason(error)}"
    return ""


def preparation_of(pb: Any, plan: Plan) -> Preparation | None:
    """How the images were made that the plan's net is tested on; None where no database tells."""
    try:
        return of_database(pb, test_feed(_with_stages(pb, plan)).source)
    except RelayError:
        return None


def _write_solver(pb: Any, plan: Plan) -> None:
    path = os.path.join(plan.run, "solver.prototxt")
    if os.path.exists(path):
        return
    solver = pb.SolverParameter()
    solver.CopyFrom(plan.solver)
    if solver.net:
        solver.net = os.path.abspath(solver.net)
    else:
        for field in ("net_param", "train_net", "train_net_param", "test_net", "test_net_param"):
            solver.ClearField(field)
        del solver.test_iter[1:], solver.test_state[1:]  # the net has one test
        solver.net = os.path.join(plan.run, "train_val.prototxt")
        run_folder.write(solver.net, plan.net)
    run_folder.write(path, solver)


def _with_stages(pb: Any, plan: Plan) -> Any:
    """The plan's NetParameter, with the stages of its tests."""
    net = pb.NetParameter()
    net.CopyFrom(plan.net)
    if plan.solver.test_state:
        net.state.stage.extend(plan.solver.test_state[0].stage)
    return net


def _write_deploy(
    pb: Any, plan: Plan, layers: list[Any], scores: str, shape: tuple[int, ...], scale: float
) -> None:
    """The layers over an Input of that shape, (C, H, W), which is scaled where the data are."""
    deploy, data = pb.NetParameter(name=plan.net.name), layers[0].bottom[0]
    source = deploy.layer.add(name=data, type="Input", top=[data])
    source.input_param.shape.add(dim=[1, *shape])
    if scale != 1:
        scaled = f"{data}_scaled"  # not in place: a second pass would scale again
        power = deploy.layer.add(name=scaled, type="Power", bottom=[data], top=[scaled])
        power.power_param.scale = scale
    deploy.layer.extend([*layers, softmax_of(pb, scores)])
    for layer in deploy.layer[2:] if scale != 1 else ():
        for names in (layer.bottom, layer.top):  # of a layer in place, too
            names[:] = [scaled if name == data else name for name in names]
    run_folder.write(os.path.join(plan.run, DEPLOY), deploy)


def _write_mean(pb: Any, run: str, feed: Feed, channels: int) -> None:
    path = os.path.join(run, MEAN)
    if feed.mean_file:
        _copy(feed.mean_file, path)
        return
    values = feed.mean_values or (0.0,)
    data = [*values] * (channels // len(values))
    blob = pb.BlobProto(num=1, channels=channels, height=1, width=1, data=data)
    write_atomically(path, blob.SerializeToString())


def _copy(source: str, path: str) -> None:
    """Copy a file, unless it is there: it is that of when the run began."""
    if not os.path.exists(path):
        shutil.copyfile(source, path + ".tmp")
        os.replace(path + ".tmp", path)


def _draw_plan(caffe: Any, plan: Plan, size: list[int]) -> None:
    try:
        from .planning import picture  # needs matplotlib, which a training does not
    except ImportError:
        return
    net, relay = plan.net, plan.relay
    if run_folder.STANDARD_STAGE in plan.solver.train_state.stage:
        net = without_branches(caffe.proto.caffe_pb2, net)
    relay = relay if relay is not None else RelayParameter(schedule=SCHEDULES.index("JOINT"))
    graph = graph_of(caffe, net, size)
    planned = flows.plan(graph.net, relay, net, plan.relay_path or plan.name)
    path = os.path.join(plan.run, PLAN)
    picture.draw_svg(net.name or plan.name, Trunk(graph), planned, schedule_name(relay), path)
