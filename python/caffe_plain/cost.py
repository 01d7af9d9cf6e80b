"""The multiply-adds of a layer, by definition, from the shapes of its blobs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

_CONVOLUTIONS = ("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise")


def multiply_adds(
    kind: str,
    parameters: Sequence[Sequence[int]],
    bottoms: Sequence[Sequence[int]],
    tops: Sequence[Sequence[int]],
) -> int:
    """The multiply-adds of one forward pass of a layer of type `kind` over the whole batch.

    parameters: the shapes of its parameter blobs, weights first; bottoms, tops: the shapes of its
    blobs. Convolutions, Deconvolution and InnerProduct count, without the bias; all else is 0.
    """
    if kind in _CONVOLUTIONS:  # a value of the top is a sum over the channels and the kernel
        return sum(map(prod, tops)) * prod(parameters[0][1:])
    if kind == "Deconvolution":  # how many values of the top a value of the bottom goes into
        return sum(map(prod, bottoms)) * prod(parameters[0][1:])
    if kind == "InnerProduct":  # a value of the bottom meets the weights of each output
        return prod(bottoms[0]) * tops[0][-1]
    return 0
