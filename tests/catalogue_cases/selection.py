"""Utility layers that pick, repeat or reduce."""

from . import Case

MAP = "2x3x4x5"


def _reduction(name, options, bottom, **more):
    return Case("Reduction", name, f"reduction_param {{ {options} }}", bottom, **more)


def _argmax(name, options, bottom):
    return Case("ArgMax", name, f"argmax_param {{ {options} }}", bottom, backward=None)


def _tile(name, options, bottom):
    return Case("Tile", name, f"tile_param {{ {options} }}", bottom)


CASES = [
    _reduction(f"{name}_{operation}", f"operation: {operation} {options}", bottom, tolerance=1e-5)
    for operation in ("SUM", "ASUM", "SUMSQ", "MEAN")
    for name, options, bottom in [
        ("axis_0", "", MAP),
        ("axis_1", "axis: 1", MAP),
        ("axis_last", "axis: -1 coeff: 2", MAP),
        ("vector", "coeff: -0.5", "7"),
    ]
]
CASES += [
    _argmax("plain", "", "4x5"),
    _argmax("map", "", MAP),
    _argmax("top_3", "top_k: 3", "4x5"),
    _argmax("top_3_map", "top_k: 3", MAP),
    _argmax("values", "out_max_val: true", "4x5"),
    _argmax("values_top_2_map", "out_max_val: true top_k: 2", MAP),
    _argmax("axis_1", "axis: 1", MAP),
    _argmax("axis_1_top_2", "axis: 1 top_k: 2", MAP),
    _argmax("axis_last_values", "axis: -1 top_k: 3 out_max_val: true", MAP),
    _argmax("axis_0", "axis: 0", "4x5"),
    _argmax("ties", "top_k: 4", "5x9 flags"),
    _argmax("ties_axis", "top_k: 3 axis: 1", "3x6x2 flags"),
    _argmax("five_axes", "top_k: 2", "2x2x1x2x3"),
    _tile("plain", "tiles: 2", MAP),
    _tile("three", "tiles: 3", "2x3"),
    _tile("one", "tiles: 1", MAP),
    _tile("axis_0", "axis: 0 tiles: 2", "3x4"),
    _tile("axis_0_map", "axis: 0 tiles: 3", MAP),
    _tile("axis_2", "axis: 2 tiles: 2", MAP),
    _tile("axis_last", "axis: -1 tiles: 4", MAP),
    _tile("axis_minus_2", "axis: -2 tiles: 2", "2x3x2"),
    _tile("vector", "axis: 0 tiles: 5", "3"),
    _tile("one_channel", "tiles: 6", "2x1x2x2"),
]


def _with_index(type, name, *bottoms, tops=1):
    """A row with gradients to all bottoms but the last, the index."""
    options = (
        "propagate_down: true " * (len(bottoms) - 1)
        + "propagate_down: false "
        + "loss_weight: 1 " * tops
    )
    return [Case(type, name, options, *bottoms, tops=tops, backward="both")]


for shape, selector in (("9x2", "9"), ("8x3x2x2", "8x1x1x1"), ("9", "9"), ("7x2x2", "7x1")):
    for others in ([], [shape], [shape, f"{selector.split('x')[0]}x2"]):
        CASES += _with_index(
            "Filter",
            f"{shape}_{len(others)}",
            shape,
            *others,
            f"{selector} flags",
            tops=1 + len(others),
        )
CASES += _with_index("Filter", "all", "4x3", "4 constant 1")
CASES += _with_index("Filter", "weights", "6x3", "6 labels 3")
for shape in ("4x3", "5", "3x2x2x3", "2x4x2"):
    for items in (1, 3, 8):
        CASES += _with_index(
            "BatchReindex", f"{shape}_{items}", shape, f"{items} labels {shape.split('x')[0]}"
        )

REFUSED = [
    ("ArgMax", "argmax_param { top_k: 6 }", ["4x5"], "top_k must be 1 to 5.*found 6"),
    ("Tile", "tile_param { axis: 1 }", ["4x5"], "tiles must be given"),
    ("Filter", "", ["4x5", "4x5"], "must have one value per item"),
    ("Filter", "", ["4x5", "3"], "bottom 0 has 4 items, the selector 3"),
    ("BatchReindex", "", ["4x5", "3x1"], "must have one axis"),
]
