"""Windows in every spelling: the sizes that BVLC Caffe gives them, and all code that reads them."""

import pytest

import caffe
import catalogue_cases
import catalogue_judge
from caffe import draw
from caffe.command import summarize
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2
from caffe_plain.errors import LayerError
from caffe_plain.geometry import convolved, deconvolved, given, pooled, spatial, window
from relaybp.prototxt import count

CONVOLUTION, POOLING = caffe_pb2.ConvolutionParameter, caffe_pb2.PoolingParameter
SIZES = {"Convolution": convolved, "Im2col": convolved, "Deconvolution": deconvolved}
JUDGED = [
    case
    for case in catalogue_judge.JUDGED
    if case.type in (*SIZES, "Pooling") and "global" not in case.name
]


@pytest.fixture(scope="module")
def golden():
    return catalogue_judge.load()


@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case.key)
def test_sizes_are_bvlcs(golden, case):
    layer = parse_text(case.options, caffe_pb2.LayerParameter())
    shape = catalogue_cases.shape_of(case.bottoms[0])
    if case.type == "Pooling":
        options = layer.pooling_param
        kernel, stride, pad, _ = window(options)
        ceil = options.round_mode == POOLING.CEIL
        axes = zip(shape[2:], kernel, stride, pad, strict=True)
        sizes = tuple(pooled(*axis, ceil, clip=any(pad)) for axis in axes)
    else:
        options = layer.convolution_param
        image = shape[options.axis % len(shape) + 1 :]
        axes = zip(image, *window(options, len(image)), strict=True)
        sizes = tuple(SIZES[case.type](*axis) for axis in axes)
    top = golden[f"{case.key}/0"]["top0"].shape
    assert top[len(top) - len(sizes) :] == sizes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (CONVOLUTION(kernel_size=[3]), ((3, 3), (1, 1), (0, 0), (1, 1))),
        (CONVOLUTION(kernel_size=[3, 2], dilation=[2]), ((3, 2), (1, 1), (0, 0), (2, 2))),
        (CONVOLUTION(kernel_h=3, kernel_w=2, pad_w=1), ((3, 2), (1, 1), (0, 1), (1, 1))),
        (CONVOLUTION(kernel_size=[3], stride_h=1, stride_w=2), ((3, 3), (1, 2), (0, 0), (1, 1))),
        (POOLING(kernel_size=3, stride=2), ((3, 3), (2, 2), (0, 0), (1, 1))),
        (POOLING(kernel_h=3, kernel_w=2, pad=1), ((3, 2), (1, 1), (1, 1), (1, 1))),
    ],
    ids=lambda value: None if isinstance(value, tuple) else " ".join(str(value).split()),
)
def test_a_window_is_read_in_every_spelling(options, expected):
    assert window(options) == expected


def test_given_is_what_the_message_says():
    assert given(CONVOLUTION(kernel_size=[3]), "kernel_size") == (3,)
    assert given(CONVOLUTION(kernel_w=3), "kernel_size") == (0, 3)
    assert given(CONVOLUTION(), "kernel_size") == given(POOLING(), "stride") == ()


@pytest.mark.parametrize(
    ("options", "axes", "message"),
    [
        (POOLING(), 2, "kernel_size is missing; give kernel_size, or kernel_h and kernel_w"),
        (CONVOLUTION(kernel_h=3, kernel_w=2), 3, "kernel_h and kernel_w need 2 spatial axes"),
        (POOLING(kernel_size=3, kernel_w=2), 2, "either kernel_size or kernel_h and kernel_w"),
        (CONVOLUTION(kernel_size=[3, 2, 1]), 2, "kernel_size has 3 values for 2 spatial axes"),
        (POOLING(kernel_size=1 << 17), 2, r"kernel_size \(131072, 131072\): at most 65,536"),
    ],
    ids=["missing", "axes", "both", "values", "large"],
)
def test_a_window_without_meaning_is_an_error(options, axes, message):
    with pytest.raises(LayerError, match=message):
        window(options, axes)


def test_the_caller_words_the_error():
    with pytest.raises(OSError, match="^pool1: kernel_size is missing"):
        spatial(POOLING(), "kernel_size", 2, error=lambda text: OSError(f"pool1: {text}"))


# ---- a net of oblong windows, for all who read them ------------------------------------------

OBLONG = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
        num_output: 4 kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_w: 1 dilation: 2 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { kernel_h: 3 kernel_w: 2 stride: 2 } }
layer { name: "floor" type: "Pooling" bottom: "conv" top: "floor"
        pooling_param { kernel_h: 2 kernel_w: 5 stride_h: 1 stride_w: 2 round_mode: FLOOR } }
"""
# with dilation the kernel covers 3 x 5 pixels of 9 x (8 + 2)
CONV, POOL, FLOOR = (2, 4, 4, 6), (2, 4, 2, 3), (2, 4, 3, 1)
PRODUCTS = (2 * 4 * 4 * 6) * (3 * 2 * 3)  # values of the top, weights that each meets


@pytest.fixture(scope="module")
def oblong():
    return parse_text(OBLONG, caffe_pb2.NetParameter())


def test_an_oblong_net_is_counted(oblong):
    rows = {row.name: row[2:] for row in count.walk(oblong, caffe.TEST)}
    assert rows["conv"] == ([CONV], 4 * 3 * 2 * 3 + 4, PRODUCTS)
    assert rows["pool"] == ([POOL], 0, 0)
    assert rows["floor"] == ([FLOOR], 0, 0)


def test_an_oblong_net_is_summarized(oblong):
    rows = {row[0]: row[2:5] for row in summarize.summary(caffe.Net(oblong, caffe.TEST))}
    assert rows["conv"] == ([CONV], 4 * 3 * 2 * 3 + 4, 2 * PRODUCTS)
    assert rows["pool"] == ([POOL], 0, (2 * 4 * 2 * 3) * (3 * 2))
    assert rows["floor"] == ([FLOOR], 0, (2 * 4 * 3 * 1) * (2 * 5))


def test_an_oblong_net_is_drawn(oblong):
    text = draw.get_dot_text(oblong, "TB")
    assert "conv (Convolution) kernel size: 2x3 stride: 2x1 pad: 0x1" in text
    assert "pool (Pooling MAX) kernel size: 3x2 stride: 2 pad: 0" in text
