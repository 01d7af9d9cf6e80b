"""The layer contract, the registry of layer types and the check of blob counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from caffe_plain.errors import LayerError, ShapeError, UnknownNameError, nearest

from . import device
from .blob import Blob, BlobVec
from .kernels.steps import Call
from .proto import caffe_pb2, forks, raw

_REGISTRY = {}

Shape = Sequence[int]
Tensors = Sequence[torch.Tensor]
Diffs = Sequence[torch.Tensor | None]  # None where no gradient arrived, or none is wanted


def register(
    cls: type[TensorLayer] | None = None, *, param: str | None = None
) -> type[TensorLayer] | Callable[[type[TensorLayer]], type[TensorLayer]]:
    """Class decorator: make `cls` the implementation of its prototxt type.

    With `param`, its layers may carry a block of that name and of any content, which they get as
    the dict `self.options`. Raises ParseError where a message declares that name.
    """
    if cls is None:
        return partial(register, param=param)
    if param is not None:
        raw.declare(param)
        cls.param_name = param
    _REGISTRY[cls.type] = cls
    return cls


def layer_type_list() -> list[str]:
    """The names of every known layer type."""
    return sorted(_REGISTRY)


def class_of(type_name: str) -> type[TensorLayer]:
    """The class registered for a prototxt type."""
    if type_name not in _REGISTRY:
        hint = forks.known_from(type_name) or nearest(type_name, _REGISTRY)
        raise UnknownNameError(f"unknown layer type {type_name!r}; {hint}")
    return _REGISTRY[type_name]


def create(param: caffe_pb2.LayerParameter, phase: int) -> TensorLayer:
    """The layer object that a LayerParameter describes."""
    try:
        cls = class_of(param.type)
    except UnknownNameError as error:
        raise UnknownNameError(f"layer {param.name!r}: {error}") from None
    _check_fields(param, cls)
    _check_count(param, "bottom", len(param.bottom), cls.bottom_count)
    if not (cls.auto_tops and len(param.top) < cls.top_count[0]):
        _check_count(param, "top", len(param.top), cls.top_count)
    return cls(param, phase)


def _check_count(param, kind, found, allowed):
    low, high = allowed
    if low <= found and (high is None or found <= high):
        return
    expected = (
        str(low) if low == high else f"at least {low}" if high is None else f"{low} to {high}"
    )
    raise LayerError(
        f"layer {param.name!r} ({param.type}) takes {expected} {kind} blobs; "
        f"found {found}: {list(getattr(param, kind))}"
    )


def _check_fields(param, cls):
    """Refuse a fork's fields that would change the result of a layer that does not know them."""
    for block in param.raw_block:
        if not raw.is_declared(block.name):
            raise LayerError(
                f"layer {param.name!r} ({param.type}): {forks.known_from(block.name)}, and not "
                "supported here"
            )
    for name in forks.not_understood(param, cls.fork_fields):
        raise LayerError(
            f"layer {param.name!r} ({param.type}): {name} changes what the layer computes and is "
            f"not supported; {forks.known_from(name) or 'it is known from a fork of Caffe'}"
        )


class Layer:
    """What pycaffe shows of any layer: `type`, `blobs`, `phase`, and the base of Python layers.

    A user's Python layer derives from it (as `caffe.Layer`) and defines setup(bottom, top),
    reshape(bottom, top), forward(bottom, top) and backward(top, propagate_down, bottom).
    """

    type = "Python"
    param_str = ""
    phase = caffe_pb2.TEST

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        made.blobs = BlobVec()
        return made

    def __init__(self, layer_param: caffe_pb2.LayerParameter | None = None):
        """A user's own __init__, if there is one, gets the LayerParameter."""

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read `param_str`, check the blobs, make parameters. Default: nothing."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes. Default: they keep what `setup` gave them."""


