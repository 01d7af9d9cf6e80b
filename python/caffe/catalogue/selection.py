"""Utility layers that pick, repeat or reduce: Reduction, ArgMax, Tile, Filter, BatchReindex."""

import math

import torch

from ..layer import TensorLayer, register
from ..proto import caffe_pb2
from .factor import scaled

_OPERATION = caffe_pb2.ReductionParameter


@register
class Reduction(TensorLayer):
    """Reduces all values from `axis` (default 0) on to one number.

    bottom: any shape; top: the sizes before `axis`. y = coeff times the sum (SUM), the sum of
    magnitudes (ASUM), the sum of squares (SUMSQ) or the mean (MEAN). Options: reduction_param.
    Caffe's ReductionLayer.
    """

    param_name = "reduction_param"

    def setup(self, *shapes):
        self.reads_bottom = self.options.operation in (_OPERATION.ASUM, _OPERATION.SUMSQ)

    def reshape(self, *shapes):
        self.shape = tuple(shapes[0])
        self.axis = self.canonical_axis(self.options.axis, self.shape)
        self.factor = self.options.coeff
        if self.options.operation == _OPERATION.MEAN:
            self.factor /= math.prod(self.shape[self.axis :])
        return [self.shape[: self.axis]]

    def forward(self, x):
        if self.options.operation == _OPERATION.ASUM:
            x = x.abs()
        elif self.options.operation == _OPERATION.SUMSQ:
            x = x * x
        return scaled(x.sum(tuple(range(self.axis, x.dim()))), self.factor)

    def backward(self, diffs, bottoms, tops, wanted):
        if not self.factor:
            return [diffs[0].new_zeros(self.shape)]
        rest = (1,) * (len(self.shape) - self.axis)
        dy = (diffs[0] * self.factor).reshape(self.shape[: self.axis] + rest)
        if self.options.operation == _OPERATION.ASUM:
            return [dy * bottoms[0].sign()]
        if self.options.operation == _OPERATION.SUMSQ:
            return [dy * (2 * bottoms[0])]
        return [dy.expand(self.shape)]


@register
class ArgMax(TensorLayer):
    """The top_k largest values, or their indices; of equal values the last comes first.

    bottom: (N, ...). top with `axis`: the bottom's shape with top_k on that axis, holding indices
    or, with out_max_val, values. Without `axis`, over all values of an image: (N, 1, top_k), or
    with out_max_val (N, 2, top_k): indices, then values. Options: argmax_param. It has no
    backward pass. Caffe's ArgMaxLayer.
    """

    param_name = "argmax_param"
    differentiable = False

    def reshape(self, *shapes):
        shape, count = list(shapes[0]), self.options.top_k
        self.axes = len(shape)
        self.axis = (
            self.canonical_axis(self.options.axis, shape) if self.options.HasField("axis") else None
        )
        size = math.prod(shape[1:]) if self.axis is None else shape[self.axis]
        if not 1 <= count <= size:
            raise self.error(
                f"top_k must be 1 to {size}, the number of values of the bottom "
                f"{tuple(shape)} to choose from; found {count}"
            )
        if self.axis is not None:
            shape[self.axis] = count
            return [tuple(shape)]
        rows = 2 if self.options.out_max_val else 1
        return [(shape[0], rows, count) + (1,) * (len(shape) - 3)]

    def forward(self, x):
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 cannot hold indices
        axis = self.axis
        if axis is None:
            x, axis = x.reshape(len(x), -1), 1  # (N, C H W)
        values, places = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        indices = (x.shape[axis] - 1 - places).to(x.dtype)
        values, indices = (t.narrow(axis, 0, self.options.top_k) for t in (values, indices))
        if self.axis is not None:
            return values if self.options.out_max_val else indices
        both = [indices, values] if self.options.out_max_val else [indices]
        y = torch.stack(both, 1)  # (N, 1 or 2, top_k)
        return y.reshape(y.shape + (1,) * (self.axes - 3))


