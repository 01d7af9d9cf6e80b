"""summarize: a net's layers with shapes, parameters, work and memory.

    summarize net.prototxt [-phase TEST] [-level 0] [-stage a,b] [-input 1,3,224,224]

-input replaces the data layers by an Input of that shape, so that their databases need not exist.
Work: a multiplication with an addition counts as two operations; memory: the bytes of the values
that the layer makes, in fp32. Both are for one forward pass of the whole batch.
"""

import math

from caffe_plain.cost import multiply_adds
from caffe_plain.errors import CaffeError

from ..files.text import read_net
from ..graph.build import Node
from ..net import Net
from ..proto import caffe_pb2
from .flags import net_program, run, stages

_DATA = (
    "Data",
    "ImageData",
    "HDF5Data",
    "MemoryData",
    "WindowData",
    "DummyData",
    "AnnotatedData",
    "ImageSegData",
    "DenseImageData",
)
_PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}
_TITLES = ("layer", "type", "output", "parameters", "MFLOP", "KiB")
_VALUE_BYTES = 4


def main(args=None):
    """Run the command line; return the exit status."""
    parser = net_program("summarize", __doc__)
    parser.add_argument("net", help="the net's prototxt")
    parser.flag("phase", "TEST", "TRAIN or TEST", choices=tuple(_PHASES))
    parser.flag("level", 0, "the net's level")
    parser.flag("stage", "", "the net's stages, separated by ','")
    parser.flag("input", "", "the shape of the data, such as 1,3,224,224")
    return run(parser, _print, args)


def _print(options):
    param = read_net(options.net)
    if options.input:
        param = with_input(param, options.input)
    net = Net(param, _PHASES[options.phase], level=options.level, stages=stages(options.stage))
    print("\n".join(table(net)))


def with_input(param, text):
    """The net with one Input instead of each data layer; "1,3,224,224" is the data's shape."""
    try:
        shape = [int(size) for size in text.split(",")]
    except ValueError:
        raise CaffeError(f"-input {text}: expected sizes such as 1,3,224,224") from None
    changed = caffe_pb2.NetParameter()
    changed.CopyFrom(param)
    for layer in changed.layer:
        if layer.type in _DATA:
            source = caffe_pb2.LayerParameter(
                name=layer.name,
                type="Input",
                top=layer.top,
                include=layer.include,
                exclude=layer.exclude,
            )
            for index in range(len(layer.top)):
                source.input_param.shape.add(dim=_top_shape(layer.type, index, shape))
            layer.CopyFrom(source)
    return changed


def _top_shape(type_name, index, shape):
    """The shape of top `index` of a data layer whose data has `shape`."""
    if not index:
        return shape
    if type_name == "AnnotatedData":
        return [1, 1, 1, 8]  # an object
    if type_name in ("ImageSegData", "DenseImageData"):
        return [shape[0], 1, *(shape[2:] if index == 1 else (1, 2))]
    return shape[:1]


def summary(net):
    """For each layer: (name, type, output shapes, parameters, operations, bytes of its values)."""
    rows, seen = [], set()
    for node in net.nodes:
        if node.layer.type == "Split":
            continue
        fresh = [blob for blob in node.layer.blobs if id(blob._data) not in seen]
        seen.update(id(blob._data) for blob in fresh)
        made = 0 if node.in_place else sum(blob.count for blob in node.tops)
        rows.append(
            (
                node.name,
                node.layer.type,
                [blob.shape for blob in node.tops],
                sum(blob.count for blob in fresh),
                operations(node),
                made * _VALUE_BYTES,
            )
        )
    return rows


def operations(node: Node) -> int:
    """The additions, multiplications, comparisons, ... of one forward pass."""
    layer = node.layer
    parameters, bottoms, tops = (
        [blob.shape for blob in blobs] for blobs in (layer.blobs, node.bottoms, node.tops)
    )
    products = multiply_adds(layer.type, parameters, bottoms, tops)
    if products:
        return 2 * products
    values = sum(math.prod(shape) for shape in tops)
    if layer.type == "Pooling":
        window = bottoms[0][2:] if layer.options.global_pooling else layer.kernel
        return values * math.prod(window)
    return 0 if layer.type in (*_DATA, "Input", "Silence", "Flatten", "Reshape") else values


def table(net):
    """The lines of the summary, the totals last."""
    rows = summary(net)
    parameters, work, kept = (sum(row[i] for row in rows) for i in (3, 4, 5))
    cells = [_TITLES] + [
        (
            *row[:2],
            " ".join("x".join(map(str, s)) or "scalar" for s in row[2]),
            f"{row[3]:,}",
            f"{row[4] / 1e6:,.2f}",
            f"{row[5] / 1024:,.1f}",
        )
        for row in rows
    ]
    cells.append(("total", "", "", f"{parameters:,}", f"{work / 1e6:,.2f}", f"{kept / 1024:,.1f}"))
    widths = [max(len(row[i]) for row in cells) for i in range(len(_TITLES))]
    lines = [
        "  ".join(
            cell.rjust(width) if i > 2 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    mib = 2**20
    trained = 2 * kept + 3 * parameters * _VALUE_BYTES
    return [
        *lines,
        f"Memory: parameters {parameters * _VALUE_BYTES / mib:.1f} MiB, values "
        f"{kept / mib:.1f} MiB; in training with SGD about {trained / mib:.1f} MiB (values "
        "and parameters with their diffs, and the momentum)",
    ]
