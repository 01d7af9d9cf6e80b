"""What the driver asks of a Caffe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Callable

from ..cli import spelled
from ..errors import RelayError


class Step(ABC):
    """The update of one flow's parameters.

    loss: the flow's; own_momentum: whether it keeps a momentum that the solver does not.
    """

    loss: str
    own_momentum: bool

    @abstractmethod
    def __call__(self, factor: float) -> None:
        """Update with the learning rate multiplied by `factor`; do not count the iteration."""

    @abstractmethod
    def save(self, path: str) -> None:
        """Write the momentum, as a .solverstate without weights."""

    @abstractmethod
    def restore(self, path: str) -> None:
        """Read what `save` wrote."""


class Engine(ABC):
    """One Caffe. `caffe` is its pycaffe module, `pb` its messages.

    A solver is one of `make_solver` or `wrap`; it has net, test_nets, param, iter,
    learning_rate(), apply_update(), observe_loss(loss), observe_test(found), is_over,
    averaged(), finish_reports(), snapshot() and restore(path).
    """

    trains_together: bool  # whether several processes can

    def __init__(self, caffe: ModuleType):
        self.caffe, self._precision = caffe, "fp32"

    @property
    def pb(self) -> Any:
        """The module of Caffe's messages."""
        return self.caffe.proto.caffe_pb2

    @abstractmethod
    def register_layers(self) -> None:
        """Let nets that are built from now on use the project's own layers."""

    # ---- the machine -------------------------------------------------------------------------

    def use_device(self, gpu: str = "auto", precision: str = "fp32") -> str:
        """Compute on a GPU ("auto": the first, if there is one) or on the CPU ("none").

        Returns a description of it. precision: fp32, tf32 or bf16.
        """
        if precision != self._precision:
            self.set_precision(precision)
            self._precision = precision
        if gpu == "auto":
            gpu = "0" if self.gpu_count() else "none"
        if gpu == "none":
            self.caffe.set_mode_cpu()
            return "CPU"
        if not gpu.isdigit():
            raise RelayError(f"GPU={gpu}: expected auto, none or a GPU's number")
        self.caffe.set_device(int(gpu))
        self.caffe.set_mode_gpu()
        return f"GPU {gpu}"

    @abstractmethod
    def set_precision(self, precision: str) -> None:
        """Compute in fp32, tf32 or bf16."""

    @abstractmethod
    def fix_ways(self) -> None:
        """Compute in the same ways on all machines of one kind, instead of the fastest on each."""

    @abstractmethod
    def gpu_count(self) -> int:
        """How many GPUs "auto" may choose from."""

    @abstractmethod
    def keep_freed_memory(self) -> None:
        """Tune the C library's allocator for a process that only trains."""

    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """(name, description) of each library and device that the engine finds."""

    # ---- solvers -----------------------------------------------------------------------------

    @abstractmethod
    def make_solver(self, path: str, extra: str | None = None, prefix: str = "") -> Any:
        """The solver of a solver.prototxt; extra: the path of its extra.prototxt.

        prefix: of its snapshots, "" for the one that the file names.
        """

    @abstractmethod
    def wrap(self, solver: Any, path: str | None) -> Any:
        """A pycaffe solver as the driver needs it; path: its solver.prototxt."""

    @abstractmethod
    def net_param(self, solver: Any) -> Any:
        """The NetParameter of the train net."""

    @abstractmethod
    def test_net_param(self, solver: Any, index: int) -> Any:
        """The NetParameter of a test net, or one with all of its layers."""

    @abstractmethod
    def make_steps(self, solver: Any, flows: list, own_momentum: bool, scaled: bool) -> list[Step]:
        """A step for each flow, the final one's last.

        The final loss uses the solver's own momentum, which its snapshots hold. The others have
        their own, or all share the solver's if own_momentum is False. scaled: whether factors other
        than 1 will be used.
        """

    @abstractmethod
    def count_iteration(self, solver: Any) -> None:
        """Count one iteration, after all its steps."""

    # ---- nets --------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, net: Any) -> Any:
        """Run a forward pass; return its loss for `number`."""

    @abstractmethod
    def number(self, loss: Any, divisor: float = 1) -> Any:
        """A loss of `forward`, or a sum of them, over `divisor`: for float(), which may wait for
        a GPU where `is_here` is not True; a float otherwise."""

    @abstractmethod
    def value(self, blob: Any) -> Any:
        """The one value that a blob holds, as `number` gives a loss."""

    @abstractmethod
    def backward(self, net: Any, flows: list | None, fused: bool = True) -> Callable[[], None]:
        """A function that runs `flows` backward; None: every loss down to the bottom.

        fused: all in one sweep if the engine can, otherwise one BackwardFromTo after another.
        """

    @abstractmethod
    def check_repeated(self, graph: Any, flows: list, what: str) -> None:
        """Refuse a net that cannot run `flows` separately after one forward, as `what` does."""

    @abstractmethod
    def freeze(self, solver: Any, names: set[str], source: str) -> None:
        """Stop layers of the train net from learning; source: the file that names them."""

    @abstractmethod
    def keep_values(self, net: Any, blobs: bool | list[str], diffs: bool) -> None:
        """Set whether blobs, or which of them, keep values and diffs that no other layer needs."""

    @abstractmethod
    def keeping_diffs(self, net: Any) -> AbstractContextManager[None]:
        """Within it, backward passes leave every blob its diff."""

    @abstractmethod
    def looking_inside(self, net: Any) -> AbstractContextManager[None]:
        """A context in which every blob of a net keeps its values and diffs."""

    @abstractmethod
    def copies(self, blobs: list[Any]) -> Callable[[], None]:
        """A function that gives some blobs their present values again."""

    @abstractmethod
    def random_state(self) -> Any:
        """Where the random generators are, for `set_random_state`."""

    @abstractmethod
    def set_random_state(self, state: Any) -> None:
        """Draw again what was drawn after `random_state`, where the engine can."""

    @abstractmethod
    def finite(self, solver: Any, loss: Any) -> Any:
        """Whether a loss of `number` and the gradients of the solver's net are finite.

        1 or 0, for float(), which may wait for a GPU where `is_here` is not True. There the solver
        leaves every update out from the first 0 on, without waiting, until `release`.
        """

    @abstractmethod
    def release(self, solver: Any) -> None:
        """Let a solver update again whose updates `finite` has made it leave out."""

    @abstractmethod
    def address(self, blob: Any) -> int:
        """Where a blob's values lie; blobs that share them have the same."""

    @abstractmethod
    def scale_diff(self, blob: Any, factor: float) -> None:
        """Multiply a parameter's gradient."""


def check_same(solver: Any, param: Any, path: str) -> None:
    """Refuse a solver.prototxt other than the one that `solver` was created from."""
    for field in ("max_iter", "base_lr", "display"):
        mine, given = getattr(solver.param, field), getattr(param, field)
        if mine != given:
            raise RelayError(
                f"{path}: {field} is {given:g}, and that of the solver {mine:g}; "
                "name the solver.prototxt of which the solver was made"
            )


def refuse_missing(gpus: Sequence[str], count: int) -> None:
    """Raise RelayError where one of some GPUs is not there; count: of those that are."""
    missing = [gpu for gpu in gpus if gpu.isdigit() and int(gpu) >= count]
    if missing:
        there = f"there are 0 to {count - 1}" if count else "PyTorch sees none"
        raise RelayError(
            f"{spelled('--gpu', ','.join(gpus))}: no GPU {' and no '.join(missing)} here: {there}; "
            f"{spelled('--gpu', 'none')} computes on the CPU"
        )