@register
class Tile(TensorLayer):
    """Repeats its bottom `tiles` times along `axis` (default 1).

    bottom: any shape; top: that axis `tiles` times as long. Options: tile_param. Caffe's
    TileLayer.
    """

    param_name = "tile_param"
    reads_bottom = False

    def setup(self, *shapes):
        if self.options.tiles < 1:
            raise self.error(f"tiles must be given, 1 or more; found {self.options.tiles}")

    def reshape(self, *shapes):
        self.shape = shape = tuple(shapes[0])
        self.axis = axis = self.canonical_axis(self.options.axis, shape)
        return [(*shape[:axis], shape[axis] * self.options.tiles, *shape[axis + 1 :])]

    def forward(self, x):
        repeats = [1] * x.dim()
        repeats[self.axis] = self.options.tiles
        return x.repeat(repeats)

    def backward(self, diffs, bottoms, tops, wanted):
        apart = (*self.shape[: self.axis], self.options.tiles, *self.shape[self.axis :])
        return [diffs[0].reshape(apart).sum(self.axis)]


@register
class Filter(TensorLayer):
    """Keeps the items of a batch that a selector picks.

    bottoms: any number of blobs (N, ...), then the selector, N values, of which nonzero ones pick;
    tops: one for each bottom except the selector, with as many items as it picks. In backward the
    diffs of the other items are 0. Caffe's FilterLayer.
    """

    bottom_count = (2, None)
    top_count = (1, None)
    replays = False
    reads_bottom = False

    def setup(self, *shapes):
        if len(self.layer_param.top) != len(shapes) - 1:
            raise self.error(
                f"needs one top for each bottom but the last, the selector; found "
                f"{len(self.layer_param.top)} tops for {len(shapes)} bottoms"
            )

    def reshape(self, *shapes):
        *data, selector = shapes
        if math.prod(selector) != selector[0]:
            raise self.shape_error(
                f"the selector, bottom {len(data)}, must have one value per "
                f"item; found shape {tuple(selector)}"
            )
        for index, shape in enumerate(data):
            if shape[0] != selector[0]:
                raise self.shape_error(
                    f"bottom {index} has {shape[0]} items, the selector "
                    f"{selector[0]}; they must be equally many"
                )
        self.count = selector[0]
        return data  # until the selector is known

    def forward(self, *bottoms):
        *data, selector = bottoms
        self.picked = selector.reshape(-1).nonzero()[:, 0]
        return tuple(x[self.picked] for x in data)

    def backward(self, diffs, bottoms, tops, wanted):
        if wanted[-1]:
            raise self.error("no gradient reaches the selector; set propagate_down: false for it")
        return [
            dy.new_zeros((self.count, *dy.shape[1:])).index_copy_(0, self.picked, dy)
            if want and dy is not None
            else None
            for dy, want in zip(diffs, wanted, strict=False)
        ] + [None]

    def allows_backward(self, index):
        return index < len(self.layer_param.bottom) - 1


@register
class BatchReindex(TensorLayer):
    """Makes a new batch from the items whose numbers are given, repeated as given.

    bottoms: data (M, ...), and the numbers of its items to take (N,); top: (N, ...). Items never
    taken get a diff of 0. Caffe's BatchReindexLayer.
    """

    bottom_count = (2, 2)

    def reshape(self, *shapes):
        if len(shapes[1]) != 1:
            raise self.shape_error(
                f"bottom 1, the item numbers, must have one axis; found shape {tuple(shapes[1])}"
            )
        return [(shapes[1][0], *shapes[0][1:])]

    def forward(self, x, items):
        return x.index_select(0, items.long())

    def backward(self, diffs, bottoms, tops, wanted):
        if wanted[1]:
            raise self.error(
                "no gradient reaches bottom 1, the item numbers; set propagate_down: false for it"
            )
        dx = torch.zeros_like(bottoms[0])
        return [dx.index_add_(0, bottoms[1].long(), diffs[0].to(dx.dtype)), None]

    def allows_backward(self, index):
        return index == 0