class TensorLayer(Layer):
    """A layer of the engine: explicit forward and backward on tensors.

    A type of one's own derives from it and is made known by `caffe.register_layer`; its options
    come in a message (`caffe.proto.extend`, examples/own_layer) or as a dict (register's `param`).

    The contract, kept by every layer and tested once:

    - `setup(*shapes)` reads the parameters, checks them, makes `self.blobs`.
    - `reshape(*shapes)` returns the shapes of the tops; it has no side effect on the values.
    - `forward(*bottoms)` returns the tensor of the top, or one for each top.
    - `backward(diffs, bottoms, tops, wanted)` returns one diff for each bottom (None where
      `wanted` is False). It is linear in `diffs` and touches nothing else, so several flows can
      pass through one layer in one sweep. A diff is None where no gradient arrived.
    - `backward_params(diffs, bottoms, tops)` adds to the diffs of `self.blobs`. One call with the
      sum of several flows' diffs does the work of all of them.
    - `backward_several(flows, bottoms, tops)`, if a layer has it, does `backward` for several
      (diffs, wanted, counts) at once; those that count add to the diffs of `self.blobs`.
    - `infer(*bottoms)` is forward where no backward follows, and nothing need be left for it.
    - On a GPU all of these become CUDA graphs (see replay), which repeat kernels and no Python. A
      layer that reads values, works on the CPU or keeps state from one forward to the next sets
      `replays = False`; if it depends, it overrides `can_replay()`. What forward leaves for
      backward is in attributes of `parts()`.

    A blob's diff is overwritten, a parameter's diff accumulates. `bottoms` and `tops` are the
    current values, which somebody may have edited since forward; a layer that runs in place gets
    the value its bottom had in forward.
    """

    bottom_count = (1, 1)  # fewest and most bottoms; None: no limit
    top_count = (1, 1)
    is_loss = False  # the first top has loss_weight 1 unless told
    auto_tops = False  # missing tops are made up by the net, as for losses in Caffe
    differentiable = True  # False: never back-propagates (data, Accuracy)
    shares_data = False  # each top uses the memory of bottom 0 (Split, Flatten): no forward
    backward_is_whole = False  # True: backward also computes the parameters' diffs (Python)
    makes_fresh_tops = True  # False: tops may be kept by the layer (Input, Data, Python)
    replays = True  # one CUDA graph can record what it does: it reads no values, keeps no state
    reads_bottom = True  # backward reads the bottoms' values
    reads_top = False  # backward reads the tops' values
    param_propagate_down = ()  # for each of `blobs`: whether it learns; the net sets it
    always_propagates = False  # True: backward ignores propagate_down, as Caffe's BatchNorm does
    backward_several = None  # what several flows share is not worth sharing
    param_name = None  # the LayerParameter field with this layer's options, or its raw block
    fork_fields = ()  # of the fields that some forks add to messages, those it understands

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.type = cls.__dict__.get("type", cls.__name__)

    def __init__(self, param: caffe_pb2.LayerParameter, phase: int):
        self.layer_param = param
        self.name = param.name
        self.phase = phase
        self.overwrite = False  # the net's permission to compute into the bottom's memory
        self.options = self._options() if self.param_name else None

    def _options(self):
        read = raw.get if raw.is_declared(self.param_name) else getattr
        return read(self.layer_param, self.param_name)

    @property
    def public(self) -> Layer:
        """What pycaffe's `net.layers` shows."""
        return self

    @property
    def training(self) -> bool:
        """Whether the layer runs in a net of phase TRAIN."""
        return self.phase == caffe_pb2.TRAIN

    def connect(self, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> None:
        """Get the blobs themselves: for layers whose users or parameters meet them."""

    def setup(self, *shapes: Shape) -> None:
        """Make the parameters. Default: none."""

    def reshape(self, *shapes: Shape) -> list[Shape]:
        """The shapes of the tops. Default: one top like the first bottom."""
        return [shapes[0]]

    def forward(self, *bottoms: torch.Tensor) -> torch.Tensor | Tensors:
        """The top's tensor, or a sequence with one for each top."""
        raise NotImplementedError(f"{self.type}.forward")

    def infer(self, *bottoms: torch.Tensor) -> torch.Tensor | Tensors:
        """What forward returns, where no backward follows."""
        return self.forward(*bottoms)

    def own_call(self) -> Call | None:
        """The kernel that did all of what the last `infer` did, if one of kernels/steps did."""
        return None

    def per_channel(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(factor, shift), (C,) each and in double precision, if forward is x factor + shift.

        By channel, axis 1, in the TEST phase; None: it is something else.
        """
        return None

    def activation(self) -> tuple[str, tuple[float, ...]] | None:
        """What oneDNN calls it, with its numbers, if the layer is one that oneDNN has."""
        return None

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        """One diff for each bottom, linear in `diffs`, the diffs of the tops."""
        raise self.error("has no backward pass; set propagate_down: false on its bottoms")

    def backward_params(self, diffs: Diffs, bottoms: Tensors, tops: Tensors) -> None:
        """Add to the parameters' diffs. Default: no parameters."""

    def backward_both(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        """`backward_params` and `backward` for the same diffs; some layers do both in one pass."""
        self.backward_params(diffs, bottoms, tops)
        return self.backward(diffs, bottoms, tops, wanted)

    def param_specs(self) -> list[caffe_pb2.ParamSpec]:
        """The ParamSpecs that its blobs are trained by; blobs beyond these have the defaults."""
        return list(self.layer_param.param)

    def can_replay(self) -> bool:
        """Whether one CUDA graph can hold what the layer does now. Default: `replays`."""
        return self.replays

    @property
    def repeats(self) -> bool:
        """Whether forward, on the same values again, makes the same and changes nothing else.

        Default: `replays`, as what keeps state or works outside of the net does not.
        """
        return self.replays

    def parts(self) -> list[Any]:
        """The objects whose attributes hold what forward leaves for backward."""
        return [self]

    def after_replay(self) -> None:
        """Check the values of a forward pass that a CUDA graph has run. Default: nothing."""

    def allows_backward(self, index: int) -> bool:
        """Whether a gradient to bottom `index` makes sense (not for labels)."""
        return self.differentiable

    def add_param(self, shape: Shape, filler: caffe_pb2.FillerParameter | None = None) -> None:
        """Append a parameter blob, filled by a FillerParameter (zeros without one)."""
        from .fillers import fill

        try:
            blob = Blob(*shape, is_param=True)
        except ShapeError as error:
            raise self.shape_error(f"parameter {len(self.blobs)}: {error}") from None
        blob.tensor = device.layout(fill(shape, filler, self.name))
        self.blobs.append(blob)

    def canonical_axis(self, axis: int, shape: Shape, what: str = "axis") -> int:
        """`axis` counted from the front; negative ones count from the back."""
        if not -len(shape) <= axis < len(shape):
            raise self.error(f"{what} {axis} is outside the bottom's shape {tuple(shape)}")
        return axis % len(shape)

    def error(self, text: str) -> LayerError:
        """The error to raise, which names the layer."""
        return LayerError(f"layer {self.name!r} ({self.type}): {text}")

    def shape_error(self, text: str) -> ShapeError:
        """The error to raise about shapes, which names the layer."""
        return ShapeError(f"layer {self.name!r} ({self.type}): {text}")
