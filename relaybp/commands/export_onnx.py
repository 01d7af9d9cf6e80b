"""Export a deploy net with its weights as ONNX, for use outside Caffe.

    python tools/export_onnx.py deploy.prototxt weights.caffemodel net.onnx [--fixed-batch]
    python tools/export_onnx.py RUN [net.onnx]        the newest net of a run, by default in there

Needs the package onnx. The inputs and outputs have the blobs' names; the first axis is free unless
--fixed-batch. Layers are written as they compute in the TEST phase.
"""

import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import caffe
from caffe_plain.errors import reason
from caffe_plain.trained import files_of

from ..cli import Parser
from . import onnx_detection, onnx_forks  # noqa: F401  which register layers
from .onnx_layers import LAYERS, Unsupported

OUTPUT = "net.onnx"  # of a run, in its folder
OPSET, IR_VERSION = 13, 8  # read by every onnxruntime since 1.8


class Writer:
    """Collects the ONNX nodes and constants of a net."""

    def __init__(self, reserved):
        self.nodes, self.constants = [], []
        self._used = set(reserved)  # names of blobs and of what the layers added

    def add(self, op, inputs, outputs, **attributes):
        """Append a node."""
        name = self._unused(f"{outputs[0]}/{op}")
        self.nodes.append(helper.make_node(op, inputs, outputs, name, **attributes))

    def constant(self, node, what, array):
        """The name of a new constant of a layer; float64 becomes float32."""
        array = np.asarray(array)
        name = self._unused(f"{node.name}.{what}")
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def fresh(self, node):
        """The name of a value inside a layer."""
        return self._unused(f"{node.name}.value")

    def linear(self, node, x, scale, shift):
        """The name of scale * x + shift."""
        for op, number, neutral in (("Mul", scale, 1), ("Add", shift, 0)):
            if number != neutral:
                made = self.fresh(node)
                self.add(op, [x, self.constant(node, op.lower(), np.float32(number))], [made])
                x = made
        return x

    def reshaped(self, node, x, shape, before=None):
        """The name of `x` in another shape; an equal first axis stays free."""
        if before is not None and shape and before and shape[0] == before[0]:
            shape = (0, *shape[1:])
        made = self.fresh(node)
        sizes = self.constant(node, "shape", np.array(shape, np.int64))
        self.add("Reshape", [x, sizes], [made])
        return made

    def _unused(self, name):
        base, number = name, 1
        while name in self._used:
            number += 1
            name = f"{base}{number}"
        self._used.add(name)
        return name


def to_onnx(net, fixed_batch=False):
    """The ONNX model of a TEST-phase caffe.Net."""
    writer, current = Writer(net.blobs), {}
    last = {name: node for node in net.nodes for name in node.top_names}
    for node in net.nodes:
        inputs = [current[name] for name in node.bottom_names]
        outputs = [name if last[name] is node else f"{name}@{node.name}" for name in node.top_names]
        if node.layer.type not in LAYERS:
            raise caffe.LayerError(
                f"layer {node.name!r}: {node.layer.type} has no ONNX form here; "
                f"known are: {', '.join(sorted(LAYERS))}"
            )
        try:
            LAYERS[node.layer.type](writer, node, inputs, outputs)
        except Unsupported as error:
            raise caffe.LayerError(
                f"layer {node.name!r} ({node.layer.type}): {error}: has no ONNX form here"
            ) from None
        current.update(zip(node.top_names, outputs))
    graph = helper.make_graph(
        writer.nodes,
        net.name or "net",
        [_value(net, name, fixed_batch) for name in net.inputs],
        [_value(net, name, fixed_batch) for name in net.outputs],
        writer.constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="caffe-relay"
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def _value(net, name, fixed_batch):
    shape = list(net.blobs[name].shape)
    if shape and not fixed_batch:
        shape[0] = "N"
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _files(words: list[str]) -> tuple[str, str, str]:
    """(deploy net, weights, file to write) of what the arguments name."""
    if os.path.isdir(words[0]) and len(words) < 3:
        run = files_of(words[0])
        return run.deploy, run.weights, (words[1:] or [os.path.join(words[0], OUTPUT)])[0]
    if len(words) != 3:
        raise caffe.CaffeError(
            f"{' '.join(words)}: expected a run's folder, or DEPLOY.prototxt WEIGHTS NET.onnx"
        )
    return words[0], words[1], words[2]


def main(args=None):
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="RUN [ONNX], or DEPLOY WEIGHTS ONNX"
    )
    parser.add_argument("--fixed-batch", action="store_true", help="keep the batch size")
    options = parser.parse_args(args)
    try:
        deploy, weights, output = _files(options.files)
        net = caffe.Net(deploy, caffe.TEST, weights=weights)
        model = to_onnx(net, options.fixed_batch)
        onnx.save(model, output)
    except (caffe.CaffeError, OSError) as error:
        sys.exit(f"export_onnx: {reason(error)}")
    print(
        f"{output}: {len(model.graph.node)} nodes, "
        f"{len(model.graph.initializer)} constants, inputs {net.inputs}, outputs {net.outputs}"
    )
