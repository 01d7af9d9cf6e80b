"""Nets as graphs (pycaffe's caffe.draw): written as DOT text, rendered by Graphviz's `dot`."""

from __future__ import annotations

import shutil
import subprocess

from caffe_plain.errors import CaffeError
from caffe_plain.files import write_atomically
from caffe_plain.geometry import given
from caffe_plain.phases import layers_of, state_of

from .files.upgrade import upgrade_net
from .proto import caffe_pb2

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}  # in place
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}
_COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
_TEXT_FORMATS = ("dot", "gv", "raw")


def get_pooling_types_dict():
    """{number: name} of the pooling methods."""
    return {number: name for name, number in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_layer_lr_mult(layer):
    """The lr_mult of a layer's weights and of its bias."""
    if layer.type not in ("Convolution", "Deconvolution", "InnerProduct"):
        raise ValueError(f"{layer.type} layers do not have a learning rate multiplier")
    if len(layer.param) > 2:
        raise ValueError(
            f"layer {layer.name!r}: expected at most 2 param entries, found {len(layer.param)}"
        )
    rates = [spec.lr_mult for spec in layer.param] + [1.0, 1.0]
    return rates[0], rates[1]


def get_edge_label(layer):
    """The label of the arrows out of a layer: its batch size or its number of outputs."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return '""'


def get_layer_label(layer, rankdir, display_lrm=False):
    """A layer's name, type and window, in quotes; on one line if the graph runs vertically."""
    kind = layer.type
    if kind == "Pooling":
        kind += " " + get_pooling_types_dict()[layer.pooling_param.pool]
    lines = [layer.name, f"({kind})"]
    if layer.type in ("Convolution", "Deconvolution", "Pooling"):
        kernel = 0 if layer.type == "Pooling" else 1  # in pycaffe, where none is given
        lines += [
            f"{name.replace('_', ' ')}: {_window(layer, name, default)}"
            for name, default in (("kernel_size", kernel), ("stride", 1), ("pad", 0))
        ]
    if display_lrm and layer.type in ("Convolution", "Deconvolution", "InnerProduct"):
        rates = get_layer_lr_mult(layer)
        if any(rates):
            lines.append("lr mult: {:.1f}, {:.1f}".format(*rates))
    return '"' + (" " if rankdir in ("TB", "BT") else "\\n").join(lines) + '"'


def _window(layer, name, default):
    """A kernel size, stride or pad as "3", or as "3x2" where height and width differ."""
    param = layer.pooling_param if layer.type == "Pooling" else layer.convolution_param
    values = given(param, name) or (default,)
    return "x".join(map(str, values if len(set(values)) > 1 else values[:1]))


def choose_color_by_layertype(layertype):
    """The fill colour of a layer's box."""
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def get_dot_text(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> str:
    """The graph of a NetParameter in the DOT language; `phase` None draws all layers.

    A net of an old form (`layers { type: CONVOLUTION }`) is drawn as its current one.
    """
    nodes, edges = {}, []
    if caffe_net.layers:
        caffe_net = upgrade_net(caffe_net)
    layers = caffe_net.layer
    if phase is not None:
        layers = layers_of(caffe_net, state_of(caffe_net, phase))
    for layer in layers:
        label, box = get_layer_label(layer, rankdir, display_lrm), f"layer:{layer.name}"
        if list(layer.bottom) == list(layer.top) and len(layer.bottom) == 1:
            style = NEURON_LAYER_STYLE
        else:
            style = dict(LAYER_STYLE_DEFAULT, fillcolor=choose_color_by_layertype(layer.type))
        nodes[box] = dict(style, label=label.strip('"'))
        for name in [*layer.bottom, *layer.top]:
            nodes.setdefault(f"blob:{name}", dict(BLOB_STYLE, label=name))
        edges += [(f"blob:{name}", box, "") for name in layer.bottom]
        out = get_edge_label(layer).strip('"') if label_edges else ""
        edges += [(box, f"blob:{name}", out) for name in layer.top]
    lines = [f'digraph "{_escaped(caffe_net.name)}" {{', f"rankdir={rankdir};"]
    lines += [f'"{_escaped(name)}" [{_attributes(style)}];' for name, style in nodes.items()]
    lines += [
        f'"{_escaped(start)}" -> "{_escaped(end)}" [label="{label}"];'
        for start, end, label in edges
    ]
    return "\n".join([*lines, "}", ""])


def _escaped(text):
    return text.replace('"', r"\"")


def _attributes(style):
    return ", ".join(f'{name}="{_escaped(value)}"' for name, value in style.items())


def get_pydot_graph(caffe_net, rankdir, label_edges=True, phase=None, display_lrm=False):
    """The graph as a pydot.Dot; needs the package pydot."""
    try:
        import pydot
    except ImportError as error:
        raise CaffeError(
            "get_pydot_graph needs the package pydot; get_dot_text gives the graph without it"
        ) from error
    text = get_dot_text(caffe_net, rankdir, label_edges, phase, display_lrm)
    return pydot.graph_from_dot_data(text)[0]


def draw_net(caffe_net, rankdir, ext="png", phase=None, display_lrm=False):
    """The picture of a NetParameter as bytes: DOT text for dot, gv or raw, else by Graphviz."""
    text = get_dot_text(caffe_net, rankdir, True, phase, display_lrm).encode()
    if ext in _TEXT_FORMATS:
        return text
    if shutil.which("dot") is None:
        raise CaffeError(
            f"drawing a {ext} needs Graphviz's program dot; install Graphviz, or "
            "draw into a .dot file"
        )
    done = subprocess.run(["dot", "-T" + ext], input=text, capture_output=True, check=False)
    if done.returncode:
        raise CaffeError(f"dot -T{ext}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def draw_net_to_file(caffe_net, filename, rankdir="LR", phase=None, display_lrm=False):
    """Draw a NetParameter to a file; the extension gives the format: .png, .svg, .pdf, .dot, ..."""
    ext = filename[filename.rfind(".") + 1 :]
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    write_atomically(filename, picture)
