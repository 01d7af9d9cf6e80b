"""Utility layers that move or combine whole blobs: Split, Concat, Slice, Eltwise, Reshape, ..."""

import math

import torch

from .. import device
from ..layer import TensorLayer, register
from ..proto import caffe_pb2
from .factor import scaled

_OPERATION = caffe_pb2.EltwiseParameter


def add_all(diffs):
    """The sum of the diffs that arrived (None: did not); a single one is returned as it is."""
    diffs = [diff for diff in diffs if diff is not None]
    total = diffs[0]
    for diff in diffs[1:]:
        total = total + diff
    return total


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

    def backward(self, diffs, bottoms, tops, wanted):
        return [add_all(diffs)]


@register
class Silence(TensorLayer):
    """Takes blobs that nothing uses, so that they are not outputs of the net. No tops."""

    bottom_count = (1, None)
    top_count = (0, 0)
    reads_bottom = False

    def reshape(self, *shapes):
        return []

    def forward(self, *bottoms):
        return ()

    def backward(self, diffs, bottoms, tops, wanted):
        return [
            torch.zeros_like(x) if want else None for x, want in zip(bottoms, wanted, strict=True)
        ]


class _AlongAxis(TensorLayer):
    """What Concat and Slice share: an axis, with its legacy name."""

    reads_bottom = False

    def _read_axis(self, shape, legacy):
        options = self.options
        if not options.HasField(legacy):
            return self.canonical_axis(options.axis, shape)
        if options.HasField("axis"):
            raise self.error(f"both axis and {legacy} (its old name) are given; keep axis")
        return self.canonical_axis(getattr(options, legacy), shape, legacy)


@register
class Concat(_AlongAxis):
    """Joins its bottoms along an axis.

    bottoms: equal sizes except on `axis` (default 1); top: the sum of theirs on that axis.
    Options: concat_param. Caffe's ConcatLayer.
    """

    bottom_count = (1, None)
    param_name = "concat_param"

    def reshape(self, *shapes):
        self.axis = axis = self._read_axis(shapes[0], "concat_dim")
        first = list(shapes[0])
        for index, shape in enumerate(shapes):
            if [*shape[:axis], *shape[axis + 1 :]] != first[:axis] + first[axis + 1 :]:
                raise self.shape_error(
                    f"bottom {index} has shape {tuple(shape)}; all sizes but "
                    f"that of axis {axis} must be like {tuple(shapes[0])}"
                )
        self.sizes = [shape[axis] for shape in shapes]
        self.shares_data = len(shapes) == 1
        return [(*first[:axis], sum(self.sizes), *first[axis + 1 :])]

    def forward(self, *bottoms):
        return torch.cat(bottoms, self.axis)

    def backward(self, diffs, bottoms, tops, wanted):
        pieces = diffs[0].split(self.sizes, self.axis)
        return [piece if want else None for piece, want in zip(pieces, wanted, strict=True)]


