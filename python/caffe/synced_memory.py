"""SyncedMemory: the values of blobs, as the engine's tensor and as arrays that people hold.

Caffe's SyncedMemory keeps a CPU side and a GPU side in step. This one has a tensor, in whatever
layout, precision and place suits the engine, and a mirror: C-ordered memory of the CPU, which all
arrays that are handed out look at. The rules are the same on every device:

- The mirror is made when somebody asks for an array. It is dropped when the engine stores other
  values while no array is alive, so who holds nothing pays nothing. An array is alive for as long
  as it or a view of it exists: all refer to one base, and the count of its references tells.
- Before the engine reads, what was written into the mirror becomes a new tensor. No tensor is
  written into, so what a layer has saved for its backward stays as it was.
- After the engine has written, arrays that are alive get the values: at once where it stores a
  tensor (`set`), by `show` where it writes into the tensor that it has.
- Several blobs may use one memory, each in its own shape: shared parameters, and the tops that
  share their bottom's memory.
- Parameters (`Blob.is_param`) are in the master precision in force: who reads one after
  `set_precision` finds it converted.
- A copy of the values, in another precision or another shape, is kept with the tensor it was made
  of and that tensor's version, and is good while both are the same. So whoever writes into a tensor
  must count its version up, as PyTorch does; kernels that PyTorch knows nothing of call
  `increment_version`. Who has brought a copy up to date as well says so by `keep`.
"""

import math
import sys

import numpy as np
import torch

from . import device


