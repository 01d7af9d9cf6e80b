"""Where and how the engine computes: device, precision, memory layout and random numbers.

Layers do not read these settings: tensors carry them. They are process-wide, like Caffe's mode.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from caffe_plain.errors import CaffeError

PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}

ordinal = -1  # of the device in force, as tensors number it: -1 is the CPU, others are GPUs
_device = torch.device("cpu")
_gpu_index = 0
_precision = "fp32"
_generators: dict[torch.device, torch.Generator] = {}
_seed: int | None = None
_offset = 0  # of the seed of this process's own draws
_solver_count = 1
_solver_rank = 0


def set_mode_cpu() -> None:
    """Compute on the CPU (the default)."""
    global _device, ordinal
    _device, ordinal = torch.device("cpu"), -1


def set_mode_gpu() -> None:
    """Compute on the GPU that `set_device` chose, by default GPU 0."""
    if not torch.cuda.is_available():
        raise CaffeError(
            "set_mode_gpu: no CUDA device is visible to PyTorch "
            f"{torch.__version__}; install a CUDA build and a driver, or use set_mode_cpu()"
        )
    _enter_gpu(_gpu_index)
    set_precision(_precision)  # PyTorch's own fp32 convolutions are tf32


def set_device(index: int) -> None:
    """Choose the GPU that `set_mode_gpu` uses; in GPU mode, compute on it from now on."""
    global _gpu_index
    count = torch.cuda.device_count()
    if count and not 0 <= index < count:
        raise CaffeError(f"set_device({index}): {count} GPUs are visible, 0 to {count - 1}")
    _gpu_index = index
    if ordinal >= 0:
        _enter_gpu(index)


def _enter_gpu(index):
    global _device, ordinal
    torch.cuda.set_device(index)  # first: what is created before it lies on GPU 0
    _device, ordinal = torch.device("cuda", index), index


def make_current() -> None:
    """Make the GPU in force that of the calling thread, for which CUDA has a choice of its own.

    Triton's launches, streams, events, graphs and NCCL go to the thread's GPU, wherever their
    tensors lie.
    """
    if ordinal >= 0 and torch.cuda.current_device() != ordinal:
        torch.cuda.set_device(ordinal)


def gpu_count():
    """How many GPUs this process can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def set_precision(name):
    """Choose how activations are computed: fp32 (default), tf32, bf16 or fp64.

    Parameters, their diffs, statistics and losses stay fp32 (fp64 with fp64). It counts from the
    next forward pass on: backward has the precision of the forward pass that it follows.
    """
    global _precision
    if name not in PRECISIONS:
        raise CaffeError(f"precision {name!r}: expected one of {', '.join(PRECISIONS)}")
    _precision = name
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.allow_tf32 = name == "tf32"


def precision():
    """The name of the precision in force."""
    return _precision


@contextmanager
def in_precision(name: str) -> Iterator[None]:
    """A context in which this precision is in force."""
    before = _precision
    if name == before:
        yield
        return
    set_precision(name)
    try:
        yield
    finally:
        set_precision(before)


def current():
    """The torch.device that nets compute on."""
    return _device


def dtype():
    """The dtype of activations and their diffs."""
    return PRECISIONS[_precision]


def master_dtype():
    """The dtype of parameters, their diffs, statistics, labels and losses."""
    return torch.float64 if _precision == "fp64" else torch.float32


