"""Utility layers that move or combine whole blobs."""

from . import Case

MAP = "2x3x4x5"


def _eltwise(name, options, *bottoms, **more):
    return Case("Eltwise", name, f"eltwise_param {{ {options} }}", *bottoms, **more)


def _reshape(name, dims, bottom, options=""):
    dims = " ".join(f"dim: {dim}" for dim in dims)
    return Case("Reshape", name, f"reshape_param {{ shape {{ {dims} }} {options} }}", bottom)


def _concat(name, options, *bottoms, **more):
    return Case("Concat", name, f"concat_param {{ {options} }}", *bottoms, **more)


def _slice(name, options, bottom, tops):
    return Case("Slice", name, f"slice_param {{ {options} }}", bottom, tops=tops)


def _flatten(name, options, bottom):
    return Case("Flatten", name, f"flatten_param {{ {options} }}", bottom)


CASES = [
    _eltwise("sum", "", MAP, MAP),
    _eltwise("sum_3", "operation: SUM", MAP, MAP, MAP),
    _eltwise("sum_coeff", "coeff: 0.5 coeff: -2", MAP, MAP),
    _eltwise("sum_coeff_1", "coeff: 1 coeff: -1", "7", "7"),
    _eltwise("sum_coeff_3", "coeff: 1 coeff: 0 coeff: 3", "4x5", "4x5", "4x5"),
    _eltwise("prod", "operation: PROD", MAP, MAP),
    _eltwise("prod_3", "operation: PROD", "4x5", "4x5", "4x5"),
    _eltwise(
        "prod_unstable",
        "operation: PROD stable_prod_grad: false",
        f"{MAP} positive",
        f"{MAP} positive",
    ),
    _eltwise(
        "prod_unstable_3",
        "operation: PROD stable_prod_grad: false",
        "6 positive",
        "6 positive",
        "6 positive",
    ),
    _eltwise("prod_zeros", "operation: PROD", "4x5 flags", "4x5"),
    _eltwise("max", "operation: MAX", MAP, MAP),
    _eltwise("max_4", "operation: MAX", "4x5", "4x5", "4x5", "4x5"),
    _eltwise("max_ties", "operation: MAX", "4x9 flags", "4x9 flags", true_gradient=False),
    _eltwise(
        "max_ties_3", "operation: MAX", "4x9 flags", "4x9 flags", "4x9 flags", true_gradient=False
    ),
    _eltwise("max_coeff", "operation: MAX coeff: 2 coeff: 3", "4x5", "4x5"),
    _concat("plain", "", "2x3x4x5", "2x1x4x5"),
    _concat("three", "", "2x3x2x2", "2x1x2x2", "2x4x2x2"),
    _concat("one", "", MAP),
    _concat("axis_0", "axis: 0", "2x3x2", "1x3x2"),
    _concat("axis_0_map", "axis: 0", "2x3x2x2", "3x3x2x2"),
    _concat("axis_2", "axis: 2", "2x3x2x2", "2x3x1x2"),
    _concat("axis_last", "axis: -1", "2x3x4", "2x3x1"),
    _concat("axis_last_map", "axis: -1", "2x3x4x1", "2x3x4x3"),
    _concat("concat_dim", "concat_dim: 1", "2x3", "2x4"),
    _concat("concat_dim_0", "concat_dim: 0", "2x3", "1x3"),
    _concat("vectors", "axis: 0", "5", "2", "1"),
    _slice("plain", "", "2x6x2x2", 2),
    _slice("three", "", "2x6x2x2", 3),
    _slice("one", "", MAP, 1),
    _slice("points", "slice_point: 1 slice_point: 4", "2x6x2x2", 3),
    _slice("axis_0", "axis: 0 slice_point: 1", "3x4", 2),
    _slice("axis_0_map", "axis: 0", "4x2x3x2", 2),
    _slice("axis_2", "axis: 2 slice_point: 3", "2x3x4x2", 2),
    _slice("axis_last", "axis: -1", "2x3x2x4", 4),
    _slice("slice_dim", "slice_dim: 1 slice_point: 2", "2x5", 2),
    _slice("slice_dim_0", "slice_dim: 0", "4x2", 2),
    _slice("vector", "axis: 0 slice_point: 2 slice_point: 3", "7", 3),
    _flatten("plain", "", MAP),
    _flatten("axis_0", "axis: 0", MAP),
    _flatten("axis_2", "axis: 2", MAP),
    _flatten("axis_last", "axis: -1", MAP),
    _flatten("axis_minus_2", "axis: -2", MAP),
    _flatten("end_axis", "end_axis: 2", MAP),
    _flatten("both", "axis: 0 end_axis: 1", MAP),
    _flatten("one", "axis: 1 end_axis: 1", MAP),
    _flatten("end_minus_2", "axis: 0 end_axis: -2", MAP),
    _flatten("three_axes", "", "2x3x4"),
    _flatten("to_four_axes", "axis: 1 end_axis: 2", "2x3x2x2x3"),
    _reshape("plain", [6, 20], MAP),
    _reshape("copy", [0, 0, 20], MAP),
    _reshape("infer", [0, -1], MAP),
    _reshape("infer_first", [-1, 5], MAP),
    _reshape("infer_middle", [0, -1, 10], MAP),
    _reshape("to_map", [2, 3, 4, 5], "6x20"),
    _reshape("flat", [-1], MAP),
    _reshape("same", [0, 0, 0, 0], MAP),
    _reshape("axis", [-1, 10], MAP, "axis: 2"),
    _reshape("axis_num_axes", [3, 2, 2], MAP, "axis: 1 num_axes: 2"),
    _reshape("axis_copy", [-1, 0, 1], MAP, "axis: 1"),
    _reshape("insert", [1], MAP, "axis: 1 num_axes: 0"),
    _reshape("append", [1], "2x3", "axis: -1"),
    _reshape("axis_minus", [4, 5, 1], MAP, "axis: -3 num_axes: 2"),
    Case("Split", "one", "", MAP),
]
CASES += [
    Case("Split", f"{tops}_{shape}", "", shape, tops=tops)
    for tops in (2, 3, 5)
    for shape in ("4", "3x4", MAP)
]
CASES += [
    Case("Silence", f"{len(bottoms)}_{bottoms[0]}", "", *bottoms, tops=0)
    for shape in ("3", "3x4", "2x3x2", MAP)
    for bottoms in ([shape], [shape] * 2, [shape, "7", "1x2"])
]

