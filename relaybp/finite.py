"""Numbers that are not finite: updates are held back, and where they come from is named.

A loss or a gradient that is NaN or infinite would spoil every weight at the next update. On a CPU
it is known before the update. On a GPU, which nobody waits for, the update is left out there, and
the program learns of it in the next iteration, whose update is left out too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import NotFiniteError
from .graph import Graph

if TYPE_CHECKING:
    from .relay_solver import RelaySolver

SHOWN = 8  # records that an error names


class Mark:
    """What an iteration has changed before its updates: which records and random draws come next,
    and the statistics of BatchNorm layers."""

    def __init__(self, engine: Any, net: Any):
        self._engine, self._random = engine, engine.random_state()
        self.positions = {
            index: layer.position
            for index, layer in enumerate(net.layers)
            if hasattr(layer, "position")
        }
        self._layers = net.layers
        self.put_statistics_back = engine.copies(
            [
                blob
                for layer in net.layers
                if layer.type in ("BatchNorm", "BN")
                for blob in layer.blobs
            ]
        )

    def restore(self) -> None:
        """Let all that come again."""
        self.put_statistics_back()
        self._engine.set_random_state(self._random)
        self.move_data()

    def move_data(self) -> None:
        """Let the records that came next come next again."""
        for index, position in self.positions.items():
            self._layers[index].position = position


class Finite:
    """Watches the iterations of `relay`: none that is not finite updates the weights.

    Of several processes that train together, the averaged gradients decide, which are the same in
    all of them, so that all stop, leave out or go back together, with the same error.
    """

    def __init__(self, relay: RelaySolver):
        self.relay, self.engine, self.solver = relay, relay.engine, relay.solver
        self._group = relay.schedule.group
        self._marks: deque[Mark] = deque(maxlen=2)
        self._late: deque[tuple[Any, int, Mark]] = deque()  # (what is on its way, iteration, mark)
        relay.add_callback(self._begin, self._check)

    @property
    def mark(self) -> Mark:
        """That of the beginning of the last iteration."""
        return self._marks[-1]

    def _begin(self) -> None:
        self._marks.append(Mark(self.engine, self.relay.net))

    def _check(self) -> None:
        """Before each update. Raises NotFiniteError; the weights are those before the update."""
        found = self.engine.finite(self.solver, self.relay.loss if self._group.size == 1 else 0.0)
        self._late.append((found, self.solver.iter, self.mark))
        while len(self._late) > 1 or (self._late and isinstance(self._late[0][0], float)):
            self._look()

    def finish(self) -> None:
        """Wait for what is on its way, before a test, a snapshot or the end."""
        while self._late:
            self._look()

    def _look(self) -> None:
        found, iteration, mark = self._late.popleft()
        if float(found):
            return
        self._late.clear()
        self.engine.release(self.solver)
        if self.solver.iter != iteration:  # a GPU has left out the update of the next one, too
            self.solver.iter = iteration
        said = self._group.each(first_not_finite(self.relay, mark))
        mark.put_statistics_back()
        raise NotFiniteError(f"iteration {iteration}: {_first_said(said)}")


def _first_said(said: list[str]) -> str:
    """What the first process that has found something says of it."""
    for rank, text in enumerate(said):
        if text:
            return f"process {rank} of {len(said)}: {text}" if len(said) > 1 else text
    return "a loss or a gradient is NaN or infinite, and in one more pass over the batch none is"


def check_weights(net: Any, what: str) -> None:
    """Refuse weights that are not finite; `what` names them."""
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            count = _count(blob.data)
            if count:
                raise NotFiniteError(
                    f"{what}: layer {name!r}, param {index}: {count} of {blob.data.size} values "
                    "are NaN or infinite"
                )


def first_not_finite(relay: RelaySolver, mark: Mark) -> str:
    """Run an iteration's passes again, layer by layer; say in words which is the first layer whose
    values or gradients are not finite, and which records it had; "" where all are.

    The data go on behind the batches of that iteration, as they did.
    """
    net, graph = relay.net, Graph(relay.net)
    mark.restore()
    found = ""
    with relay.engine.looking_inside(net):
        for _ in range(relay.solver.param.iter_size):
            names = _names(graph, mark)
            where, rows = _forward(graph, mark) or _backward(graph) or ("", [])
            found = found or (where and where + _said(names, rows))
    return found


def _forward(graph: Graph, mark: Mark) -> tuple[str, list[int]] | None:
    """(what is not finite, in which of the batch's images) of a forward pass."""
    net = graph.net
    for index in range(len(graph.names)):
        if graph.bottoms[index] or graph.layers[index].blobs or index in mark.positions:
            net._forward(index, index)  # other data layers' present batch stands
        for top in graph.tops[index]:
            values = net.blobs[top].data
            if _count(values):
                rows = ~np.isfinite(values.reshape(len(values), -1)).all(1) if values.ndim else []
                return _where(graph, index, f"values of {top!r}", values), np.flatnonzero(
                    rows
                ).tolist()
    return None


def _rows(values: np.ndarray) -> list[int]:
    """Which images of a batch have values that are not finite."""
    if not values.ndim:
        return []
    return np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1)).tolist()


def _backward(graph: Graph) -> tuple[str, list[int]] | None:
    """(what is not finite, no images) of a backward pass."""
    net = graph.net
    net.clear_param_diffs()
    for index in reversed(range(len(graph.names))):
        net._backward(index, index)
        diffs = {f"param {k}": blob.diff for k, blob in enumerate(graph.layers[index].blobs)}
        diffs |= {repr(bottom): net.blobs[bottom].diff for bottom in graph.bottoms[index]}
        for name, values in diffs.items():
            if _count(values):
                return _where(graph, index, f"gradients of {name}", values), []
    return None


def _where(graph: Graph, index: int, what: str, values: np.ndarray) -> str:
    return (
        f"layer {graph.names[index]!r} ({graph.types[index]}) is the first where "
        f"{_count(values)} of {values.size} {what} are NaN or infinite"
    )


def _names(graph: Graph, mark: Mark) -> dict[str, list[str]]:
    """{data layer: the names of the records that come next}, where the layers know them."""
    layers = {graph.names[index]: graph.layers[index] for index in mark.positions}
    return {
        name: layer.names(layer.position)
        for name, layer in layers.items()
        if hasattr(layer, "names")
    }


def _said(names: dict[str, list[str]], rows: Sequence[int]) -> str:
    """Some words on the records of a batch, of these rows where rows are images."""
    said = ""
    for layer, records in names.items():
        if 0 < len(rows) < len(records) and max(rows) < len(records):
            more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            which = "in it " + ", ".join(records[row] for row in rows[:SHOWN]) + more
        else:
            which = f"any of the {len(records)} from {records[0]} to {records[-1]}"
        said += f"; the batch was read by layer {layer!r}: {which}"
    return said


def _count(values: np.ndarray) -> int:
    """How many of some values are not finite."""
    return int(values.size - np.isfinite(values).sum())
