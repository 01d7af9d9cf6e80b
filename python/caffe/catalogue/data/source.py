"""Data layers that read no file: Input, DummyData. The other modules of this folder have the
others.

Data layers have no bottoms and never back-propagate.
"""

import math

from ... import device
from ...fillers import fill
from ...layer import TensorLayer, register
from ...proto import caffe_pb2


def precision_of(shape):
    """The dtype of a top that comes from outside; for images, that of activations.

    Labels, indices, weights and losses stay in full precision: bf16 has no 257.
    """
    is_image = len(shape) > 2 and math.prod(shape[1:]) > 1
    return device.dtype() if is_image else device.master_dtype()


class Source(TensorLayer):
    """A layer without bottoms."""

    bottom_count = (0, 0)
    top_count = (1, None)
    differentiable = False
    replays = False
    makes_fresh_tops = False
    given = False  # whether the tops have the shapes that the prototxt gives

    def connect(self, bottoms, tops):
        self.tops = tops
        for blob in tops:
            blob.master = True

    def one_or_each(self, name, values):
        """`values` of the repeated field `name`: one for all tops, or one each."""
        values, count = list(values), len(self.layer_param.top)
        if len(values) not in (1, count):
            raise self.error(
                f"{name} has {len(values)} values for {count} tops; give one for all or one each"
            )
        return values if len(values) == count else values * count


@register
class Input(Source):
    """Tops that the user fills: `net.blobs[name].data[...] = values`.

    tops: the shapes in input_param, one for all or one each. Caffe's InputLayer.
    """

    param_name = "input_param"

    def reshape(self, *shapes):
        if self.given or not self.options.shape:  # the user's own reshape stands
            return [blob.shape for blob in self.tops]
        self.given = True
        return self.one_or_each(
            "input_param.shape", [tuple(shape.dim) for shape in self.options.shape]
        )

    def forward(self):
        return [
            device.layout(device.cast(blob.tensor, precision_of(blob.shape))) for blob in self.tops
        ]


@register
class DummyData(Source):
    """Tops that fillers fill: once with a constant filler, in every forward with others.

    tops: the shapes given by `shape`, or by num, channels, height and width; data_filler and
    each of them once for all tops or once each (no data_filler: zeros).
    Options: dummy_data_param. Caffe's DummyDataLayer.
    """

    param_name = "dummy_data_param"

    def setup(self, *shapes):
        options = self.options
        fillers = options.data_filler or [caffe_pb2.FillerParameter(type="constant")]
        self.fillers = self.one_or_each("data_filler", fillers)
        sides = ("num", "channels", "height", "width")
        old = [name for name in sides if getattr(options, name)]
        if options.shape and old:
            raise self.error(
                f"both shape and {', '.join(old)} (the old form) are given; keep shape"
            )
        if old:
            given = zip(
                *(self.one_or_each(name, getattr(options, name)) for name in sides), strict=True
            )
        else:
            given = (tuple(s.dim) for s in self.one_or_each("shape", options.shape))
        for blob, shape, filler in zip(self.tops, given, self.fillers, strict=True):
            blob.tensor = self._values(shape, filler)

    def reshape(self, *shapes):
        return [blob.shape for blob in self.tops]

    def forward(self):
        return tuple(
            blob.tensor.to(precision_of(blob.shape))
            if filler.type == "constant"
            else self._values(blob.shape, filler)
            for blob, filler in zip(self.tops, self.fillers, strict=True)
        )

    def _values(self, shape, filler):
        return device.layout(fill(shape, filler, self.name).to(precision_of(shape)))
