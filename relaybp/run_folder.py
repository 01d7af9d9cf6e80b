"""A run's folder: the solver, net and relay file that it uses, its log and snapshots.

The files are ordinary Caffe files: `caffe train -solver RUN/solver.prototxt` runs the same net.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from google.protobuf import text_format

from caffe_plain.database import data_file, open_database
from caffe_plain.errors import nearest
from caffe_plain.files import write_atomically
from caffe_plain.phases import TEST, layers_of, state_of
from caffe_plain.settings import apply_setting

from .errors import RelayError

STANDARD_STAGE = "standard"  # the stage that drops the auxiliary branches


def compose(
    pb: Any,
    model: str,
    method: str,
    run: str,
    data: str | None = None,
    settings: Sequence[str] = (),
    batch: int | None = None,
    crop: int | None = None,
) -> tuple[Any, Any]:
    """The SolverParameter and NetParameter of a run in folder `run`; nothing is written.

    pb: caffe_pb2; model: folder with solver and train_val; data: folder with train_lmdb, val_lmdb,
    mean.binaryproto and classes.txt that replaces the net's `data/`; settings: "field=value" for
    the solver.
    """
    solver = read(os.path.join(model, "solver.prototxt"), pb.SolverParameter())
    net = read(os.path.join(model, "train_val.prototxt"), pb.NetParameter())
    if data:
        point_at(net, data)
    resize(pb, net, batch, crop)
    if data:
        set_classes(net, count_classes(data))
        set_test_length(solver, net)
    if method == "STANDARD":
        for state in [solver.train_state, *(solver.test_state.add() for _ in solver.test_iter)]:
            state.stage.append(STANDARD_STAGE)
    solver.net = os.path.join(run, "train_val.prototxt")
    solver.snapshot_prefix = os.path.join(run, os.path.basename(solver.snapshot_prefix) or "model")
    for setting in settings:
        apply_setting(solver, setting, "--set")
    return solver, net


def save(run: str, solver: Any, net: Any, relay: Any = None) -> str:
    """Write the solver, net and relay file of a run; return the solver's path."""
    os.makedirs(run, exist_ok=True)
    write(solver.net, net)
    if relay is not None:
        write(os.path.join(run, "relay.prototxt"), relay)
    path = os.path.join(run, "solver.prototxt")
    write(path, solver)
    return path


def newest_state(prefix: str) -> str | None:
    """The solverstate of the highest iteration whose weights are there too; None without one.

    prefix: the solver's snapshot_prefix.
    """
    found = {}
    for path in glob.glob(glob.escape(prefix) + "_iter_*.solverstate*"):
        match = re.fullmatch(r"_iter_(\d+)\.solverstate(\.h5)?", path[len(prefix) :])
        stem = path[: path.rindex(".solverstate")]
        if match and any(os.path.exists(stem + end) for end in (".caffemodel", ".caffemodel.h5")):
            found[int(match[1])] = path
    return found[max(found)] if found else None


def read(path, message):
    """A text-format message from a file."""
    if not os.path.exists(path):
        raise RelayError(f"{path}: no such file")
    try:
        with open(path, encoding="utf-8") as file:
            return text_format.Merge(file.read(), message)
    except text_format.ParseError as error:
        raise RelayError(f"{path}: {error}{_hint(message, str(error))}") from None


def _hint(message: Any, error: str) -> str:
    """The nearest names where the error is an unknown field."""
    found = re.search(r'type "([\w.]+)" has no field named "(\w+)"', error)
    if not found:
        return ""
    kind = message.DESCRIPTOR.file.pool.FindMessageTypeByName(found[1])
    return " " + nearest(found[2], kind.fields_by_name)


def write(path, message):
    """Write a text-format message whole or not at all."""
    write_atomically(path, text_format.MessageToString(message))


def data_layers(net):
    """The Data layers of a NetParameter."""
    return [layer for layer in net.layer if layer.type == "Data"]


def test_data_layers(net: Any) -> list[Any]:
    """The Data layers of a NetParameter's TEST net."""
    return [layer for layer in layers_of(net, state_of(net, TEST)) if layer.type == "Data"]


def point_at(net, data):
    """Make every `data/...` path of the Data layers a path below `data`."""
    for layer in data_layers(net):
        source = os.path.join(data, os.path.basename(layer.data_param.source))
        if not os.path.exists(data_file(source)):
            raise RelayError(
                f"DATA={data}: layer {layer.name!r} needs the database {source}; "
                "make it with data_prep/convert_imageset.py"
            )
        layer.data_param.source = source
        if layer.transform_param.mean_file:
            mean = os.path.join(data, os.path.basename(layer.transform_param.mean_file))
            if not os.path.exists(mean):
                raise RelayError(
                    f"DATA={data}: layer {layer.name!r} needs {mean}; make it with "
                    "data_prep/compute_image_mean.py"
                )
            layer.transform_param.mean_file = mean


def resize(pb, net, batch, crop):
    """Change the batch and crop sizes; the test batch is at most the train batch."""
    for layer in data_layers(net):
        if batch:
            layer.data_param.batch_size = batch
        if crop:
            layer.transform_param.crop_size = crop


def count_classes(data):
    """The number of lines in DATA/classes.txt, None without that file."""
    path = os.path.join(data, "classes.txt")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return sum(1 for line in file if line.strip())


def set_classes(net, classes):
    """Give the InnerProduct (or Convolution) under every SoftmaxWithLoss `classes` outputs."""
    if classes is None:
        return
    scores = {layer.bottom[0] for layer in net.layer if layer.type == "SoftmaxWithLoss"}
    for layer in net.layer:
        if scores.intersection(layer.top):
            if layer.type == "InnerProduct":
                layer.inner_product_param.num_output = classes
            elif layer.type == "Convolution":
                layer.convolution_param.num_output = classes
    for layer in net.layer:
        if layer.type == "Accuracy" and layer.accuracy_param.top_k > classes:
            layer.accuracy_param.top_k = classes


def set_test_length(solver: Any, net: Any) -> None:
    """Let a test pass see every record of the validation database about once."""
    tests = test_data_layers(net)
    if len(tests) != 1 or len(solver.test_iter) != 1:
        return
    with closing(open_database(tests[0].data_param.source)) as environment:
        records = environment.stat()["entries"]
    solver.test_iter[0] = max(1, -(-records // tests[0].data_param.batch_size))
