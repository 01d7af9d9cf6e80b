"""The layers of a network as Table 2 lists them: by the size of their input, with their flows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from caffe_plain.phases import TRAIN

from .. import models, relay_file, run_folder
from ..prototxt import count

BRANCH = "aux"  # what the names of auxiliary layers begin with
HEADER = ["input", "flow", "layers"]


@dataclass(frozen=True)
class LayerList:
    """A block of a page: the network's name, and a row for each size of the layers' input."""

    title: str
    lines: tuple[tuple[str, str, str], ...]
    data = ""
    columns = HEADER

    def header(self) -> list[str]:
        """The names of the columns."""
        return HEADER

    def rows(self, plus_minus: str = "") -> list[list[str]]:
        """The texts of the cells."""
        return [list(line) for line in self.lines]

    def csv_rows(self, table: str) -> list[list[str]]:
        """The same with the table's and the network's name."""
        return [[table, self.title, *line] for line in self.lines]


def layer_list(pb: Any, model: str, title: str) -> LayerList:
    """The LayerList of a model of one auxiliary branch."""
    folder, _ = models.find(model)
    net = run_folder.read(os.path.join(folder, "train_val.prototxt"), pb.NetParameter())
    relay = relay_file.read_relay(os.path.join(folder, "relay.prototxt"))
    items = _items(net, {flow.loss: flow.to for flow in relay.flow})
    lines = []
    for (side, flow), group in groupby(items, key=lambda item: item[:2]):
        words = [word for _, _, word in group if word]
        repeated = [(word, len(list(same))) for word, same in groupby(words)]
        text = ", ".join(word if times == 1 else f"[{word}] x {times}" for word, times in repeated)
        lines.append((side, flow, text))
    return LayerList(title, tuple(lines))


def _items(net: Any, lowest: dict[str, str]) -> list[tuple[str, str, str]]:
    """(side of the input, flow, what it is) of each layer of the trunk with weights or pooling."""
    layers = {layer.name: layer for layer in net.layer}
    rows = count.walk(net, TRAIN)
    shapes = {top: shape for row in rows for top, shape in zip(layers[row.name].top, row.shapes)}
    trunk = [row for row in rows if not row.name.startswith(BRANCH) and layers[row.name].bottom]
    names = [row.name for row in rows]
    branch = next(name for name in names if name.startswith(BRANCH))
    hung = max(names.index(name) for name in names if layers[branch].bottom[0] in layers[name].top)
    start = next(i for i, name in enumerate(names) if _is(name, lowest["loss"]))
    modules = [row.name for row in rows if row.type == "Concat"]
    found = []
    for row in trunk:
        if row.name.startswith(tuple(f"{name}{sign}" for name in modules for sign in "_123456789")):
            continue  # within a module
        layer, index = layers[row.name], names.index(row.name)
        word = _module(row.name, layers) if row.name in modules else _word(layer)
        flows = ["aux"] * (index <= hung) + ["primary"] * (index >= start)
        bottom = shapes[_below(layer, layers, modules)]
        side = str(bottom[2]) if len(bottom) == 4 and bottom[2] > 1 else ""
        if word:
            found.append((side, " + ".join(flows), word))
    return found


def _is(name: str, stem: str) -> bool:
    return name == stem or name.startswith(f"{stem}_")


def _below(layer: Any, layers: dict[str, Any], modules: list[str]) -> str:
    """The blob that a layer, or the module that it ends, reads."""
    if layer.name not in modules:
        return layer.bottom[0]
    first = next(name for name in layers if name != layer.name and name.startswith(layer.name))
    return layers[first].bottom[0]


def _module(name: str, layers: dict[str, Any]) -> str:
    """An inception module with its k, or a pyramid with its bins."""
    own = [layer for other, layer in layers.items() if other != name and other.startswith(name)]
    if any(layer.type == "Flatten" for layer in own):
        bins = [layer.name[len(name) :] for layer in own if layer.type == "Pooling"]
        return "spp {" + ", ".join(reversed(bins)) + "}"
    width = next(layer.convolution_param.num_output for layer in own if layer.type == "Convolution")
    return f"modified inception, k = {width}"


def _word(layer: Any) -> str:
    """A layer in words, empty for one that has no weights and keeps the size."""
    if layer.type == "Convolution":
        param = layer.convolution_param
        stride = f" /{param.stride[0]}" if param.stride else ""
        return f"conv {param.kernel_size[0]}x{param.kernel_size[0]}, {param.num_output}{stride}"
    if layer.type == "Pooling":
        param = layer.pooling_param
        if param.global_pooling:
            return "global average pooling"
        return f"maxpool {param.kernel_size}x{param.kernel_size}/{param.stride}"
    if layer.type == "InnerProduct":
        return f"fc {layer.inner_product_param.num_output}"
    return ""
