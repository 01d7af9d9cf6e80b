"""The layer contract, the registry of layer types and the check of blob counts."""

from caffe_plain.errors import LayerError, ShapeError, UnknownNameError, nearest

from . import device
from .blob import Blob, BlobVec
from .proto import caffe_pb2

_REGISTRY = {}


def register(cls):
    """Class decorator: make `cls` the implementation of its prototxt type."""
    _REGISTRY[cls.type] = cls
    return cls


def layer_type_list():
    """The names of every known layer type."""
    return sorted(_REGISTRY)


def class_of(type_name):
    """The class registered for a prototxt type."""
    if type_name not in _REGISTRY:
        raise UnknownNameError(
            f"unknown layer type {type_name!r}; " + nearest(type_name, _REGISTRY)
        )
    return _REGISTRY[type_name]


def create(param, phase):
    """The layer object that a LayerParameter describes."""
    try:
        cls = class_of(param.type)
    except UnknownNameError as error:
        raise UnknownNameError(f"layer {param.name!r}: {error}") from None
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

    def __init__(self, layer_param=None):
        """A user's own __init__, where there is one, gets the LayerParameter."""

    def setup(self, bottom, top):
        """Read `param_str`, check the blobs, make parameters. Default: nothing."""

    def reshape(self, bottom, top):
        """Give the tops their shapes. Default: they keep what `setup` gave them."""


class TensorLayer(Layer):
    """A layer of the engine: explicit forward and backward on tensors.

    A type of one's own derives from it and is made known by `caffe.register_layer`; a message for
    its options comes by `caffe.proto.extend` (examples/own_layer).

    The contract, kept by every layer and tested once:

    - `setup(*shapes)` reads the parameters, checks them, makes `self.blobs`.
    - `reshape(*shapes)` returns the shapes of the tops; it has no side effect on the values.
    - `forward(*bottoms)` returns the tensor of the top, or one for each top.
    - `backward(diffs, bottoms, tops, wanted)` returns one diff for each bottom (None where
      `wanted` is False). It is linear in `diffs` and touches nothing else, so several flows can
      pass through one layer in one sweep. A diff is None where no gradient arrived.
    - `backward_params(diffs, bottoms, tops)` adds to the diffs of `self.blobs`. One call with the
      sum of several flows' diffs does the work of all of them.
    - `backward_several(flows, bottoms, tops)`, where a layer has it, does `backward` for several
      (diffs, wanted, counts) at once; those that count add to the diffs of `self.blobs`.
    - On a GPU all become CUDA graphs (see replay), which repeat kernels and nothing of Python. A
      layer that looks at values, works on the CPU or keeps something from one forward to the next
      says `replays = False`; one where it depends overrides `can_replay()`. What forward leaves
      for backward are attributes of `parts()`.

    A blob's diff is overwritten, a parameter's diff accumulates. `bottoms` and `tops` are the
    current values; a layer that runs in place gets the value its bottom had in forward.
    """

    bottom_count = (1, 1)  # fewest and most bottoms; None: no limit
    top_count = (1, 1)
    is_loss = False  # the first top has loss_weight 1 unless told
    auto_tops = False  # missing tops are made up by the net, as for losses in Caffe
    differentiable = True  # False: never back-propagates (data, Accuracy)
    shares_data = False  # each top uses the memory of bottom 0 (Split, Flatten): no forward
    backward_is_whole = False  # True: backward also computes the parameters' diffs (Python)
    makes_fresh_tops = True  # False: tops may be kept by the layer (Input, Data, Python)
    replays = True  # one CUDA graph can hold what it does: no look at values, no state
    reads_bottom = True  # backward reads the bottoms' values
    reads_top = False  # backward reads the tops' values
    param_propagate_down = ()  # for each of `blobs`: whether it learns; the net sets it
    always_propagates = False  # True: backward ignores propagate_down, as Caffe's BatchNorm does
    backward_several = None  # what several flows share is not worth sharing
    param_name = None  # the LayerParameter field with this layer's options

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.type = cls.__dict__.get("type", cls.__name__)

    def __init__(self, param, phase):
        self.layer_param = param
        self.name = param.name
        self.phase = phase
        self.overwrite = False  # the net's permission to compute into the bottom's memory
        self.options = getattr(param, self.param_name) if self.param_name else None

    @property
    def public(self):
        """What pycaffe's `net.layers` shows."""
        return self

    @property
    def training(self):
        return self.phase == caffe_pb2.TRAIN

    def connect(self, bottoms, tops):
        """Get the blobs themselves; only a Python layer wants them."""

    def setup(self, *shapes):
        """Make the parameters. Default: none."""

    def reshape(self, *shapes):
        """The shapes of the tops. Default: one top like the first bottom."""
        return [shapes[0]]

    def forward(self, *bottoms):
        raise NotImplementedError(f"{self.type}.forward")

    def backward(self, diffs, bottoms, tops, wanted):
        raise self.error("has no backward pass; set propagate_down: false on its bottoms")

    def backward_params(self, diffs, bottoms, tops):
        """Add to the parameters' diffs. Default: no parameters."""

    def backward_both(self, diffs, bottoms, tops, wanted):
        """`backward_params` and `backward` for the same diffs; worth a pass of its own for some."""
        self.backward_params(diffs, bottoms, tops)
        return self.backward(diffs, bottoms, tops, wanted)

    def param_specs(self) -> list:
        """The ParamSpecs that its blobs are trained by; blobs beyond these have the defaults."""
        return list(self.layer_param.param)

    def can_replay(self) -> bool:
        """Whether one CUDA graph can hold what the layer does now. Default: `replays`."""
        return self.replays

    def parts(self):
        """The objects whose attributes hold what forward leaves for backward."""
        return [self]

    def after_replay(self):
        """Look at the values of a forward pass that a CUDA graph has run. Default: nothing."""

    def allows_backward(self, index):
        """Whether a gradient to bottom `index` makes sense (not for labels)."""
        return self.differentiable

    def top_changes(self):
        """A later layer changes a top in place: rather read the bottom in backward, as Caffe does.

        Default: nothing. A layer that must read its top gets the changed one, as in Caffe.
        """

    def add_param(self, shape, filler=None):
        """Append a parameter blob, filled by a FillerParameter (zeros without one)."""
        from .fillers import fill

        try:
            blob = Blob(*shape, master=True)
        except ShapeError as error:
            raise self.shape_error(f"parameter {len(self.blobs)}: {error}") from None
        blob.tensor = device.layout(fill(shape, filler, self.name))
        self.blobs.append(blob)

    def canonical_axis(self, axis, shape, what="axis"):
        """`axis` counted from the front; negative ones count from the back."""
        if not -len(shape) <= axis < len(shape):
            raise self.error(f"{what} {axis} is outside the bottom's shape {tuple(shape)}")
        return axis % len(shape)

    def error(self, text):
        return LayerError(f"layer {self.name!r} ({self.type}): {text}")

    def shape_error(self, text):
        return ShapeError(f"layer {self.name!r} ({self.type}): {text}")
