"""The picture of a plan: the trunk, its branches, and in colour what each loss trains.

After Figure 2 of the Relay Backpropagation paper. The trunk runs from left to right. Each layer or
block is a box, as tall as its map is large, in the colours of the losses that train it.
"""

from math import log2

import matplotlib
from matplotlib import colors, patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from . import cost, table
from .trunk import has_weights, is_spatial

COLOURS = ("#2f6db5", "#e07b28", "#3f9a57", "#9b59a8", "#c8433f", "#4aa3a2", "#8a6d3b", "#6b7280")
INK, MUTED, PAPER, LINE = "#22272e", "#57606a", "#ffffff", "#8b949e"
TINT = 0.42  # how strong a loss's colour is in a box
INCH = 0.40  # of one unit of the drawing
GAP, STAGE_GAP = 0.22, 0.55
LANE, LANE_PITCH = 0.62, 0.86
MANY = 45  # units; from here on, boxes are narrow and have no names
RADIUS = 0.42  # of a loss


def draw(title, trunk, flows, schedule, paths):
    """Draw the flows (in the order of flows.plan, the final loss first) to files."""
    drawing = Drawing(trunk, flows, schedule)
    drawing.draw(title)
    with matplotlib.rc_context({"svg.hashsalt": "relaybp", "font.family": "DejaVu Sans"}):
        for path in paths:
            extra = {"metadata": {"Date": None}} if path.endswith(".svg") else {}
            drawing.figure.savefig(path, dpi=200, facecolor=PAPER, **extra)