@register
class Slice(_AlongAxis):
    """Cuts its bottom into tops along an axis: the inverse of Concat.

    bottom: any shape; tops: cut at each slice_point of `axis` (default 1), or into equal parts.
    Options: slice_param. Caffe's SliceLayer.
    """

    top_count = (1, None)
    param_name = "slice_param"

    def reshape(self, *shapes):
        self.shape = shape = tuple(shapes[0])
        self.axis = axis = self._read_axis(shape, "slice_dim")
        self.sizes = self._cut(shape[axis], len(self.layer_param.top))
        self.shares_data = len(self.sizes) == 1
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes]

    def _cut(self, size, count):
        points = list(self.options.slice_point)
        if not points:
            if size % count:
                raise self.shape_error(
                    f"axis {self.axis} of size {size} cannot be cut into "
                    f"{count} equal tops; give slice_point"
                )
            return [size // count] * count
        ends = [0, *points, size]
        if len(points) != count - 1 or any(a >= b for a, b in zip(ends, ends[1:], strict=False)):
            raise self.error(
                f"slice_point {points}: expected {count - 1} growing cuts between 0 "
                f"and {size}, the size of axis {self.axis}, for {count} tops"
            )
        return [b - a for a, b in zip(ends, ends[1:], strict=False)]

    def forward(self, x):
        return tuple(piece.clone() for piece in x.split(self.sizes, self.axis))

    def backward(self, diffs, bottoms, tops, wanted):
        like = next(diff for diff in diffs if diff is not None)
        pieces = [
            like.new_zeros((*self.shape[: self.axis], size, *self.shape[self.axis + 1 :]))
            if diff is None
            else diff
            for diff, size in zip(diffs, self.sizes, strict=True)
        ]
        return [torch.cat(pieces, self.axis)]


@register
class Eltwise(TensorLayer):
    """Combines equally shaped bottoms value by value: their sum, product or maximum.

    bottoms, top: any shape. SUM: y = sum of coeff_i x_i (coeff 1 unless given). PROD: with
    stable_prod_grad the diff of x_i is dy times the product of the others, else dy y / x_i.
    MAX: dy goes to the largest; of equal ones, bottom 1 wins over bottom 0, otherwise the earlier
    one wins. NaN counts only in bottom 1. Options: eltwise_param. Caffe's EltwiseLayer.
    """

    bottom_count = (2, None)
    param_name = "eltwise_param"

    def setup(self, *shapes):
        options = self.options
        if options.coeff and len(options.coeff) != len(shapes):
            raise self.error(
                f"coeff has {len(options.coeff)} values for {len(shapes)} bottoms; "
                "give none or one for each"
            )
        if options.coeff and options.operation == _OPERATION.PROD:
            raise self.error("coeff is for operation SUM; delete it or use SUM")
        self.coeff = list(options.coeff) or [1.0] * len(shapes)
        self.adds = options.operation == _OPERATION.SUM
        self.reads_bottom = options.operation == _OPERATION.PROD
        self.reads_top = options.operation == _OPERATION.PROD and not options.stable_prod_grad

    def reshape(self, *shapes):
        for index, shape in enumerate(shapes):
            if tuple(shape) != tuple(shapes[0]):
                raise self.shape_error(
                    f"bottom {index} has shape {tuple(shape)}; all bottoms "
                    f"must be like the first, {tuple(shapes[0])}"
                )
        return [shapes[0]]

    def forward(self, *bottoms):
        y = bottoms[0]
        if self.options.operation == _OPERATION.PROD:
            for x in bottoms[1:]:
                y = y * x
        elif self.options.operation == _OPERATION.MAX:
            y = self._largest(bottoms)
        else:
            y = scaled(y, self.coeff[0])
            for x, coeff in zip(bottoms[1:], self.coeff[1:], strict=True):
                y = torch.add(y, x, alpha=coeff) if coeff else y
            y = y.clone() if y is bottoms[0] else y
        return y

    def backward(self, diffs, bottoms, tops, wanted):
        return [
            self._gradient(diffs[0], index, bottoms, tops) if want else None
            for index, want in enumerate(wanted)
        ]

    def _gradient(self, dy, index, bottoms, tops):
        if self.options.operation == _OPERATION.SUM:
            return scaled(dy, self.coeff[index])
        if self.options.operation == _OPERATION.MAX:
            return dy.masked_fill(self.winner != index, 0)
        if not self.options.stable_prod_grad:
            return dy * (tops[0] / bottoms[index])
        for other, x in enumerate(bottoms):
            if other != index:
                dy = dy * x
        return dy

    def _largest(self, bottoms):
        """The maximum; `winner` keeps from which bottom it was taken."""
        first = bottoms[0] > bottoms[1]
        y = torch.where(first, *bottoms[:2])
        self.winner = torch.where(first, 0, 1).short()
        for index, x in enumerate(bottoms[2:], 2):
            larger = x > y
            y = torch.where(larger, x, y)
            self.winner.masked_fill_(larger, index)
        return y


class _NewShape(TensorLayer):
    """What Flatten and Reshape share: the same values in another shape."""

    shares_data = True
    reads_bottom = False

    def reshape(self, *shapes):
        self.shape, self.top_shape = tuple(shapes[0]), self._shape_of_top(tuple(shapes[0]))
        if math.prod(self.shape) != math.prod(self.top_shape):
            raise self.shape_error(
                f"cannot make {self.top_shape} of the bottom {self.shape}: "
                f"{math.prod(self.top_shape)} against {math.prod(self.shape)} "
                "values"
            )
        return [self.top_shape]

    def backward(self, diffs, bottoms, tops, wanted):
        return [device.layout(diffs[0].reshape(self.shape))]


@register
class Flatten(_NewShape):
    """Merges the axes from `axis` (default 1) to end_axis (default the last) into one.

    bottom: (N, C, H, W); top: (N, C H W). Options: flatten_param. Caffe's FlattenLayer.
    """

    param_name = "flatten_param"

    def _shape_of_top(self, shape):
        start = self.canonical_axis(self.options.axis, shape)
        end = self.canonical_axis(self.options.end_axis, shape, "end_axis")
        if end < start:
            raise self.error(
                f"end_axis {self.options.end_axis} lies before axis "
                f"{self.options.axis} of the bottom {shape}"
            )
        return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@register
class Reshape(_NewShape):
    """Gives its bottom another shape: 0 copies a size, one -1 takes what is left.

    `shape` stands for the num_axes axes (default -1: all) from `axis` (default 0; negative ones
    count from the end). Options: reshape_param. Caffe's ReshapeLayer.
    """

    param_name = "reshape_param"

    def _shape_of_top(self, shape):
        options, dims = self.options, list(self.options.shape.dim)
        start = options.axis if options.axis >= 0 else len(shape) + options.axis + 1
        end = len(shape) if options.num_axes == -1 else start + options.num_axes
        if not 0 <= start <= end <= len(shape):
            raise self.error(
                f"axis {options.axis} and num_axes {options.num_axes} reach outside "
                f"the bottom's shape {shape}"
            )
        if dims.count(-1) > 1 or min(dims, default=0) < -1:
            raise self.error(f"shape {dims}: sizes must be positive, 0 (copy), or once -1 (infer)")
        if start + max((i for i, dim in enumerate(dims) if dim == 0), default=-1) >= len(shape):
            raise self.error(
                f"shape {dims}: a 0 copies the size of an axis that the bottom "
                f"{shape} does not have"
            )
        sizes = [shape[start + i] if dim == 0 else dim for i, dim in enumerate(dims)]
        top = [*shape[:start], *sizes, *shape[end:]]
        if -1 in sizes:
            known = -math.prod(top)
            if not known or math.prod(shape) % known:
                raise self.shape_error(
                    f"shape {dims}: -1 cannot be inferred, as the bottom "
                    f"{shape} is not a multiple of {known} values"
                )
            top[start + sizes.index(-1)] = math.prod(shape) // known
        return tuple(top)