class SyncedMemory:
    """One tensor, zeros until somebody sets it, and its mirror while somebody looks at it."""

    __slots__ = (
        "_tensor",
        "_rounded",
        "_reshaped",
        "_mirror",
        "_base",
        "_seen",
        "_open",
        "_version",
    )

    def __init__(self):
        self._tensor = None  # None: zeros that take no memory, unless there is a mirror
        self._rounded = None  # (the tensor, its version, a copy of it in another precision)
        self._reshaped = None  # (the tensor, its version, a copy of another shape, its version)
        self._mirror = None  # a C-ordered tensor on the CPU: the engine's view of `_base`
        self._base = None  # its memory, as the array that all arrays handed out are views of
        self._seen = None  # what the mirror held when the two were last in step; None: unknown
        self._open = False  # whether the mirror may hold what the tensor does not yet
        self._version = None  # of the tensor, when the two were last in step

    # ---- the engine's side -------------------------------------------------------------------

    @property
    def is_zero(self):
        """True while nothing has been stored: the value is zero and takes no memory."""
        return self._tensor is None and self._mirror is None

    def get(self, blob):
        """The values as a tensor of the shape of `blob`, on the device in force."""
        tensor = self._tensor
        if self._open or tensor is None or not _is_in_force(tensor, blob):
            tensor = self.stored(blob)
        return tensor if tensor.shape == blob.shape else self._in_shape(blob.shape)

    def stored(self, blob):
        """The tensor itself, in the shape in which it was stored; who writes into it calls `show`.

        `blob` says what zeros it would be.
        """
        tensor = self._tensor
        if not self._open and tensor is not None and _is_in_force(tensor, blob):
            return tensor
        if self._open and not device.is_recording():
            self._take_over(blob)
        if self._tensor is None:
            zeros = torch.zeros(blob.shape, dtype=blob.dtype, device=device.current())
            self._tensor = device.layout(zeros)
        elif not _is_in_force(self._tensor, blob):
            self._bring_in_force(blob)
        return self._tensor

    def _bring_in_force(self, blob):
        dtype = blob.dtype if blob.is_param else self._tensor.dtype
        if dtype != self._tensor.dtype and not self._is_alive():
            self._forget_mirror()  # the next is of this precision
        self._tensor = self._tensor.to(device.current(), dtype)
        self._version = self._tensor._version

    def set(self, tensor):
        """Store `tensor`; it is kept, not copied."""
        if self._mirror is None:
            self._tensor = tensor
        elif self._tensor is not tensor or tensor._version != self._version:
            self._tensor = tensor
            self.show()

    def show(self):
        """After the tensor was written into: let the arrays that are alive have its values."""
        if self._reshaped:
            self._settle_reshaped()
        if self._mirror is None or self._tensor is None or device.is_recording():
            return
        if self._is_alive() and self._tensor.numel() <= self._mirror.numel():
            self._part(self._tensor.shape).copy_(self._tensor)
            self._in_step()
        else:
            self._forget_mirror()

    def zero(self):
        """Become zero: without memory, unless an array is alive."""
        self._tensor = None
        if self._is_alive():
            self._mirror.zero_()
            self._seen = None
        elif self._mirror is not None:
            self._forget_mirror()

    def peek(self):
        """The tensor as it is stored: None while zero."""
        return self._tensor

    def copy_from(self, array, blob):
        """Store a copy of an array of the shape of `blob`, as if it were written into `array`."""
        if array.dtype != np.float32 or not array.flags.c_contiguous or not array.flags.writeable:
            self.array(blob)[...] = array
        else:
            values = torch.from_numpy(array)
            self.set(device.copied(values, self._written_dtype(blob, values)))

    def holds(self, tensor, version):
        """Whether `tensor` is what `get` gave, not written into since, nor by way of an array."""
        return self._tensor is tensor and tensor._version == version and not self._open

    def put(self, tensor):
        """Hold `tensor`, which may have other values than before; None: zero."""
        if tensor is not None:
            self._tensor = tensor
            self.show()
        elif not self.is_zero:
            self.zero()

    def settle(self, blob, tensor):
        """Move the present values into `tensor`; whether they fit, as they do if it holds them."""
        now = self.get(blob)
        if now is not tensor:
            if now.shape != tensor.shape or now.dtype != tensor.dtype:
                return False
            tensor.copy_(now)
            if now is self._tensor:  # arrays show what they showed, as it was written
                in_step = now._version == self._version
                self._tensor, self._version = tensor, tensor._version if in_step else None
            else:
                self._keep_reshaped(tensor)
        return True

    def change_count(self, blob):
        """Before `blob` takes a shape of another count: what is there stays, as far as it goes."""
        if self._open:
            self.stored(blob)
            if self._is_alive():
                self._tensor = self._seen = None

    def _in_shape(self, shape):
        """The values in another shape: as many as there are, then zeros."""
        tensor = self._tensor
        if self._reshaped:
            source, version, values, _ = self._reshaped
            if source is tensor and version == tensor._version and values.shape == shape:
                return values
        count, values = math.prod(shape), tensor.reshape(-1)
        if count > values.numel():
            values = torch.cat([values, values.new_zeros(count - values.numel())])
        values = device.layout(values[:count].view(shape))
        self._keep_reshaped(values)
        return values

    def _keep_reshaped(self, values):
        self._reshaped = (self._tensor, self._tensor._version, values, values._version)

    def _settle_reshaped(self):
        """Drop the copy of another shape; where it was written into, it becomes the tensor."""
        (tensor, _, values, version), self._reshaped = self._reshaped, None
        if (
            tensor is self._tensor
            and values._version != version
            and values.numel() == tensor.numel()
            and values.data_ptr() != tensor.data_ptr()
        ):
            self._tensor = values

    # ---- copies in another precision ---------------------------------------------------------

    def rounded(self, tensor, dtype):
        """A copy of `tensor`, what `get` gave, in another precision; kept until that changes."""
        kept = self.kept_copy(tensor)
        if kept is None or kept.dtype != dtype:
            kept = tensor.to(dtype)
            self.keep(tensor, kept)
        return kept

    def keep(self, tensor, copy):
        """Let `copy`, which holds the present values of `tensor`, be what `rounded` gives."""
        self._rounded = (tensor, tensor._version, copy)

    def kept_copy(self, tensor):
        """The copy that `rounded` made, if it is still one of `tensor`, else None."""
        if self._rounded is None:
            return None
        source, version, kept = self._rounded
        return kept if source is tensor and version == tensor._version else None

    def forget_copies(self):
        """Drop copies in another precision or shape: they were never computed."""
        self._rounded = self._reshaped = None

    # ---- the arrays' side --------------------------------------------------------------------

    def array(self, blob):
        """A new array object, of the shape of `blob`, over the mirror of the current values."""
        if self._tensor is not None and not _is_in_force(self._tensor, blob):
            self.stored(blob)
        base, tensor, shape = self._base, self._tensor, blob.shape
        if base is None or (tensor is not None and tensor._version != self._version):
            base = self._current_base(blob)
        if base.shape != shape:
            if base.size < blob.count:
                base = self._current_base(blob)
            base = base.reshape(-1)[: blob.count].reshape(shape)
        self._open = True
        return base.view()

    def _current_base(self, blob):
        if self._mirror is not None and self._is_behind():
            self.show()
        if self._mirror is None or self._mirror.numel() < blob.count:
            self._make_mirror(blob)
        return self._base

    def _make_mirror(self, blob):
        """Room for all that the memory of `blob` has ever held, with the present values."""
        tensor = self._tensor
        dtype = blob.dtype if tensor is None else tensor.dtype
        kind = np.float64 if dtype == torch.float64 else np.float32
        fits = blob.capacity == blob.count
        self._base = np.zeros(blob.shape if fits else blob.capacity, kind)
        self._mirror, self._seen = torch.from_numpy(self._base), None
        if tensor is not None:
            values = tensor if tensor.numel() == blob.count else self.get(blob)
            self._part(values.shape).copy_(values)
            self._version = tensor._version

    def _is_alive(self):
        # the three that are not an array's: this object's own, the mirror's, and the argument
        return self._base is not None and sys.getrefcount(self._base) > 3

    def _is_behind(self):
        """Whether the engine has written into the tensor since it and the mirror were in step."""
        return self._tensor is not None and self._tensor._version != self._version

    def _take_over(self, blob):
        """Make what was written into the mirror a new tensor."""
        if self._is_behind():
            self.show()
            return
        if self._seen is None or not _same_bits(self._mirror, self._seen):
            before, shape = self._tensor, blob.shape
            if before is not None and before.numel() == blob.count:
                shape = before.shape
            values = self._part(shape)
            self._tensor = device.copied(values, self._written_dtype(blob, values))
        self._in_step()

    def _written_dtype(self, blob, values):
        """The dtype in which written values are kept: that of those before, if it is in use."""
        if self._tensor is None:
            return blob.dtype
        before = self._tensor.dtype
        is_past = before is torch.bfloat16 and device.dtype() is not before
        return values.dtype if is_past else before

    def _in_step(self):
        """Remember that the mirror and the tensor hold the same."""
        self._version, self._open = self._tensor._version, self._is_alive()
        self._seen = self._mirror.clone() if self._open else None

    def _part(self, shape):
        """The first values of the mirror, as many as `shape` has."""
        mirror = self._mirror
        return mirror if mirror.shape == shape else mirror.view(-1)[: math.prod(shape)].view(shape)

    def _forget_mirror(self):
        self._mirror = self._base = self._seen = None
        self._open = False


def _is_in_force(tensor, blob):
    """Whether a tensor is on the device in force and, a parameter's, in the master precision."""
    return tensor.get_device() == device.ordinal and (
        not blob.is_param or tensor.dtype is device.master_dtype()
    )


def _same_bits(one, other):
    """Whether two C-ordered tensors of one shape and precision are alike, NaN and -0 included."""
    kind = torch.int64 if one.dtype == torch.float64 else torch.int32
    return torch.equal(one.view(kind), other.view(kind))
