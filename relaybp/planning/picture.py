"""The picture of a plan: the trunk, its branches, and in colour what each loss trains.

After Figure 2 of the Relay Backpropagation paper. The trunk runs from left to right. Each layer or
block is a box, as tall as its map is large, in the colours of the losses that train it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import log2
from typing import Any

from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from ..colours import INK, LINE, MUTED, PAPER, of_losses, text_on, tint
from ..flows import Flow
from ..style import save, save_svg, short, styled
from . import cost, table
from .trunk import Trunk, Unit, has_weights, is_spatial

INCH = 0.40  # of one unit of the drawing
FONT, TITLE = 8, 10  # points
CHARACTER = 0.06  # inches that one of FONT takes, about
GAP, STAGE_GAP = 0.22, 0.55
LANE, LANE_PITCH = 0.62, 0.86
BRANCH, BRANCH_PITCH = 0.52, 0.74
BRANCH_APART, LINE_APART = 1.45, 0.11  # at least; of lines that leave the trunk at one place
MANY = 45  # units; from here on, boxes are narrow and have no names
RADIUS = 0.42  # of a loss
PLAIN = "#c9d1d9"  # of boxes without weights


def draw(title: str, trunk: Trunk, flows: Sequence[Flow], schedule: str, stem: str) -> list[str]:
    """Draw the flows to STEM.svg and STEM.png; return their paths."""
    with styled():
        return save(_figure(title, trunk, flows, schedule), stem)


def draw_svg(title: str, trunk: Trunk, flows: Sequence[Flow], schedule: str, path: str) -> None:
    """Draw the flows to a file in SVG."""
    with styled():
        save_svg(_figure(title, trunk, flows, schedule), path)


def _figure(title: str, trunk: Trunk, flows: Sequence[Flow], schedule: str) -> Figure:
    heading = f"{title}: which loss trains which layers"
    return figure_of([Drawing(heading, trunk, flows, schedule)], INCH)


def figure_of(drawings: Sequence[Drawing], inch: float) -> Figure:
    """The drawings below each other. inch: of one unit of a drawing."""
    width = max(drawing.width for drawing in drawings) * inch
    heights = [drawing.height * inch for drawing in drawings]
    figure, below = Figure(figsize=(width, sum(heights))), sum(heights)
    for drawing, height in zip(drawings, heights):
        below -= height
        place = (0, below / sum(heights), drawing.width * inch / width, height / sum(heights))
        drawing.draw(figure.add_axes(place), inch)
    return figure


class Drawing:
    """A net, and the place of everything in it. width, height: in units.

    flows: those of flows.plan; schedule: its name, for the cost of a step.
    """

    axes: Axes
    inch: float

    def __init__(self, title: str, trunk: Trunk, flows: Sequence[Flow], schedule: str):
        self.title, self.trunk, self.graph, self.flows = title, trunk, trunk.graph, flows
        self.schedule = schedule
        self.colour = of_losses(flow.loss for flow in flows)
        self.many = len(trunk.units) > MANY
        self.heights = {unit: self._height(unit) for unit in trunk.units}
        self.left, self.right = {}, {}  # of each unit
        x = 0.0
        for stage in trunk.stages:
            for unit in stage:
                self.left[unit] = x
                self.right[unit] = x = x + self._width(unit)
                x += 0.06 if self.many else GAP
            x += STAGE_GAP
        self.end = x + 0.3
        self.top = max(self.heights.values()) / 2
        self.labels_at = -self.top - 0.55
        self.lanes_at = {
            flow: self.labels_at - 1.1 - LANE_PITCH * k for k, flow in enumerate(flows)
        }
        self.stacks = {flow: self._stack(flow) for flow in flows}
        self.below = self._below()
        self.stack_bottom = self.top + 0.9
        tallest = max(map(len, self.stacks.values()))
        branches = BRANCH_PITCH * tallest + 2 * RADIUS + 1.2 if self.below else 0
        self.low, self.high = min(self.lanes_at.values()) - 2.4, self.stack_bottom + branches + 1.4
        self.low_x, self.high_x = -0.9, max(self.end + 1.3, 19)
        self.width, self.height = self.high_x - self.low_x, self.high - self.low

    def _width(self, unit):
        narrow = 0.4 if self.many else 1.0
        return 0.62 * narrow if has_weights(self.graph, unit) else 0.34 * narrow

    def _height(self, unit):
        largest = max(unit.shape[2] for unit in self.trunk.units if is_spatial(unit))
        if not is_spatial(unit):
            return 2.0
        return 2.0 + 2.6 * log2(unit.shape[2]) / log2(max(largest, 2))

    def _stack(self, flow):
        """The boxes of a loss's own branch: what its layers are, from the trunk up."""
        index = self.graph.index[flow.loss]
        if index == self.graph.final:
            return []
        words = {"Convolution": "conv", "Pooling": "pool", "InnerProduct": "fc", "SPP": "spp"}
        return [
            words[self.graph.types[i]]
            for i in sorted(self.graph.head(index))
            if self.graph.types[i] in words
        ]

    def _below(self):
        """{flow: the unit above which its branch begins}; several begin above one."""
        graph = self.graph
        branches = [flow for flow in self.flows if graph.index[flow.loss] != graph.final]
        return {flow: self.trunk.below_branch(graph.index[flow.loss]) for flow in branches}

    # ---- drawing -----------------------------------------------------------------------------

    def draw(self, axes: Axes, inch: float) -> None:
        """Draw into axes as large as this; inch: of one unit."""
        self.axes, self.inch = axes, inch
        self.branches_at = self._branches()
        axes.set(xlim=(self.low_x, self.high_x), ylim=(self.low, self.high))
        axes.axis("off")
        left = self.low_x + 0.5
        style: dict[str, Any] = {"ha": "left", "va": "top", "size": TITLE, "weight": "bold"}
        self._text(left, self.high - 0.3, self._wrapped(self.title, TITLE), **style)
        cost_line = self._wrapped(self._cost_line(), FONT)
        self._text(left, self.low + 0.2, cost_line, ha="left", va="bottom", color=MUTED)
        self._trunk()
        if not all(has_weights(self.graph, unit) for unit in self.trunk.units):
            self._legend(left, min(self.lanes_at.values()) - 0.85)
        for flow in self.flows:
            self._lane(flow)
        for stage in self.trunk.stages:
            self._stage_label(stage)

    def _wrapped(self, text: str, size: float) -> str:
        """The text in lines that fit the drawing."""
        columns = (self.width - 1) * self.inch / (CHARACTER * size / FONT)
        return "\n".join(textwrap.wrap(text, int(columns)))

    def _fits(self, text: str, width: float) -> bool:
        return len(text) * CHARACTER < width * self.inch

    def _trunk(self):
        first = self.trunk.units[0]
        self.axes.plot(
            [self.left[first] - 0.5, self.end + 0.6], [0, 0], color=LINE, lw=1.6, zorder=1
        )
        for unit in self.trunk.units:
            here = (
                [flow for flow in self.flows if unit in table.span(self.trunk, flow)]
                if has_weights(self.graph, unit)
                else []
            )
            self._box(
                self.left[unit],
                -self.heights[unit] / 2,
                self.right[unit] - self.left[unit],
                self.heights[unit],
                [self.colour[flow.loss] for flow in here],
            )
            if not self.many and has_weights(self.graph, unit):
                self._text((self.left[unit] + self.right[unit]) / 2, 0, unit.name, rotation=90)

    def _box(self, x, y, width, height, fills):
        """A box in bands of the given colours; plain if there are none."""
        for k, fill in enumerate(fills or [PLAIN]):
            band = height / max(len(fills), 1)
            self.axes.add_patch(
                Rectangle(
                    (x, y + height - (k + 1) * band),
                    width,
                    band,
                    facecolor=tint(fill),
                    edgecolor="none",
                    zorder=3,
                )
            )
        self.axes.add_patch(
            Rectangle((x, y), width, height, facecolor="none", edgecolor=INK, lw=0.9, zorder=4)
        )

    def _legend(self, x: float, y: float) -> None:
        """What a grey box is."""
        self._box(x, y - 0.2, 0.34, 0.4, [])
        self._text(x + 0.55, y - 0.02, "without weights", ha="left", color=MUTED)

    def _lane(self, flow):
        """A loss, its branch, and the arrow over all that it trains."""
        colour, y = self.colour[flow.loss], self.lanes_at[flow]
        x, beside, loss_at = self._loss(flow)
        bend = min(self.stack_bottom - 0.2, loss_at)
        way = [beside, beside, x, x], [loss_at, bend, bend, y]
        self.axes.plot(*way, color=colour, lw=2.6, zorder=2, solid_capstyle="round")
        self._branch(flow, beside)
        self.axes.add_patch(
            Circle((beside, loss_at), RADIUS, facecolor=colour, edgecolor=INK, lw=0.9, zorder=6)
        )
        self._text(beside, loss_at, "L", size=9, color=text_on(colour), weight="bold", zorder=7)
        above = loss_at + RADIUS + 0.35
        self._text(beside, above, flow.loss, weight="bold", halo=True)
        (low, tip, _), half = self._arrow(flow), LANE / 2
        self.axes.add_patch(
            Polygon(
                [
                    (low, y),
                    (tip, y + half),
                    (x + 0.05, y + half),
                    (x + 0.05, y - half),
                    (tip, y - half),
                ],
                facecolor=colour,
                edgecolor="none",
                zorder=3,
            )
        )
        self._lane_text(flow)

    def _arrow(self, flow: Flow) -> tuple[float, float, float]:
        """Where the arrow of a flow begins at the left, where its tip ends, and where it does."""
        units, x = table.span(self.trunk, flow), self._loss(flow)[0]
        low = self.left[units[0]] if units else x - 0.5
        return low, low + min(0.45, (x - low) / 2), x

    def _lane_text(self, flow):
        """What a loss trains, in the form that fits into all arrows, or as much as into this."""
        _, low, high = self._arrow(flow)
        narrow = short(flow.loss, max(1, int((high - low) * self.inch / CHARACTER)))
        texts = (*self._lane_forms(flow)[self._form() :], flow.loss, narrow)
        text = next((text for text in texts if self._fits(text, high - low)), "")
        colour = text_on(self.colour[flow.loss])
        self._text((low + high) / 2, self.lanes_at[flow] - 0.02, text, color=colour, zorder=7)

    def _lane_forms(self, flow: Flow) -> tuple[str, str]:
        units = table.span(self.trunk, flow)
        reach = f"{units[0].name} to {units[-1].name}" if units else "its own branch"
        return f"{flow.loss}, weight {flow.weight:.2g}:  {reach}", f"{flow.loss}:  {reach}"

    def _form(self) -> int:
        """The first of _lane_forms that fits into the arrow of every loss that trains the trunk."""
        flows = [flow for flow in self.flows if table.span(self.trunk, flow)]
        arrows = {flow: self._arrow(flow) for flow in flows}
        fits = (
            all(
                self._fits(self._lane_forms(flow)[k], x - tip)
                for flow, (_, tip, x) in arrows.items()
            )
            for k in range(2)
        )
        return next((k for k, fit in enumerate(fits) if fit), 1)

    def _loss(self, flow):
        """Where the line of a loss leaves the trunk, and the place (x, y) of its circle."""
        if flow not in self.below:
            return self.end + 0.6, self.end + 0.6, 0.0
        rises = len(self.stacks[flow]) * BRANCH_PITCH
        return *self.branches_at[flow], self.stack_bottom + rises + 0.35 + RADIUS

    def _branches(self) -> dict[Flow, tuple[float, float]]:
        """{flow: where its branch leaves the trunk, and where it stands, beside those before}."""
        found: dict[Flow, tuple[float, float]] = {}
        free, before = self.low_x, ""
        for flow in sorted(self.below, key=lambda flow: self.below[flow].index):
            unit = self.below[flow]
            above = self.trunk.units[unit.index + 1 :]
            middle = (self.right[unit] + (self.left[above[0]] if above else self.end)) / 2
            x = middle + LINE_APART * sum(self.below[other] is unit for other in found)
            names = (len(before) + len(flow.loss)) / 2 * CHARACTER / self.inch
            free += max(BRANCH_APART, names + 0.5) if found else 0
            free = max(free, x)
            found[flow], before = (x, free), flow.loss
        return found

    def _branch(self, flow, x):
        for k, word in enumerate(self.stacks[flow]):
            y = self.stack_bottom + BRANCH_PITCH * k
            self.axes.add_patch(
                FancyBboxPatch(
                    (x - 0.6, y),
                    1.2,
                    BRANCH,
                    boxstyle="round,pad=0.04,rounding_size=0.1",
                    facecolor=tint(self.colour[flow.loss]),
                    edgecolor=INK,
                    lw=0.8,
                    zorder=5,
                )
            )
            self._text(x, y + BRANCH / 2 - 0.02, word, zorder=9)

    def _stage_label(self, stage: Sequence[Unit]) -> None:
        left, right, y = self.left[stage[0]], self.right[stage[-1]], self.labels_at
        self.axes.plot(
            [left, left, right, right], [y + 0.14, y, y, y + 0.14], color=LINE, lw=1, zorder=1
        )
        number = self.trunk.stages.index(stage) + 1
        text = f"segment {number}" if is_spatial(stage[0]) else "classifier"
        sides = [str(side) for side in stage[0].shape[2:]] if is_spatial(stage[0]) else []
        short, size = str(number) if sides else "fc", "×".join(sides)
        wide = right - left + STAGE_GAP
        style: dict[str, Any] = {"color": MUTED, "halo": True, "ha": "left"}
        self._text(left, y - 0.4, text if self._fits(text, wide) else short, **style)
        size = size if self._fits(size, wide) else "".join(sides[:1])
        self._text(left, self.top + 0.35, size, **style)

    def _cost_line(self):
        rows = table.steps(self.graph, self.flows, self.schedule)
        standard = cost.total(rows[0][1])
        others = [f"{name} {cost.total(step) / standard:.3f}" for name, step in rows[1:]]
        return "Multiply-adds of a training step: " + ", ".join(["standard BP 1", *others])

    def _text(self, x: float, y: float, text: str, halo: bool = False, **style: Any) -> None:
        effects = [patheffects.withStroke(linewidth=3, foreground=PAPER)] if halo else []
        style = {"color": INK, "ha": "center", "va": "center", "zorder": 8, "size": FONT, **style}
        self.axes.text(x, y, text, path_effects=effects, **style)
