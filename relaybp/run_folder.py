"""A run's folder: the solver, net and relay file that it uses, its log and snapshots.

The files are ordinary Caffe files: `caffe train -solver RUN/solver.prototxt` runs the same net.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from google.protobuf import text_format

from caffe_plain.class_names import read_class_names
from caffe_plain.database import count_records, data_file
from caffe_plain.errors import nearest
from caffe_plain.extra import POLICIES, ExtraParameter
from caffe_plain.files import write_atomically
from caffe_plain.phases import TEST, layers_of, state_of
from caffe_plain.python_layers import admit
from caffe_plain.settings import apply_setting

from .cli import spelled
from .data_layers import DataLayer, choose_feed, data_layers, feed_of
from .data_prep.colour_order import check_colour_orders
from .errors import RelayError
from .means import fit_means, set_channel_means

STANDARD_STAGE = "standard"  # the stage that drops the auxiliary branches
EXTRA = "extra.prototxt"
OR_WITHOUT = ", or leave the colour shift out with --scene color_file="


def compose(
    pb: Any,
    model: str,
    method: str,
    run: str,
    data: str | None = None,
    settings: Sequence[str] = (),
    batch: int | None = None,
    crop: int | None = None,
    feed: str | None = None,
    scene: Sequence[str] = (),
) -> tuple[Any, Any, Any, list[str]]:
    """The SolverParameter, NetParameter and ExtraParameter of a run, and what a user should know.

    pb: caffe_pb2; model: folder with such files; method: STANDARD, JOINT or RELAY; run: its folder;
    data: folder that replaces the net's `data/`, as data_prep/README.md describes it; settings:
    "field=value" for the solver; batch, crop: see `resize`; feed: see `choose_feed`; scene:
    "field=value" for the SceneData layers. A plateau, or early stopping, that does not say what it
    observes observes the top-1 error of the test net, as the papers' "when the error plateaus" is
    read here.
    """
    solver = read(os.path.join(model, "solver.prototxt"), pb.SolverParameter())
    extra = read_extra(extra_of(model))
    net = read(os.path.join(model, "train_val.prototxt"), pb.NetParameter())
    choose_feed(net, feed)
    set_scene(net, scene)
    if data:
        point_at(net, data)
        if feed == "data":
            set_channel_means(pb, net, os.path.join(data, "mean.binaryproto"))
    resize(net, batch, crop)
    notes = fit_means(pb, net, crop) if data else []
    if data:
        check_colour_orders(layer.get("source") for layer in data_layers(net.layer))
        set_classes(net, count_classes(data))
        set_test_length(solver, net)
    if method == "STANDARD":
        for state in [solver.train_state, *(solver.test_state.add() for _ in solver.test_iter)]:
            state.stage.append(STANDARD_STAGE)
    solver.net = os.path.join(run, "train_val.prototxt")
    solver.snapshot_prefix = os.path.join(run, os.path.basename(solver.snapshot_prefix) or "model")
    for setting in settings:
        set_solver(solver, extra, setting)
    observes = extra.lr_policy == "plateau" or extra.early_stopping
    if observes and not extra.plateau_output:
        extra.plateau_output = error_output(net)
    return solver, net, extra, notes


def save(run: str, solver: Any, net: Any, extra: Any, relay: Any = None) -> str:
    """Write the messages of a run as files, empty ones not; return the solver's path."""
    os.makedirs(run, exist_ok=True)
    write(solver.net, net)
    if extra.ListFields():
        write(os.path.join(run, EXTRA), extra)
    if relay is not None:
        write(os.path.join(run, "relay.prototxt"), relay)
    path = os.path.join(run, "solver.prototxt")
    write(path, solver)
    return path


