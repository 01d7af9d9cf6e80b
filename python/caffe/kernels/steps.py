"""The engine's own kernels for inference, on images that lie channels last, in fp32 or bf16.

A Call runs one kernel, a Table many in one go. See native/steps.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from . import memory, native
from .cpu import LANES
from .layout import is_rows

PANEL = 2 * LANES  # outputs whose weights lie together
_PIECE = 32  # values of a pixel that lie together in native/tiles.cpp
_SUFFIX = {torch.float32: "", torch.bfloat16: "_bf16"}
_PAIR = tuple[int, int]


class _Axis(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int) for name in ("size", "tops", "kernel", "stride", "pad", "dilation")
    ]


class Step(ctypes.Structure):
    """What a kernel gets: the Step of native/steps.h."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("image", "weights", "bias", "other", "top")],
        *[(name, ctypes.c_void_p) for name in ("first_weights", "first_bias")],
        *[(name, ctypes.c_int) for name in ("count", "inputs", "outputs")],
        ("y", _Axis),
        ("x", _Axis),
        *[(name, ctypes.c_long) for name in ("image_pixel", "top_pixel")],
        *[(name, ctypes.c_bool) for name in ("rectify", "rectify_first")],
    ]


class Windows(NamedTuple):
    """Windows over (height, width): `sizes` is how many there are."""

    image: _PAIR
    sizes: _PAIR
    kernel: _PAIR = (1, 1)
    stride: _PAIR = (1, 1)
    pad: _PAIR = (0, 0)
    dilation: _PAIR = (1, 1)


