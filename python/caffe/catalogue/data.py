"""Data layers: what feeds a net. They have no bottoms and never back-propagate."""

import torch

from .. import device
from ..layer import TensorLayer, register


class _Source(TensorLayer):
    """A layer without bottoms."""

    bottom_count = (0, 0)
    top_count = (1, None)
    differentiable = False
    makes_fresh_tops = False


@register
class Input(_Source):
    """Tops that the user fills: `net.blobs[name].data[...] = values`.

    tops: the shapes in input_param, one for all or one each.
    """

    param_name = "input_param"

    def connect(self, bottoms, tops):
        self.tops = tops

    def reshape(self, *shapes):
        count = len(self.layer_param.top)
        given = [tuple(shape.dim) for shape in self.options.shape]
        if len(given) not in (0, 1, count):
            raise self.error(f"input_param has {len(given)} shapes for {count} tops; "
                             "give one for all or one each")
        if self.filled or not given:  # the user's own reshape stands
            return [blob.shape for blob in self.tops]
        self.filled = True
        return given if len(given) == count else given * count

    filled = False

    def forward(self):
        return tuple(device.layout(blob.tensor.to(blob.dtype)) for blob in self.tops)
