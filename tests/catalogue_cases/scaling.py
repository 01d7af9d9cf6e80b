"""Scale and Bias."""

from . import Case

MAP = "2x3x4x2"

# name, options, bottoms; for both types, whose options these share
SHARED = [
    ("plain", "", MAP),
    ("axis_0", "axis: 0", MAP),
    ("axis_negative", "axis: -2", MAP),
    ("two_axes", "num_axes: 2", MAP),
    ("two_axes_from_0", "axis: 0 num_axes: 2", MAP),
    ("to_the_end", "num_axes: -1", MAP),
    ("everything", "axis: 0 num_axes: -1", MAP),
    ("one_number", "num_axes: 0", MAP),
    ("two_bottoms", "", MAP, "3"),
    ("two_bottoms_axis_0", "axis: 0", MAP, "2x3"),
    ("two_bottoms_last", "axis: 2", MAP, "4x2"),
    ("two_bottoms_equal", "axis: 0", MAP, MAP),
    ("two_bottoms_number", "", MAP, "scalar"),
    ("matrix", "", "5x4"),
    ("vector", "axis: 0", "6"),
    ("five_axes", "axis: 2 num_axes: 2", "2x2x3x2x2"),
]

CASES = (
    [
        Case("Scale", name, f"scale_param {{ {options} }}", *bottoms)
        for name, options, *bottoms in SHARED
    ]
    + [
        Case("Scale", f"{name}_bias", f"scale_param {{ bias_term: true {options} }}", *bottoms)
        for name, options, *bottoms in SHARED
    ]
    + [
        Case("Bias", name, f"bias_param {{ {options} }}", *bottoms)
        for name, options, *bottoms in SHARED
    ]
)

IN_PLACE = ["Scale", "Bias"]

REFUSED = [
    ("Scale", "scale_param { axis: 2 num_axes: 3 }", ["2x3x4x2"], "reach outside the bottom"),
    ("Scale", "", ["2x3x4x2", "4"], "does not match the bottom"),
    ("Bias", "bias_param { axis: 5 }", ["2x3x4x2"], "axis 5 is outside"),
    ("Bias", "bias_param { num_axes: -2 }", ["2x3x4x2"], "reach outside the bottom"),
]