class Call:
    """A kernel for images of one shape, perhaps after another that makes its rows, `first`.

    call(x, other) is the top, of `shape`, in fresh memory or `into` some, which may be `other`; x
    and `other`, which may be None: of `dtype`, channels last.
    """

    def __init__(
        self,
        kernel: str,
        counts: tuple[int, int, int],
        windows: Windows,
        shape: Sequence[int],
        weights: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        rectify: bool = False,
        first: Call | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        self.dtype = dtype
        self.kernel, self.counts, self.windows, self.shape = kernel, counts, windows, tuple(shape)
        self.weights, self.bias, self.rectify, self.first = weights, bias, rectify, first
        y, x = (_Axis(*axis) for axis in zip(*windows, strict=True))
        pointers = None, _pointer(weights), _pointer(bias), None, None
        before = (_pointer(first.weights), _pointer(first.bias)) if first else (None, None)
        flags = rectify, first is not None and first.rectify
        self.step = Step(*pointers, *before, *counts, y, x, *counts[1:], *flags)

    @property
    def keeps_nan(self) -> bool:
        """Whether what is not finite goes where it would by the definition, and nowhere else."""
        return self.kernel not in ("convolve_winograd", "convolve_tiles")

    def settle(self) -> Call:
        """Move the weights into memory that is to stay."""
        if self.weights is not None:
            self.weights = memory.settled(self.weights)
            self.step.weights = self.weights.data_ptr()
        if self.first is not None:
            self.step.first_weights = self.first.settle().step.weights
        return self

    def for_one(self) -> Call:
        """The same for one image; the weights are shared."""
        counts, shape = (1, *self.counts[1:]), (1, *self.shape[1:])
        weights = self.weights, self.bias, self.rectify
        return Call(self.kernel, counts, self.windows, shape, *weights, self.first, self.dtype)

    def __call__(
        self, x: torch.Tensor, other: torch.Tensor | None = None, into: torch.Tensor | None = None
    ) -> torch.Tensor:
        y, step = new(self.shape, self.dtype) if into is None else into, self.step
        step.image, step.other, step.top = x.data_ptr(), _pointer(other), y.data_ptr()
        getattr(native.library(), self.kernel)(ctypes.byref(step), torch.get_num_threads())
        return y


class Table:
    """Several calls that run one after the other; their `steps` say where values lie."""

    def __init__(self, calls: Sequence[Call]):
        library, count = native.library(), len(calls)
        addresses = [ctypes.cast(getattr(library, call.kernel), ctypes.c_void_p) for call in calls]
        self._kernels = (ctypes.c_void_p * count)(*[address.value for address in addresses])
        self._steps = (Step * count)(*[call.step for call in calls])
        self.steps = list(self._steps)
        self._calls, self._run = calls, library.run_steps

    def run(self) -> None:
        """Run them."""
        self._run(self._kernels, self._steps, len(self.steps), torch.get_num_threads())


def new(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Memory for values, channels last if `shape` is (N, C, H, W)."""
    if len(shape) == 4:
        return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
    return torch.empty(shape, dtype=dtype)


def convolutions(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    windows: Windows,
    groups: int,
    rectify: bool,
    count: int,
) -> dict[str, Callable[[], Call]]:
    """Makers of the calls, by name, that convolve `count` images.

    A call gives x * weight + bias + other, or its ReLU; it holds its own copy of the weights.
    """
    outputs, inputs = len(weight), weight.shape[1] * groups
    call = (count, inputs, outputs), windows, (count, outputs, *windows.sizes)
    dtype = weight.dtype
    found: dict[str, Callable[[], Call]] = {}

    def make(kernel, pack=_packed):
        packed = pack(weight), panels_of(bias, outputs), rectify
        return Call(kernel + _SUFFIX[dtype], *call, *packed, dtype=dtype)

    if groups == 1 and dtype == torch.float32:
        found["own"] = partial(make, "convolve_packed")
        if windows.kernel == (1, 1) and windows.pad == (0, 0):
            found["own product"] = partial(make, "multiply_packed")
        rules = windows.kernel, windows.stride, windows.dilation
        if rules == ((3, 3), (1, 1), (1, 1)) and inputs % LANES == 0:
            pack = partial(winograd_weights, new=memory.new)
            found["own Winograd"] = partial(make, "convolve_winograd", pack)
    if groups == 1:
        if native.library().has_tiles():
            pack = partial(_in_pieces, windows=windows)
            found["own tiles"] = partial(make, "convolve_tiles", pack)
        return found
    if groups == inputs == outputs and inputs % LANES == 0:
        kernel = "convolve_channels" + _SUFFIX[dtype]
        bias = weight.new_zeros(outputs) if bias is None else bias
        last = weight[:, 0].permute(1, 2, 0)  # (h, w, C)

        def make_by_channel():
            return Call(
                kernel, *call, last.float().contiguous(), bias.float(), rectify, dtype=dtype
            )

        return {"own": make_by_channel}
    return {}


def separable(first: Call, then: Call) -> Call:
    """Both calls in one: a convolution by channel, and a product of 1 x 1 of what it makes."""
    counts = *first.counts[:2], then.counts[2]
    weights = then.weights, then.bias, then.rectify
    return Call(then.kernel, counts, first.windows, then.shape, *weights, first, then.dtype)


def product(
    weight: torch.Tensor, bias: torch.Tensor | None, rectify: bool, shape: Sequence[int]
) -> Call:
    """x W^T + bias, or its ReLU, (N, K); x: (N, C, ...), of `shape`; weight: (K, C ...)."""
    outputs, inputs = weight.shape
    counts, windows, top = (shape[0], inputs, outputs), Windows((1, 1), (1, 1)), (shape[0], outputs)
    pixels = weight.reshape(outputs, *(shape[1:] if len(shape) == 4 else (inputs, 1, 1)))
    if weight.dtype == torch.bfloat16:
        rows = pixels.permute(0, 2, 3, 1).reshape(outputs, inputs, 1, 1)
        packed = _in_pieces(rows, windows), panels_of(bias, outputs), rectify
        return Call("convolve_tiles_bf16", counts, windows, top, *packed, dtype=weight.dtype)
    packed = _packed(pixels), panels_of(bias, outputs), rectify
    return Call("multiply_packed", counts, windows, top, *packed)


def pool(
    kind: str, windows: Windows, shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Call:
    """The "largest" or "average" of each window of images of `shape`, (N, C, H, W); see fits."""
    count, channels = shape[:2]
    counts, top = (count, channels, channels), (count, channels, *windows.sizes)
    return Call(f"pool_{kind}{_SUFFIX[dtype]}", counts, windows, top, dtype=dtype)


def softmax(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Call:
    """The softmax over the channels of x, of `shape`: (N, C) or (N, C, H, W)."""
    count, channels = shape[:2]
    image = tuple(shape[2:]) or (1, 1)
    counts, windows = (count, channels, channels), Windows(image, image)
    return Call(f"softmax{_SUFFIX[dtype]}", counts, windows, shape, dtype=dtype)


def copy(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Call:
    """Copies images of `shape`; the step may say that the top's pixels lie further apart."""
    return pool("average", Windows(shape[2:], shape[2:]), shape, dtype)


def takes(dtype: torch.dtype) -> bool:
    """Whether the kernels are there and take values of that type, bf16 where AMX is."""
    library = native.library()
    if library is None or dtype not in _SUFFIX:
        return False
    return dtype == torch.float32 or library.has_tiles()


def fits(x: torch.Tensor) -> bool:
    """Whether the kernels are there and take x; those by channel want more: fits_channels."""
    return x.is_cpu and x.numel() > 0 and takes(x.dtype)


def fits_channels(x: torch.Tensor) -> bool:
    """Whether the kernels that go by channel are there and take the images x, (N, C, H, W)."""
    return fits(x) and is_rows(x) and x.shape[1] % LANES == 0


def winograd_weights(
    weight: torch.Tensor, of_gradient: bool = False, new: Callable[..., torch.Tensor] = torch.empty
) -> torch.Tensor:
    """Weights (K, C, 3, 3) as the kernel convolve_winograd needs them: (16, panels, C, PANEL).

    of_gradient: for what makes the gradient to data of that to tops, with C and K swapped.
    new: makes memory of a shape and dtype.
    """
    (outputs, inputs), (output, input, y, x) = weight.shape[:2], weight.stride()
    begin = weight.data_ptr()
    if of_gradient:  # the windows turned round
        begin += (2 * y + 2 * x) * weight.element_size()
        outputs, inputs, output, input, y, x = inputs, outputs, input, output, -y, -x
    packed = new((16, -(-outputs // PANEL), inputs, PANEL), dtype=weight.dtype)
    native.library().transform_weights(
        *(begin, output, input, y, x, outputs, inputs, packed.data_ptr()), torch.get_num_threads()
    )
    return packed


def panels_of(bias: torch.Tensor | None, outputs: int) -> torch.Tensor:
    """A bias (K,) for whole panels: (panels PANEL) in fp32, zeros where there is none."""
    shifts = torch.zeros(-(-outputs // PANEL) * PANEL, dtype=torch.float32)
    if bias is not None:
        shifts[:outputs] = bias
    return shifts


def _packed(weight):
    """Weights (K, C, h, w) as (panels, h, w, C, PANEL), zeros where there are none."""
    whole, rest = divmod(len(weight), PANEL)
    shape = whole + (rest > 0), *weight.shape[2:], weight.shape[1], PANEL
    panels = memory.new(shape, weight.dtype)
    last = weight.permute(2, 3, 1, 0)  # (h, w, C, K)
    panels[:whole] = last[..., : whole * PANEL].unflatten(3, (whole, PANEL)).movedim(3, 0)
    if rest:
        panels[whole] = 0
        panels[whole, ..., :rest] = last[..., whole * PANEL :]
    return panels


def _in_pieces(weight, windows):
    """Weights (K, C, h, w) as native/tiles.cpp needs them."""
    outputs, inputs, height, width = weight.shape
    runs = (height, width * inputs) if windows.dilation[1] == 1 else (height * width, inputs)
    rows = weight.permute(0, 2, 3, 1).reshape(outputs, *runs)
    rows = torch.nn.functional.pad(rows, (0, -runs[1] % _PIECE, 0, 0, 0, -outputs % PANEL))
    pieces = rows.reshape(len(rows) // PANEL, 2, LANES, rows[0].numel() // _PIECE, _PIECE)
    if weight.dtype == torch.float32:
        pieces = pieces.unflatten(4, (2, LANES)).transpose(4, 5)
    else:
        pieces = pieces.unflatten(4, (LANES, 2))
    # (parts, panels, halves, outputs, pieces, pairs, 2)
    packed = torch.stack(_parts(pieces)).permute(1, 4, 0, 2, 5, 3, 6)
    return memory.new(packed.shape, packed.dtype).copy_(packed)


def _parts(values):
    """Tensors in bf16 whose sum is `values`: three of fp32."""
    if values.dtype == torch.bfloat16:
        return [values]
    parts: list[torch.Tensor] = []
    for _ in range(3):
        parts.append(values.bfloat16())
        values = values - parts[-1].float()
    return parts


def _pointer(tensor):
    return None if tensor is None else tensor.data_ptr()
