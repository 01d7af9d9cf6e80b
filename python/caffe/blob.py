"""Blobs: named tensors with data and diff, and numpy arrays of both (Caffe's Blob).

`data` and `diff` are C-ordered arrays of Caffe's shape, whatever lies underneath, and stay live:
see synced_memory for how.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from caffe_plain.errors import CaffeError, ShapeError

from . import device
from .synced_memory import SyncedMemory

MOST_VALUES = 2**31 - 1  # of one blob, as in Caffe
MOST_AXES = 32  # the same


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


class Blob:
    """Data and diff of one shape, as pycaffe's Blob; the engine works on the tensors.

    A parameter (`is_param`) is in the master precision in force. Other blobs hold what layers
    store; `master` says that their zeros have full precision, whatever the activations have.
    """

    __slots__ = (
        "_shape",
        "capacity",
        "_data",
        "_diff",
        "is_param",
        "master",
        "hidden",
        "_make",
        "__weakref__",
    )

    def __init__(self, *shape: int, is_param: bool = False):
        self._shape = checked_shape(shape)
        self.capacity = self.count  # the most values that this memory has held
        self._data = SyncedMemory()
        self._diff = SyncedMemory()
        self.is_param = self.master = is_param
        self.hidden = False  # True: the values were not kept, as net.keep_blobs allows
        self._make = None  # what makes them after all

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
        """The values: a writable C-ordered numpy array of `shape`, live."""
        if self.hidden and self._make is not None:
            self._make()
        if self.hidden:
            raise CaffeError(
                f"the values of this blob of shape {self._shape} were not kept: set "
                "net.keep_blobs = True (or debug_info) before forward to read them"
            )
        return self._data.array(self)

    @property
    def diff(self):
        """The gradient: a writable C-ordered numpy array of `shape`, live."""
        return self._diff.array(self)

    @property
    def tensor(self):
        """The values as the engine's tensor; who writes into it calls `show` afterwards."""
        return self._data.get(self)

    def copy_from(self, array: np.ndarray) -> None:
        """Let the values be those of an array of this shape, as if written into `data`."""
        if self.hidden:
            self.data[...] = array
        else:
            self._data.copy_from(array, self)

    def holds(self, tensor: torch.Tensor, version: int) -> bool:
        """Whether `tensor`, what `tensor` was at its `version`, is sure to be the values still."""
        return self._data.holds(tensor, version) and tensor.shape == self._shape

    def rounded(self, dtype):
        """The values in another precision, rounded once for as long as they stay the same."""
        tensor = self._data.get(self)
        return tensor if tensor.dtype == dtype else self._data.rounded(tensor, dtype)

    def kept_copy(self):
        """The bf16 copy that `rounded` keeps, if it is still one of the values, else None."""
        copy = self._data.kept_copy(self.tensor)
        return copy if copy is not None and copy.dtype == torch.bfloat16 else None

    def settle_copy(self, copy):
        """Let `copy` hold the values in its precision, as `rounded` will give it from now on."""
        if self.kept_copy() is not copy:
            self.keep_copy(copy.copy_(self.tensor))

    def keep_copy(self, copy: torch.Tensor) -> None:
        """Let `rounded` give `copy`, which holds the present values in its precision."""
        self._data.keep(self.tensor, copy)

    def store(self, what):
        """Where the "data" or the "diff" is kept."""
        return self._data if what == "data" else self._diff

    @tensor.setter
    def tensor(self, tensor):
        if tensor.shape != self._shape:
            self.reshape(*tensor.shape)
        self._data.set(tensor)
        self.hidden = False

    @property
    def diff_tensor(self):
        """The gradient as the engine's tensor; who writes into it calls `show` afterwards."""
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

    @property
    def diff_fits(self):
        """Whether a gradient of the present count has been stored."""
        diff = self._diff.peek()
        return diff is not None and diff.numel() == self.count

    def show(self, *what):
        """After the tensor of "data", "diff" or both was written into: let arrays of it show that.

        What somebody has written into an array meanwhile is lost: name no tensor without need.
        """
        for name in what:
            self.store(name).show()

    def accumulate_diff(self, tensor):
        """Add to the gradient; the first addition after `clear_diff` keeps `tensor` itself."""
        if not self._diff.is_zero:
            diff = self._diff.stored(self)
            diff.add_(device.in_shape(tensor, diff.shape))
            self._diff.show()
            return
        data = self._data.stored(self)
        tensor = device.in_shape(tensor, data.shape)
        if tensor.dtype != data.dtype or not _same_order(tensor, data):
            tensor = torch.empty_like(data).copy_(tensor)
        elif tensor.stride() != data.stride():
            tensor = tensor.as_strided(data.shape, data.stride())
        self._diff.set(tensor)

    def drop_data(self, make: Callable[[], None]) -> None:
        """Let the values go; make() stores them again if somebody asks for an array of them."""
        self._data, self.hidden, self._make = SyncedMemory(), True, make

    def share_data(self, other):
        """Use the values of `other`: one memory for both; the counts must agree."""
        self._check_count(other)
        self._data, self.capacity, self.hidden = other._data, other.capacity, False

    def share_diff(self, other):
        """Use the gradient of `other`: one memory for both; the counts must agree."""
        self._check_count(other)
        self._diff, self.capacity = other._diff, other.capacity

    def _check_count(self, other):
        if self.count != other.count:
            raise ShapeError(
                f"a blob of shape {self._shape} cannot share the memory of one of "
                f"shape {other._shape}"
            )

    def reshape(self, *shape):
        """Change the shape; as many values survive as fit, unless the memory is too small.

        As in Caffe, memory that has once held as many values serves again; else all are zero.
        """
        shape = checked_shape(
            shape[0] if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape
        )
        count = math.prod(shape)
        if count > self.capacity:
            self._data, self._diff, self.capacity = SyncedMemory(), SyncedMemory(), count
        elif count != self.count:
            self._data.change_count(self)
            self._diff.change_count(self)
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


def show(blobs, *what):
    """`Blob.show` for each: whoever writes into tensors that blobs hold calls this afterwards."""
    for blob in blobs:
        blob.show(*what)


class BlobVec(list):
    """A layer's parameter blobs; Python layers make theirs with `add_blob(*shape)`."""

    def add_blob(self, *shape):
        self.append(Blob(*shape, is_param=True))
        return self[-1]