class Drawing:
    """The figure, and the place of everything in it."""

    def __init__(self, trunk, flows, schedule):
        self.trunk, self.graph, self.flows = trunk, trunk.graph, flows
        self.schedule = schedule
        self.colour = {flow.loss: COLOURS[i % len(COLOURS)] for i, flow in enumerate(flows)}
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
        self.stack_bottom = self.top + 0.7

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

    # ---- drawing -----------------------------------------------------------------------------

    def draw(self, title):
        tallest = max(map(len, self.stacks.values()))
        low = min(self.lanes_at.values()) - 1.6
        high = self.stack_bottom + 0.62 * tallest + 2 * RADIUS + (2.4 if tallest else 1.2)
        low_x, high_x = -0.9, max(self.end + 1.3, 19)
        self.figure = Figure(figsize=((high_x - low_x) * INCH, (high - low) * INCH))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(low_x, high_x), ylim=(low, high))
        self.axes.axis("off")
        self._text(
            low_x + 0.5,
            high - 0.55,
            f"{title}: which loss trains which layers",
            13,
            weight="bold",
            ha="left",
        )
        self._text(low_x + 0.5, low + 0.55, self._cost_line(), 7.8, ha="left", color=MUTED)
        self._trunk()
        for flow in self.flows:
            self._lane(flow)
        for stage in self.trunk.stages:
            self._stage_label(stage)

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
                self._text((self.left[unit] + self.right[unit]) / 2, 0, unit.name, 8.2, rotation=90)

    def _box(self, x, y, width, height, fills):
        """A box in bands of the given colours; plain if there are none."""
        for k, fill in enumerate(fills or ["#c9d1d9"]):
            band = height / max(len(fills), 1)
            self.axes.add_patch(
                Rectangle(
                    (x, y + height - (k + 1) * band),
                    width,
                    band,
                    facecolor=_tint(fill),
                    edgecolor="none",
                    zorder=3,
                )
            )
        self.axes.add_patch(
            Rectangle((x, y), width, height, facecolor="none", edgecolor=INK, lw=0.9, zorder=4)
        )

    def _lane(self, flow):
        """A loss, its branch, and the arrow over all that it trains."""
        colour, y = self.colour[flow.loss], self.lanes_at[flow]
        units = table.span(self.trunk, flow)
        x, loss_at = self._loss(flow)
        self.axes.plot([x, x], [loss_at, y], color=colour, lw=2.6, zorder=2, solid_capstyle="round")
        self._branch(flow, x)
        self.axes.add_patch(
            Circle((x, loss_at), RADIUS, facecolor=colour, edgecolor=INK, lw=0.9, zorder=6)
        )
        self._text(x, loss_at, "L", 10, color=PAPER, weight="bold", zorder=7)
        above = loss_at + RADIUS + 0.35
        self._text(x, above, flow.loss, 9, color=colour, weight="bold")
        low = self.left[units[0]] if units else x - 0.5
        head, half = min(0.45, (x - low) / 2), LANE / 2
        self.axes.add_patch(
            Polygon(
                [
                    (low, y),
                    (low + head, y + half),
                    (x + 0.05, y + half),
                    (x + 0.05, y - half),
                    (low + head, y - half),
                ],
                facecolor=colour,
                edgecolor="none",
                zorder=3,
            )
        )
        self._lane_text(flow, units, low + head, x, y)

    def _lane_text(self, flow, units, low, high, y):
        reach = f"{units[0].name} to {units[-1].name}" if units else "its own branch"
        text = f"{flow.loss}, weight {flow.weight:.2g}:  {reach}"
        fits = (high - low) > 0.185 * len(text)
        self._text(
            (low + high) / 2 if fits else high + 0.25,
            y - 0.02,
            text,
            8.6,
            color=PAPER if fits else self.colour[flow.loss],
            zorder=7,
            ha="center" if fits else "left",
        )

    def _loss(self, flow):
        """Where the circle of a loss stands."""
        index = self.graph.index[flow.loss]
        if index == self.graph.final:
            return self.end + 0.6, 0.0
        below = {
            feeder
            for layer in self.graph.head(index)
            for feeder in self.graph.feeders[layer]
            if self.graph.levels[feeder]
        }
        unit = max(
            (unit for unit in map(self.trunk.unit_at, self._sources(below)) if unit),
            key=lambda unit: unit.index,
        )
        rises = len(self.stacks[flow]) * 0.62
        beside = self.left[self.trunk.units[unit.index + 1]]
        return (self.right[unit] + beside) / 2, self.stack_bottom + rises + 0.35 + RADIUS

    def _sources(self, indices):
        """The layers behind Splits."""
        for index in indices:
            while self.graph.types[index] == "Split":
                index = self.graph.feeders[index][0]
            yield index

    def _branch(self, flow, x):
        for k, word in enumerate(self.stacks[flow]):
            y = self.stack_bottom + 0.62 * k
            self.axes.add_patch(
                FancyBboxPatch(
                    (x - 0.55, y),
                    1.1,
                    0.36,
                    boxstyle="round,pad=0.04,rounding_size=0.1",
                    facecolor=_tint(self.colour[flow.loss]),
                    edgecolor=INK,
                    lw=0.8,
                    zorder=5,
                )
            )
            self._text(x, y + 0.17, word, 7.6, zorder=6)

    def _stage_label(self, stage):
        left, right, y = self.left[stage[0]], self.right[stage[-1]], self.labels_at
        self.axes.plot(
            [left, left, right, right], [y + 0.14, y, y, y + 0.14], color=LINE, lw=1, zorder=1
        )
        number = self.trunk.stages.index(stage) + 1
        text = f"segment {number}" if is_spatial(stage[0]) else "classifier"
        sides = [str(side) for side in stage[0].shape[2:]] if is_spatial(stage[0]) else []
        style = {"color": MUTED, "halo": True, "ha": "left"}
        self._text(
            left, y - 0.34, text if right - left > 1.9 or not sides else str(number), 8.2, **style
        )
        self._text(
            left,
            self.top + 0.3,
            "×".join(sides) if right - left > 1.1 else "".join(sides[:1]),
            7.6,
            **style,
        )

    def _cost_line(self):
        rows = table.steps(self.graph, self.flows, self.schedule)
        standard = cost.total(rows[0][1])
        return "Multiply-adds of a training step: standard BP 1, " + ", ".join(
            f"{name} {cost.total(step) / standard:.3f}" for name, step in rows[1:]
        )

    def _text(self, x, y, text, size, halo=False, **style):
        effects = [patheffects.withStroke(linewidth=3, foreground=PAPER)] if halo else []
        style = {"color": INK, "ha": "center", "va": "center", "zorder": 8, **style}
        self.axes.text(x, y, text, fontsize=size, path_effects=effects, **style)


def _tint(colour):
    """A colour mixed with paper."""
    return tuple(1 - TINT * (1 - part) for part in colors.to_rgb(colour))
