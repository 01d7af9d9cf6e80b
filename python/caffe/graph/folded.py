"""Products as inference runs them: with what follows folded into the weights, or done on the way.

A BatchNorm, Scale or Bias by channel changes weights and bias; a sum with another blob and an
activation are done before a value is stored. Weights are folded and packed at first use, for each
shape of the images, and again after one of the parameters has changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .. import device
from ..blob import Blob
from ..catalogue.common import InnerProduct
from ..catalogue.convolution import Convolution
from ..kernels import packed, steps
from ..layer import Shape, TensorLayer
from .build import Node, reshape

_MOST_PACKED = 2  # shapes whose weights are kept: each takes as much memory as the weights


class Folded(TensorLayer):
    """What inference runs instead of several layers. `infer` only."""

    def __init__(self, nodes: Sequence[Node]):
        super().__init__(nodes[0].param, nodes[0].layer.phase)
        self.nodes = nodes
        self.sources: list[Blob] = []  # the parameters
        self._packed: dict[tuple, packed.Run] = {}  # for each shape and dtype
        self._latest: packed.Run | None = None
        self.is_finite = False  # whether all parameters are

    def reshape(self, *shapes: Shape) -> list[Shape]:
        for node in self.nodes:
            reshape(node)
        return [blob.shape for blob in self.nodes[-1].tops]

    def refresh(self) -> bool:
        """Forget what was folded if a parameter has changed; return whether one has."""
        raise NotImplementedError

    def own_call(self) -> steps.Call | None:
        """See TensorLayer."""
        return self._latest if isinstance(self._latest, steps.Call) else None

    def infer(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        x = device.layout(x)
        other = None if other is None else device.layout(device.cast(other, x.dtype))
        self._latest = None
        if not packed.takes(x):
            return self._in_torch(x, other)
        self._latest = self._run(x, other)
        return self._latest(x, other)

    def call_for_one(self, *shapes: Shape) -> steps.Call | None:
        """An own kernel's call for one image, if one is the fastest; shapes: of the bottoms."""
        call, one = self.own_call(), None
        if call is not None:
            return call.for_one()
        x, *other = [steps.new((1, *shape[1:]), device.dtype()).zero_() for shape in shapes]
        if packed.takes(x):
            one = self._run(x, *other)
        return one if isinstance(one, steps.Call) else None

    def _run(self, x, other=None):
        key = (x.shape, x.dtype)
        if key not in self._packed:
            if len(self._packed) >= _MOST_PACKED:
                self._packed.pop(next(iter(self._packed)))
            run = self._pack(x, other)
            self._packed[key] = run.settle() if isinstance(run, steps.Call) else run
        return self._packed[key]

    def forget(self) -> None:
        """Let what was packed go; it is packed again where it is needed."""
        self._packed.clear()

    def _pack(self, x, other):
        """The run(x, other) for tensors like these."""
        raise NotImplementedError

    def _in_torch(self, x, other):
        """The same by PyTorch, for what oneDNN does not take."""
        raise NotImplementedError


class FoldedProduct(Folded):
    """y = activation(W' x + b' + other): what `nodes` compute one after the other.

    bottom 0: x; bottom 1 and `other` exist only if one of the nodes is a sum.
    """

    def __init__(self, nodes: Sequence[Node]):
        super().__init__(nodes)
        self.product = nodes[0].layer
        followers = [node.layer for node in nodes[1:]]
        self.affine = [layer for layer in followers if layer.per_channel() is not None]
        self.activation = next((layer for layer in followers if layer.activation()), None)
        self.sources = [blob for layer in [self.product, *self.affine] for blob in layer.blobs]
        self._seen: list[tuple[torch.Tensor, int]] = []  # their tensors and versions

    def refresh(self) -> bool:
        """See Folded."""
        for blob, (tensor, version) in zip(self.sources, self._seen, strict=False):
            if blob.tensor is not tensor or tensor._version != version:
                break
        else:
            if self._seen:
                return False
        tensors = [blob.tensor for blob in self.sources]
        self._seen = [(tensor, tensor._version) for tensor in tensors]
        self.is_finite = all(math.isfinite(tensor.sum()) for tensor in tensors)
        self._packed.clear()
        return True

    def _activation(self):
        return packed.Activation(*self.activation.activation() if self.activation else ())

    def _folded(self, dtype):
        """Weights (K, ...) and bias (K,), or None if there is none and need be none."""
        weight, *bias = [blob.tensor for blob in self.product.blobs]
        if self.affine:
            factor, shift = torch.ones(1), torch.zeros(1)
            shift = bias[0].double() if bias else shift
            for layer in self.affine:
                factor_here, shift_here = layer.per_channel()
                factor, shift = factor * factor_here, shift * factor_here + shift_here
            weight = weight.double() * self._along_outputs(factor, weight)
            bias = [shift]
        return weight.to(dtype), bias[0].to(dtype) if bias else None

    def _in_torch(self, x, other):
        y = self._plain(x, *self._folded(x.dtype))
        y = y if other is None else y.add_(other)
        return self.activation.forward(y) if self.activation else y


