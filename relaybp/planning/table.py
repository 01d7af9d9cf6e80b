"""What a plan says in text: the layers of each flow, overlaps, cost."""

import textwrap

from . import cost
from .trunk import has_weights

GIGA, MEGA = 1e9, 1e6
WIDTH = 80  # of a terminal, in columns


def report(title, trunk, flows, schedule):
    """The plan of a net's flows, per image of a training step."""
    shape = next(iter(trunk.graph.net.blobs.values())).shape
    lines = [
        f"{title}, images of {'x'.join(map(str, shape[1:]))}, schedule {schedule}",
        "",
        *_aligned(_flow_rows(trunk, flows)),
        "",
    ]
    lines += _overlap_lines(trunk, flows)
    lines += [
        "",
        "A training step, per image (GFLOP; a multiply-add is 2)",
        *_aligned(_step_rows(trunk.graph, flows, schedule)),
    ]
    return "\n".join(lines)


def span(trunk, flow):
    """The units of the trunk that a flow trains."""
    return [
        unit
        for unit in trunk.units
        if has_weights(trunk.graph, unit)
        and any(index in flow.layers and cost.learns(trunk.graph, index) for index in unit.layers)
    ]


def overlaps(trunk, flows):
    """[(flows, their common units)] of each set of flows that meet somewhere."""
    meeting = {}
    for unit in trunk.units:
        here = tuple(flow for flow in flows if unit in span(trunk, flow))
        if len(here) > 1:
            meeting.setdefault(here, []).append(unit)
    return list(meeting.items())


def _flow_rows(trunk, flows):
    graph, costs = trunk.graph, cost.multiply_adds(trunk.graph)
    yield ("loss", "weight", "trains", "layers", "params", "forward", "backward", "diffs")
    yield ("", "", "", "", "MB", "GFLOP", "GFLOP", "MB")
    for flow in flows:
        units = span(trunk, flow)
        passing = cost.data_gradients(graph, flow.layers)
        backward = sum(costs[i] * ((i in flow.layers) + (i in passing)) for i in flow.layers)
        forward = sum(costs[i] for i in graph.ancestors(graph.index[flow.loss]))
        reach = f"{units[0].name} to {units[-1].name}" if units else "its own branch"
        yield (
            flow.loss,
            f"{flow.weight:.3g}",
            reach,
            sum(costs[i] > 0 for i in flow.layers),
            f"{cost.parameter_bytes(graph, flow.layers) / MEGA:.1f}",
            f"{2 * forward / GIGA:.2f}",
            f"{2 * backward / GIGA:.2f}",
            f"{cost.diff_bytes(graph, flow.layers) / MEGA:.1f}",
        )


def _overlap_lines(trunk, flows):
    for here, units in overlaps(trunk, flows):
        count = len(units)
        text = "{} to {} ({} unit{}): trained by {}".format(
            units[0].name,
            units[-1].name,
            count,
            "s" * (count > 1),
            ", ".join(flow.loss for flow in here),
        )
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    if not overlaps(trunk, flows):
        yield "No unit is trained by more than one loss."


def steps(graph, flows, schedule):
    """[(what, Step)]: standard BP, multi-loss, and what the schedule adds to them."""
    found = [("standard BP without branches", cost.standard_step(graph))]
    if len(graph.losses) > 1:
        found.append(("multi-loss", cost.joint_step(graph)))
    if schedule == "RELAY":
        found.append(("relay in one sweep", cost.flows_step(graph, flows, True)))
        found.append(("relay in one pass per loss", cost.flows_step(graph, flows, False)))
    elif schedule in ("PAIR_WISE", "MULTI_WAY"):
        step = cost.flows_step(graph, flows, False)
        found.append(("multi-way", step))
        found.append(("pair-wise", step._replace(forward=step.forward * len(flows))))
    return found


def _step_rows(graph, flows, schedule):
    rows = steps(graph, flows, schedule)
    standard = cost.total(rows[0][1])
    yield ("", "forward", "weight", "data", "total", "of")
    yield ("", "", "gradients", "gradients", "", "standard")
    for name, step in rows:
        yield (
            name,
            *(f"{2 * part / GIGA:.2f}" for part in step),
            f"{2 * cost.total(step) / GIGA:.2f}",
            f"{cost.total(step) / standard:.3f}",
        )


def _aligned(rows):
    """Lines of a table, its first column flush left and numbers flush right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        line = " "
        for place, (cell, width) in enumerate(zip(row, widths)):
            line += (
                " " + cell.rjust(width) if _is_number_column(rows, place) else f" {cell:{width}} "
            )
        yield line.rstrip()


def _is_number_column(rows, place):
    return place > 0 and rows[-1][place][:1].isdigit()
