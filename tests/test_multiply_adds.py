"""The multiply-adds of a layer: by PyTorch's counter, and by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import caffe
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2
from caffe_plain.cost import multiply_adds
from relaybp.graph import Graph
from relaybp.planning import cost


def counted(function, x, weights, **options):
    """(multiply-adds as PyTorch counts them, the shape of the top)."""
    with FlopCounterMode(display=False) as counter:
        top = function(x, weights, **options)
    return counter.get_total_flops() // 2, tuple(top.shape)


@pytest.mark.parametrize(
    ("bottom", "weights", "options"),
    [
        ((2, 3, 9, 8), (4, 3, 2, 3), {"stride": (2, 1), "padding": (0, 1)}),
        ((2, 4, 9, 8), (6, 2, 3, 3), {"groups": 2, "dilation": 2}),
        ((2, 4, 5, 4), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
        ((2, 3, 7), (5, 3, 3), {"stride": 2}),
        ((1, 2, 5, 4, 6), (3, 2, 2, 1, 3), {}),
    ],
)
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_convolutions_cost_what_pytorch_counts(kind, bottom, weights, options):
    axes, name = len(weights) - 2, "conv" if kind == "Convolution" else "conv_transpose"
    if kind == "Deconvolution":  # weights (C, num_output / group, ...)
        weights = (bottom[1], weights[0] // options.get("groups", 1), *weights[2:])
    function = getattr(F, f"{name}{axes}d")
    expected, top = counted(function, torch.ones(bottom), torch.ones(weights), **options)
    assert multiply_adds(kind, [weights, top[1:2]], [bottom], [top]) == expected


def test_every_bottom_of_a_convolution_counts():
    one = multiply_adds("Convolution", [(4, 3, 1, 1)], [(1, 3, 5, 5)], [(1, 4, 5, 5)])
    assert one == 3 * 4 * 25
    both = [(1, 3, 5, 5)] * 2, [(1, 4, 5, 5)] * 2
    assert multiply_adds("Convolution", [(4, 3, 1, 1)], *both) == 2 * one


@pytest.mark.parametrize("transpose", [False, True])
def test_an_inner_product_is_planned_as_pytorch_counts(transpose):
    """Over the axes from 2 on: a product of (2 * 3, 4 * 5) and (4 * 5, 7)."""
    text = f"""layer {{ name: "data" type: "Input" top: "data"
                        input_param {{ shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }} }} }}
               layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                        inner_product_param {{ num_output: 7 axis: 2
                                               transpose: {str(transpose).lower()} }} }}"""
    net = caffe.Net(parse_text(text, caffe_pb2.NetParameter()), caffe.TEST)
    assert net.params["fc"][0].shape == ((20, 7) if transpose else (7, 20))
    expected, _ = counted(F.linear, torch.ones(6, 20), torch.ones(7, 20))
    assert cost.multiply_adds(Graph(net)) == [0, expected]


def test_what_multiplies_no_matrices_costs_nothing():
    shapes = [(2, 3, 4, 4)]
    assert multiply_adds("Scale", [(3,), (3,)], shapes, shapes) == 0
    assert multiply_adds("Pooling", [], shapes, [(2, 3, 2, 2)]) == 0