@contextmanager
def searching(wanted):
    """A context in which cuDNN looks for the fastest algorithm for each new shape, if `wanted`."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def is_recording():
    """Whether kernels are being recorded for a CUDA graph, and values cannot be looked at."""
    return ordinal >= 0 and torch.cuda.is_current_stream_capturing()


def keep_freed_memory():
    """Let the C library keep freed memory instead of giving it back to the system (Linux).

    Large CPU tensors otherwise go through mmap and munmap, whose page faults cost a tenth to a
    third of a training step. For a program that trains; it keeps its peak memory.
    """
    mmap_threshold, trim_threshold, mmap_max = -3, -1, -4  # glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(mmap_max, 0)


def set_random_seed(seed: int, offset: int = 0) -> None:
    """Seed every random draw: fillers, dropout, data shuffling and cropping.

    offset: added for what this process draws for itself, as dropout does. Which record comes when
    follows from `seed` alone, so that processes that train together agree on it.
    """
    global _seed, _offset
    _seed, _offset = int(seed), offset
    for made in _generators.values():  # the same objects: recordings draw from them
        made.manual_seed(_seed + _offset)


def seed_draws(*numbers: int) -> None:
    """Let what is drawn from here on follow from the seed in force and these numbers alone."""
    words = np.random.SeedSequence([seed() % (1 << 64), *numbers]).generate_state(1, np.uint64)
    for kind in ("cpu", "cuda"):
        generator(kind).manual_seed(int(words[0]))


def generator(kind: str = "cpu") -> torch.Generator:
    """The random generator of the CPU, or with "cuda" that of the GPU in force.

    Draws on the CPU do not depend on the GPU's.
    """
    place = _place(kind)
    if place not in _generators:
        made = torch.Generator(device=place)
        if _seed is None:
            made.seed()
        else:
            made.manual_seed(_seed + _offset)
        _generators[place] = made
    return _generators[place]


def renew_generator(state: torch.Tensor) -> None:
    """Give the GPU another generator, in that state: the present one may be of no more use."""
    place = _place("cuda")
    _generators[place] = torch.Generator(device=place)
    _generators[place].set_state(state)


def _place(kind):
    return torch.device("cpu") if kind == "cpu" else _device


def seed() -> int:
    """The seed in force: what set_random_seed was given, else what the system gave."""
    global _seed
    if _seed is None:
        _seed = generator().initial_seed()
    return _seed


def random_state() -> dict[str, torch.Tensor]:
    """The state of the generators in use, {"cpu" or "cuda": bytes}; nothing waits for a GPU."""
    return {
        place.type: _generators[place].get_state()
        for place in (torch.device("cpu"), _device)
        if place in _generators
    }


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Continue every generator where `random_state` was called; on a CPU, only the CPU's."""
    for kind, values in state.items():
        if kind in ("cpu", _device.type):
            generator(kind).set_state(values)


def set_solver_count(count):
    """Set how many processes train together; data layers share the records among them."""
    global _solver_count
    _solver_count = count


def set_multiprocess(several):
    """Set whether each solver has its own process: the only way to train with several."""
    if not several and _solver_count > 1:
        raise CaffeError(
            f"set_multiprocess(False): {_solver_count} solvers in one process cannot "
            "train together; start one process for each"
        )


def set_solver_rank(rank):
    """Set the number of this process, from 0; only rank 0 tests, logs and takes snapshots."""
    global _solver_rank
    _solver_rank = rank


def solver_count():
    """How many processes train together."""
    return _solver_count


def solver_rank():
    """Which of them this process is, from 0."""
    return _solver_rank


def cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`tensor.to(dtype)`, for nothing where it has that dtype: a call costs a microsecond."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def in_shape(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """`tensor.reshape(shape)`, for nothing where it has that shape."""
    return tensor if tensor.shape == shape else tensor.reshape(shape)


def layout(tensor):
    """`tensor` in the layout that convolutions want: channels last for (N, C, H, W)."""
    if tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor.contiguous()


def copied(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy on the device in force, in a precision and in the layout of `layout`."""
    form = torch.preserve_format  # NOTE: where it lies right, with its own strides, as by `layout`
    if tensor.dim() == 4 and not tensor.is_contiguous(memory_format=torch.channels_last):
        form = torch.channels_last
    return tensor.to(current(), dtype, copy=True, memory_format=form)


def staged(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor in memory from which the device can copy while it computes.

    In any thread: pinning memory makes the thread's GPU ready, whose memory that takes.
    """
    if ordinal < 0:
        return tensor
    make_current()
    return tensor.pin_memory()


def upload(tensor: torch.Tensor) -> torch.Tensor:
    """A staged tensor, on the device."""
    return tensor.to(_device, non_blocking=True)


def mark() -> torch.cuda.Event | None:
    """An event that passes when the GPU has done what it was given so far; None on the CPU."""
    if _device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event