class FoldedConvolution(FoldedProduct):
    """A Convolution of one bottom over two axes, and what follows it."""

    @staticmethod
    def can_begin(layer: Convolution) -> bool:
        """Whether a group may begin with this layer."""
        return len(layer.kernel) == 2 and layer.axis == 1

    @staticmethod
    def can_add(layer: Convolution) -> bool:
        """Whether a sum may follow; oneDNN has none for convolutions by group."""
        return layer.group == 1

    def _along_outputs(self, factor, weight):
        return factor.view(-1, 1, 1, 1)

    def terms(self, dtype: torch.dtype) -> packed.Convolution:
        """What it computes with."""
        return packed.Convolution(*self._folded(dtype), self.product.geometry, self._activation())

    def _pack(self, x, other):
        return packed.convolution(*self.terms(x.dtype), x, other)

    def _plain(self, x, weight, bias):
        return torch.convolution(x, weight, bias, *self.product.geometry)


class FoldedSeparable(Folded):
    """A convolution of each channel by itself, and one of 1 x 1 of what it makes."""

    def __init__(self, first: FoldedConvolution, then: FoldedConvolution):
        super().__init__([*first.nodes, *then.nodes])
        self.first, self.then = first, then
        self.sources = [*first.sources, *then.sources]

    @staticmethod
    def can_join(first: TensorLayer, then: TensorLayer) -> bool:
        """Whether two layers that may begin groups are such convolutions."""
        return (
            type(first) is type(then) is Convolution
            and first.group == first.options.num_output > first.blobs[0].shape[1] == 1
            and then.group == max(*then.kernel, *then.stride) == 1
            and not any(then.pad)
        )

    def refresh(self) -> bool:
        """See Folded."""
        changed = [layer.refresh() for layer in (self.first, self.then)]
        self.is_finite = self.first.is_finite and self.then.is_finite
        if any(changed):
            self._packed.clear()
        return any(changed)

    def _pack(self, x, other):
        terms = (layer.terms(x.dtype) for layer in (self.first, self.then))
        run = packed.separable(*terms, self._in_torch, x, other)
        if isinstance(run, steps.Call):  # the weights of both apart were packed to be compared
            self.first.forget()
            self.then.forget()
        return run

    def _in_torch(self, x, other):
        return self.then.infer(self.first.infer(x), other)


class FoldedInnerProduct(FoldedProduct):
    """An InnerProduct of axis 1, and what follows it."""

    @staticmethod
    def can_begin(layer: InnerProduct) -> bool:
        """Whether a group may begin with this layer."""
        return layer.axis == 1

    @staticmethod
    def can_add(layer: InnerProduct) -> bool:
        """Whether a sum may follow."""
        return False

    def _along_outputs(self, factor, weight):
        return factor if self.product.transpose else factor.view(-1, 1)

    def _pack(self, x, other):
        weight, bias = self._folded(x.dtype)
        return packed.inner_product(self._as_outputs_first(weight), bias, self._activation(), x)

    def _plain(self, x, weight, bias):
        weight = self._as_outputs_first(weight)
        return torch.nn.functional.linear(x.reshape(len(x), self.product.inputs), weight, bias)

    def _as_outputs_first(self, weight):
        return weight.T if self.product.transpose else weight


FOLDED = {Convolution: FoldedConvolution, InnerProduct: FoldedInnerProduct}
