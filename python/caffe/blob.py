"""Blobs: named tensors with data and diff, and numpy views of both (Caffe's Blob, SyncedMemory)."""

import math
import weakref

import numpy as np
import torch

from caffe_plain.errors import CaffeError, ShapeError

from . import device

MOST_VALUES = 2**31 - 1  # of one blob, as in Caffe
MOST_AXES = 32  # the same


class SyncedTensor:
    """One tensor, zeros until somebody sets it, and its numpy side while somebody looks at it.

    On the CPU the numpy array shares the tensor's memory, whatever its layout. For a tensor on a
    GPU, or in a precision that numpy lacks, the array is a copy that counts as newer from the
    moment it is handed out: the next use by the engine takes it over. That is what Caffe's
    SyncedMemory does for `mutable_cpu_data`.

    The engine replaces tensors instead of writing into them; an array that somebody still holds
    is then refreshed, so that on the CPU it goes on showing the current values.
    """

    __slots__ = ("_tensor", "_view", "_newer", "_owned", "_rounded")

    def __init__(self):
        self._tensor = None
        self._rounded = None  # (the tensor, its version, a copy of it in another precision)
        self._owned = False  # True once no other blob can hold the same tensor
        self._view = None  # weak reference to the numpy array handed out last
        self._newer = None  # the numpy array, when it holds what the tensor does not yet

    @property
    def is_zero(self):
        """True while nothing has been stored: the value is zero and takes no memory."""
        return self._tensor is None and self._newer is None

    def get(self, blob):
        """The tensor on the device in force; `blob` says what zeros it would be."""
        tensor = self._tensor
        if self._newer is None and tensor is not None and tensor.get_device() == device.ordinal:
            return tensor
        shape, dtype, place = blob.shape, blob.dtype, device.current()
        if self._newer is not None:
            fresh = torch.from_numpy(self._newer).to(place, dtype)
            if self._tensor is not None and self._tensor.shape == fresh.shape:
                self._tensor.copy_(fresh)
            else:
                self._tensor = device.layout(fresh)
            self._newer = None
        if self._tensor is None:
            self._tensor = device.layout(torch.zeros(shape, dtype=dtype, device=place))
        elif self._tensor.device != place:
            self._tensor = self._tensor.to(place)
        return self._tensor

    def set(self, tensor):
        """Store `tensor`; it is kept, not copied."""
        self._newer = None
        self._owned = False
        if self._view is not None:
            view = self._view()
            if view is None or view.shape != tuple(tensor.shape) or not _numpy_can_share(tensor):
                self._view = None
            elif view.__array_interface__["data"][0] != tensor.data_ptr():
                np.copyto(view, tensor.numpy())
        self._tensor = tensor

    def peek(self):
        """The tensor as it is stored: None while zero."""
        return self._tensor

    def put(self, tensor):
        """`set`, or `zero` for None, where that changes anything."""
        if self._tensor is not tensor or self._newer is not None:
            if tensor is None:
                self.zero()
            else:
                self.set(tensor)

    def settle(self, blob, tensor):
        """Move the present values into `tensor`; whether they fit, as they do if it holds them."""
        now = self.get(blob)
        if now is not tensor:
            if now.shape != tensor.shape or now.dtype != tensor.dtype:
                return False
            tensor.copy_(now)
            self.set(tensor)
        return True

    def zero(self):
        """Become zero: without memory, unless somebody holds the array."""
        if self._view is not None and self._view() is not None and self._tensor is not None:
            self._newer = None
            self._tensor.zero_()
        else:
            self._tensor = self._newer = self._view = None

    def own(self, blob):
        """Stop sharing memory with other blobs, so that writing here changes only this one."""
        if not self._owned:
            self._tensor = self.get(blob).clone()
            self._owned = True

    def rounded(self, tensor, dtype):
        """A copy of `tensor`, what `get` gave, in another precision; kept until that changes."""
        kept = self.kept_copy(tensor)
        if kept is None or kept.dtype != dtype:
            kept = tensor.to(dtype)
            self._rounded = (tensor, tensor._version, kept)
        return kept

    def round_into(self, tensor, copy):
        """Make `copy` what `rounded` has kept."""
        copy.copy_(tensor)
        self._rounded = (tensor, tensor._version, copy)

    def kept_copy(self, tensor):
        """The copy that `rounded` made, if it is still one of `tensor`, else None.

        While somebody holds the array, nobody knows what is written there.
        """
        if self._rounded is None or (self._view is not None and self._view() is not None):
            return None
        source, version, kept = self._rounded
        return kept if source is tensor and version == tensor._version else None

    def numpy(self, blob):
        """A writable numpy array of the current values."""
        self._rounded = None
        tensor = self.get(blob)
        view = self._view() if self._view is not None else None
        if _numpy_can_share(tensor):
            if view is None or view.__array_interface__["data"][0] != tensor.data_ptr():
                view = tensor.numpy()
        else:
            values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
            if view is None or view.shape != values.shape or view.dtype != values.dtype:
                view = np.empty(values.shape, values.dtype)
            np.copyto(view, values)
            self._newer = view
        self._view = weakref.ref(view)
        return view


