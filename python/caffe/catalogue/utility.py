"""Utility layers: Split, Concat, Eltwise, Flatten, ... that move or combine blobs."""

import torch

from ..layer import TensorLayer, register
from ..proto import caffe_pb2

_OPERATION = caffe_pb2.EltwiseParameter


@register
class Split(TensorLayer):
    """Hands one bottom to several consumers; its diff is the sum of theirs.

    bottom: any shape; tops: the same values (shared memory). The net inserts it wherever a blob
    feeds more than one layer. Caffe's SplitLayer.
    """

    top_count = (1, None)
    shares_data = True
    reads_bottom = False

    def reshape(self, *shapes):
        return [shapes[0]] * len(self.layer_param.top)

    def forward(self, x):
        return (x,) * len(self.layer_param.top)

    def backward(self, diffs, bottoms, tops, wanted):
        return [add_all(diffs)]


def add_all(diffs):
    """The sum of the diffs that arrived (None: did not); one alone is handed on as it is."""
    diffs = [diff for diff in diffs if diff is not None]
    total = diffs[0]
    for diff in diffs[1:]:
        total = total + diff
    return total
