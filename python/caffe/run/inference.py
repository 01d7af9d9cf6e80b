"""Passes of inference: whole forward passes in the TEST phase that need keep no values."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch

from .. import device
from ..blob import Blob
from ..graph.build import Node
from ..graph.folded import Folded
from ..graph.inference import steps
from ..layer import Shape
from . import by_image
from .plan import Plan
from .running import forward_node, infer_step, take_back, weighted_losses


class Inference:
    """Runs `nodes` as the steps of graph/inference; blobs named in `kept` and outputs keep values.

    oneDNN's ReLU makes 0 of NaN, and Winograd's convolutions spread it, so a pass with such steps
    whose inputs or parameters are not finite runs layer by layer. `spread` makes up for what a pass
    has not made; whoever reads such values calls it, too.
    """

    def __init__(self, nodes: Sequence[Node], kept: Collection[str]):
        self._sources = [node for node in nodes if not node.bottoms]
        self._others = [node for node in nodes if node.bottoms]
        self._steps = [step for step in steps(nodes, kept) if step.node.bottoms]
        layers = [step.node.layer for step in self._steps]
        self._folded = [layer for layer in layers if isinstance(layer, Folded)]
        self._fed: list[tuple[Blob, torch.Tensor]] = []
        self._seen: _Seen | None = None
        self._plan: Plan | None = None
        self._planned: object = None  # what the plan, or the next pass's, is for
        self._left: list[Shape] = []  # the shapes that a pass of that kind has left
        self._has_skipped = False

    def forward(self) -> list:
        """Run all nodes; return the weighted losses."""
        losses = []
        for node in self._sources:
            forward_node(node)
            losses += weighted_losses(node)
        self._fed = [(blob, blob.tensor) for node in self._sources for blob in node.tops]
        self._look_at_parameters()
        kind = device.dtype(), [(tensor.shape, tensor.dtype) for _, tensor in self._fed]
        self._has_skipped = self._is_finite(kind)
        return losses + (self._run_steps(kind) if self._has_skipped else self._run_plainly())

    def spread(self) -> None:
        """After a pass: give every blob and layer what it would have if all layers had run.

        Those that would not make the same again, as they count or draw, do not run again.
        """
        if self._has_skipped:
            self._has_skipped = False
            made = {
                node: [blob.tensor for blob in node.tops]
                for node in self._others
                if not node.layer.repeats
            }
            written = [(blob, blob.tensor) for blob, _ in self._fed]  # into inputs, since the pass
            _store(self._fed)
            for node in self._others:
                if node in made:
                    take_back(node, made[node])
                else:
                    forward_node(node)
            _store(written)

    def _look_at_parameters(self):
        """Drop the plan if one has changed."""
        if self._seen is None or self._seen.is_past():
            changed = [layer.refresh() for layer in self._folded]  # of all of them
            if any(changed):
                self._planned = None
            self._seen = _Seen([blob for layer in self._folded for blob in layer.sources])

    def _is_finite(self, kind):
        """Whether all numbers are, or what is not passes through all steps as it should."""
        if self._plan is not None and self._plan.keeps_nan and kind == self._planned:
            return True
        return all(layer.is_finite for layer in self._folded) and all(
            math.isfinite(tensor.sum()) for _, tensor in self._fed
        )

    def _run_steps(self, kind):
        """Run by the plan, which the second pass of a kind makes, of the shapes the first left.

        kind: what makes a difference to a plan, but for the parameters.
        """
        if kind != self._planned or (self._plan is None and self._left != self._shapes()):
            self._plan, self._planned = None, kind
            losses = [loss for step in self._steps for loss in infer_step(step, self.spread)]
            self._left = self._shapes()
            return losses
        if self._plan is None:
            singly = by_image.fastest(self._steps, self.spread)
            self._plan = Plan(self._steps, self.spread, singly)
        return self._plan.run()

    def _shapes(self):
        return [blob.shape for node in self._others for blob in node.tops]

    def _run_plainly(self):
        for step in self._steps:
            step.node.shapes = None  # blobs may get other shapes than a step knows of
        losses = []
        for node in self._others:
            forward_node(node)
            losses += weighted_losses(node)
        return losses


class _Seen:
    """What blobs held when they were looked at."""

    def __init__(self, blobs: Sequence[Blob]):
        self._place = self._current()
        tensors = [(blob.holds, blob.tensor) for blob in blobs]
        self._held = [(holds, tensor, tensor._version) for holds, tensor in tensors]

    def is_past(self) -> bool:
        """Whether one of them may hold something else."""
        return self._place != self._current() or any(
            not holds(tensor, version) for holds, tensor, version in self._held
        )

    @staticmethod
    def _current():
        return device.current(), device.master_dtype()


def _store(values):
    for blob, tensor in values:
        blob.tensor = tensor
