"""Activation layers: one value in, one value out."""

from . import Case

MAP = "2x3x2x3"
SHAPES = ("6", "3x4", "2x3x5", MAP, "1x1x1x1", "2x1x3x2x2", "1x9", "4x1x3")


def _options(field, *values):
    """{name: options} of values such as "alpha: 2"; an empty one stands for the default."""
    return {
        value.replace(": ", "_").replace(" ", "_") or "plain": f"{field} {{ {value} }}"
        if value
        else ""
        for value in values
    }


# type: its bottom's kind, and {name: options}; each options run on a map, the first on all SHAPES
TABLE = {
    "ReLU": (
        "",
        _options(
            "relu_param",
            "",
            "negative_slope: 0.1",
            "negative_slope: 1",
            "negative_slope: 1.5",
            "engine: CAFFE",
        ),
    ),
    "ELU": ("", _options("elu_param", "", "alpha: 0.3", "alpha: 2", "alpha: 0", "alpha: -0.5")),
    "Sigmoid": ("", _options("sigmoid_param", "", "engine: CAFFE", "engine: DEFAULT")),
    "TanH": ("", _options("tanh_param", "", "engine: CAFFE", "engine: DEFAULT")),
    "Swish": ("", _options("swish_param", "", "beta: 2", "beta: 0.1", "beta: 0", "beta: -1")),
    "AbsVal": ("", {"plain": ""}),
    "BNLL": ("", {"plain": ""}),
    "Clip": (
        "",
        _options(
            "clip_param",
            "min: -1 max: 1",
            "min: 0 max: 6",
            "min: -0.2 max: 0.1",
            "min: -100 max: 100",
            "min: 1 max: 2",
        ),
    ),
    "Power": (
        "positive",
        _options(
            "power_param",
            "",
            "power: 2",
            "power: 3 scale: 0.5",
            "power: 0.5 shift: 1",
            "power: -1",
            "power: 0 scale: 2",
            "scale: 0 shift: 3",
            "power: 2 scale: 0 shift: 3",
            "power: 2 shift: -1",
            "scale: -2 shift: 1",
            "power: -0.5 scale: 2 shift: 0.1",
        ),
    ),
    "Exp": (
        "",
        _options(
            "exp_param",
            "",
            "base: 2",
            "base: 10 scale: 0.5",
            "scale: 2 shift: -1",
            "base: 0.5",
            "base: 1",
            "shift: 2",
            "base: 3 shift: 1",
        ),
    ),
    "Log": (
        "positive",
        _options(
            "log_param",
            "",
            "base: 2",
            "base: 10 shift: 1",
            "scale: 3",
            "base: 0.5",
            "scale: 0.5 shift: 2",
            "shift: 0.1",
        ),
    ),
}

CASES = [
    Case(type, name, options, f"{MAP} {kind}", tolerance=2e-6)
    for type, (kind, table) in TABLE.items()
    for name, options in table.items()
]
CASES += [
    Case(type, f"shape_{shape}", next(iter(table.values())), f"{shape} {kind}", tolerance=2e-6)
    for type, (kind, table) in TABLE.items()
    for shape in SHAPES
]
CASES += [
    Case(
        type,
        f"kind_{kind}",
        next(iter(TABLE[type][1].values())),
        f"3x5 {kind}",
        true_gradient=kind == "large",
        tolerance=1e-4,
    )  # flags hit the kink at 0
    for type in ("AbsVal", "BNLL", "Sigmoid", "TanH", "ReLU")
    for kind in ("large", "flags")
]

PRELU = {
    "plain": ("", MAP),
    "one_slope": ("prelu_param { channel_shared: true }", MAP),
    "two_axes": ("", "4x3"),
    "two_axes_one_slope": ("prelu_param { channel_shared: true }", "4x3"),
    "three_axes": ("", "2x3x5"),
    "one_channel": ("", "3x1x2x2"),
    "one_image": ("", "1x5x2x3"),
    "one_pixel": ("", "4x6x1x1"),
    "two_images": ("", "2x2x3x3"),
    "filler": ('prelu_param { filler { type: "gaussian" } }', MAP),
}
CASES += [Case("PReLU", name, options, shape) for name, (options, shape) in PRELU.items()]

THRESHOLD = ("", "threshold: 0.5", "threshold: -1", "threshold: 100", "threshold: 1")
CASES += [
    Case("Threshold", name, options, f"{MAP} {kind}", backward=None)
    for kind in ("", "flags")
    for name, options in _options("threshold_param", *THRESHOLD).items()
    for name in [f"{name}_{kind or 'normal'}"]
]

IN_PLACE = ["ReLU", "ELU", "Sigmoid", "TanH", "Swish", "BNLL", "Clip", "Power", "Exp", "PReLU"]
REFUSED = [
    ("Log", "log_param { base: 1 }", ["3x4"], "base 1 has no logarithm"),
    ("Log", "log_param { base: -2 }", ["3x4"], "base must be positive"),
    ("Exp", "exp_param { base: 0 }", ["3x4"], "base must be positive"),
    ("PReLU", "", ["5"], "needs a channel axis"),
]