def read(path: str, message: Any) -> Any:
    """A text-format message from a file; its Python layers name only modules that they may.

    Raises RelayError for what cannot be read, and PythonLayerError.
    """
    if not os.path.exists(path):
        raise RelayError(f"{path}: no such file")
    try:
        with open(path, encoding="utf-8") as file:
            text_format.Merge(file.read(), message)
    except text_format.ParseError as error:
        raise RelayError(f"{path}: {error}{_hint(message, str(error))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RelayError(f"{path}: not a readable text file: {error}") from None
    for net in _nets(message):
        admit(net, path)
    return message


def _nets(message: Any) -> list[Any]:
    """The NetParameters that a message is or holds."""
    if message.DESCRIPTOR.name == "NetParameter":
        return [message]
    if message.DESCRIPTOR.name == "SolverParameter":
        return [message.net_param, message.train_net_param, *message.test_net_param]
    return []


def _hint(message: Any, error: str) -> str:
    """The nearest names where the error is an unknown field."""
    found = re.search(r'type "([\w.]+)" has no field named "(\w+)"', error)
    if not found:
        return ""
    kind = message.DESCRIPTOR.file.pool.FindMessageTypeByName(found[1])
    return " " + nearest(found[2], kind.fields_by_name)


def write(path: str, message: Any) -> None:
    """Write a text-format message whole or not at all; a file that holds it already is left."""
    text = text_format.MessageToString(message)
    if not _holds(path, text):
        write_atomically(path, text)


def _holds(path: str, text: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8") as file:
        return file.read() == text


def test_data_layers(net: Any) -> list[Any]:
    """The Data and SceneData layers of a NetParameter's TEST net, as LayerParameters."""
    return [layer for layer in layers_of(net, state_of(net, TEST)) if feed_of(layer)]


def extra_of(folder: str) -> str | None:
    """The path of a folder's extra.prototxt, if it has one."""
    path = os.path.join(folder, EXTRA)
    return path if os.path.exists(path) else None


def read_extra(path: str | None) -> Any:
    """The ExtraParameter of a file; None: an empty one."""
    return read(path, ExtraParameter()) if path else ExtraParameter()


def set_solver(solver: Any, extra: Any, setting: str) -> None:
    """Set "field=value" in the SolverParameter, or in what an ExtraParameter adds to it."""
    field, _, value = setting.partition("=")
    first, second = solver, extra
    if field == "lr_policy":
        extra.ClearField(field)
    if value in POLICIES if field == "lr_policy" else field in extra.DESCRIPTOR.fields_by_name:
        first, second = extra, solver
    apply_setting(first, setting, "--set", second)


def error_output(net: Any) -> str:
    """The top of the TEST net's last Accuracy with the least top_k; "" if there is none."""
    found = [layer for layer in layers_of(net, state_of(net, TEST)) if layer.type == "Accuracy"]
    found.sort(key=lambda layer: -layer.accuracy_param.top_k)  # stable
    return found[-1].top[0] if found else ""


def set_scene(net: Any, settings: Sequence[str]) -> None:
    """Set "field=value" in the param_str of every SceneData layer."""
    scenes = [layer for layer in data_layers(net.layer) if layer.is_scene]
    if settings and not scenes:
        raise RelayError(
            f"{spelled('--scene', settings[0])}: net {net.name!r} has no SceneData layer; "
            f"{spelled('--feed', 'scene')} puts one in the place of its Data layer"
        )
    for layer in scenes:
        for setting in settings:
            if setting.partition("=")[0] in ("source", "batch_size"):
                raise RelayError(
                    f"{spelled('--scene', setting)}: {spelled('--data')} and --batch say it"
                )
            layer.apply(setting, "--scene")


def point_at(net: Any, data: str) -> None:
    """Make every `data/...` path of the data layers a path below `data`."""
    for layer in data_layers(net.layer):
        source = os.path.join(data, os.path.basename(layer.get("source")))
        if not os.path.exists(data_file(source)):
            raise RelayError(
                f"DATA={data}: layer {layer.name!r} needs the database {source}; "
                "make it with data_prep/convert_imageset.py"
            )
        layer.set("source", source)
        for field, tool in (("mean_file", "compute_image_mean"), ("color_file", "color_pca")):
            if not layer.get(field):
                continue
            path = os.path.join(data, os.path.basename(layer.get(field)))
            if not os.path.exists(path):
                raise RelayError(
                    f"DATA={data}: layer {layer.name!r} needs {path}; make it with "
                    f"data_prep/{tool}.py{OR_WITHOUT if field == 'color_file' else ''}"
                )
            layer.set(field, path)


def resize(net: Any, batch: int | None, crop: int | None) -> None:
    """Change the batch and crop sizes of the data layers; None leaves them.

    In a SceneData layer a drawn shorter side keeps its ratio to the crop.
    """
    for layer in data_layers(net.layer):
        if batch:
            layer.set("batch_size", batch)
        if crop:
            before = layer.get("crop_size")
            layer.set("crop_size", crop)
            if layer.is_scene:
                _keep_ratio(layer, crop, before)


def _keep_ratio(layer: DataLayer, crop: int, before: int) -> None:
    for field in ("short_side_min", "short_side_max"):
        if layer.get(field):
            layer.set(field, max(crop, round(layer.get(field) * crop / before)))


def count_classes(data):
    """The number of lines in DATA/classes.txt, None without that file."""
    path = os.path.join(data, "classes.txt")
    if not os.path.exists(path):
        return None
    return len(read_class_names(path))


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
    tests = data_layers(test_data_layers(net))
    if len(tests) != 1 or len(solver.test_iter) != 1:
        return
    records = count_records(tests[0].get("source"))
    solver.test_iter[0] = max(1, -(-records // tests[0].get("batch_size")))