def checked_shape(shape):
    """`shape` as a tuple of ints that a blob can have."""
    shape = tuple(int(size) for size in shape)
    if len(shape) > MOST_AXES:
        raise ShapeError(f"a blob of {len(shape)} axes: at most {MOST_AXES} can be held")
    if any(size < 0 for size in shape):
        raise ShapeError(f"a blob of shape {shape}: sizes must not be negative")
    if max((math.prod(shape), *shape)) > MOST_VALUES:
        raise ShapeError(
            f"a blob of shape {shape} with {math.prod(shape):,} values: at most "
            f"{MOST_VALUES:,} can be held"
        )
    return shape


def _same_order(one, other):
    """Whether two dense tensors of one shape lie alike in memory; axes of size 1 do not count."""
    return one.stride() == other.stride() or all(
        a == b or size == 1
        for a, b, size in zip(one.stride(), other.stride(), one.shape, strict=True)
    )


def _numpy_can_share(tensor):
    return tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16


class Blob:
    """Data and diff of one shape, as pycaffe's Blob; the engine works on the tensors.

    A parameter blob (`master=True`) keeps full precision whatever the activations have.
    """

    __slots__ = ("_shape", "_data", "_diff", "master", "hidden", "__weakref__")

    def __init__(self, *shape, master=False):
        self._shape = checked_shape(shape)
        self._data = SyncedTensor()
        self._diff = SyncedTensor()
        self.master = master
        self.hidden = False  # True: the values were never made, as net.keep_blobs allows

    @property
    def shape(self):
        """The sizes, outermost first: (N, C, H, W) for images."""
        return self._shape

    @property
    def dtype(self):
        """The dtype that zeros of this blob get; a stored tensor brings its own."""
        return device.master_dtype() if self.master else device.dtype()

    @property
    def data(self):
        """The values: a writable numpy array of `shape`, live."""
        if self.hidden:
            raise CaffeError(
                f"the values of this blob of shape {self._shape} were not kept: set "
                "net.keep_blobs = True (or debug_info) before forward to read them"
            )
        return self._data.numpy(self)

    @property
    def diff(self):
        """The gradient: a writable numpy array of `shape`, live."""
        self._diff.own(self)
        return self._diff.numpy(self)

    @property
    def tensor(self):
        """The values as the engine's tensor."""
        tensor = self._data.get(self)
        # parameters shared PERMISSIVEly have their owner's shape
        return tensor if tensor.shape == self._shape else tensor.reshape(self._shape)

    def rounded(self, dtype):
        """The values in another precision, rounded once for as long as they stay the same."""
        tensor = self.tensor
        return tensor if tensor.dtype == dtype else self._data.rounded(tensor, dtype)

    def kept_copy(self):
        """The bf16 copy that `rounded` keeps, if there is one: who changes the values in place
        without PyTorch's knowledge has to change it, too."""
        if self._data._rounded is None:
            return None
        copy = self._data.kept_copy(self.tensor)
        return copy if copy is not None and copy.dtype == torch.bfloat16 else None

    def settle_copy(self, copy):
        """Let `copy` hold the values in its precision, as `rounded` will give it from now on."""
        if self.kept_copy() is not copy:
            self._data.round_into(self.tensor, copy)

    def store(self, what):
        """Where the "data" or the "diff" is kept."""
        return self._data if what == "data" else self._diff

    @tensor.setter
    def tensor(self, tensor):
        if tensor.shape != self._shape:
            self._shape, self._diff = tuple(tensor.shape), SyncedTensor()
        self._data.set(tensor)
        self.hidden = False

    @property
    def diff_tensor(self):
        """The gradient as the engine's tensor."""
        return self._diff.get(self)

    @diff_tensor.setter
    def diff_tensor(self, tensor):
        self._diff.set(tensor)

    @property
    def diff_is_zero(self):
        """True while no gradient has been stored since the blob was made or cleared."""
        return self._diff.is_zero

    def clear_diff(self):
        """Set the gradient to zero."""
        self._diff.zero()

    def accumulate_diff(self, tensor):
        """Add to the gradient; the first addition after `clear_diff` keeps `tensor` itself."""
        data = self._data.get(self)
        if tensor.shape != data.shape:
            tensor = tensor.reshape(data.shape)
        if not self._diff.is_zero:
            self._diff.get(self).add_(tensor)
        elif tensor.dtype != data.dtype or not _same_order(tensor, data):
            self._diff.set(torch.empty_like(data).copy_(tensor))
        elif tensor.stride() != data.stride():
            self._diff.set(tensor.as_strided(data.shape, data.stride()))
        else:
            self._diff.set(tensor)

    def share_data(self, other):
        """Use the values of `other`: one memory for both; the counts must agree."""
        self._check_count(other)
        self._data = other._data

    def share_diff(self, other):
        """Use the gradient of `other`: one memory for both; the counts must agree."""
        self._check_count(other)
        self._diff = other._diff

    def _check_count(self, other):
        if self.count != other.count:
            raise ShapeError(
                f"a blob of shape {self._shape} cannot share the memory of one of "
                f"shape {other._shape}"
            )

    def reshape(self, *shape):
        """Change the shape; values survive when the count stays the same, else they are zero."""
        shape = checked_shape(
            shape[0] if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape
        )
        if shape == self._shape:
            return
        if math.prod(shape) == self.count:
            for store in (self._data, self._diff):
                if not store.is_zero:
                    values = store.get(self).contiguous()
                    store.set(device.layout(values.view(shape)))
        else:
            self._data, self._diff = SyncedTensor(), SyncedTensor()
        self._shape = shape

    @property
    def count(self):
        """The number of values."""
        return math.prod(self._shape)

    num = property(lambda self: self._legacy_size(0), doc="Legacy: the first of 4 sizes.")
    channels = property(lambda self: self._legacy_size(1), doc="Legacy: the second of 4 sizes.")
    height = property(lambda self: self._legacy_size(2), doc="Legacy: the third of 4 sizes.")
    width = property(lambda self: self._legacy_size(3), doc="Legacy: the fourth of 4 sizes.")

    def _legacy_size(self, axis):
        if len(self._shape) > 4:
            raise ShapeError(
                f"num, channels, height and width exist for up to 4 axes; this blob "
                f"has shape {self._shape}: use blob.shape"
            )
        return self._shape[axis] if axis < len(self._shape) else 1


class BlobVec(list):
    """A layer's parameter blobs; Python layers make theirs with `add_blob(*shape)`."""

    def add_blob(self, *shape):
        self.append(Blob(*shape, master=True))
        return self[-1]