REFUSED = [
    ("Eltwise", "eltwise_param { coeff: 1 }", ["2x3", "2x3"], "coeff has 1 values for 2 bottoms"),
    (
        "Eltwise",
        "eltwise_param { operation: PROD coeff: 1 coeff: 2 }",
        ["3", "3"],
        "coeff is for operation SUM",
    ),
    ("Eltwise", "", ["2x3", "2x4"], r"bottom 1 has shape \(2, 4\).*like the first, \(2, 3\)"),
    ("Concat", "", ["2x3x4", "2x3x5"], r"bottom 1 has shape \(2, 3, 5\); all sizes but"),
    ("Concat", "concat_param { axis: 0 concat_dim: 0 }", ["2", "3"], "both axis and concat_dim"),
    ("Slice", "slice_param { slice_point: 3 }", ["2x3"], "expected 0 growing cuts"),
    ("Flatten", "flatten_param { axis: 2 end_axis: 1 }", ["2x3x4"], "end_axis 1 lies before"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", ["6"], "once -1"),
    ("Reshape", "reshape_param { shape { dim: 4 dim: -1 } }", ["6"], "-1 cannot be inferred"),
    ("Reshape", "reshape_param { shape { dim: 5 } }", ["6"], "5 against 6 values"),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 0 } }", ["6"], "does not have"),
]
