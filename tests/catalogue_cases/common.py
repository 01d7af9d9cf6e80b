"""Common layers: InnerProduct, Embed, Parameter, Dropout."""

from . import Case

MAP = "4x3x2x5"


def _product(name, options, *bottoms, outputs=6, **more):
    return Case(
        "InnerProduct",
        name,
        f"inner_product_param {{ num_output: {outputs} {options} }}",
        *bottoms,
        **more,
    )


def _embed(name, options, bottom, outputs=3, inputs=5, **more):
    return Case(
        "Embed",
        name,
        f"embed_param {{ num_output: {outputs} input_dim: {inputs} {options} }} loss_weight: 1",
        bottom,
        true_gradient=False,
        backward="driven",
        **more,
    )


CASES = [
    _product("plain", "", "4x7"),
    _product("map", "", MAP),
    _product("no_bias", "bias_term: false", MAP),
    _product("transpose", "transpose: true", MAP),
    _product("transpose_no_bias", "transpose: true bias_term: false", "3x8"),
    _product("axis_0", "axis: 0", MAP),
    _product("axis_2", "axis: 2", MAP),
    _product("axis_last", "axis: -1", MAP),
    _product("axis_3_transpose", "axis: 3 transpose: true", MAP),
    _product("three_axes", "", "2x3x4"),
    _product("one_axis", "axis: 0", "7"),
    _product("one_output", "", "5x9", outputs=1),
    _product("one_pixel", "", "4x16x1x1"),
    _product("two_passes", "", "4x7", passes=2),
    _product("wide", "", "3x90", outputs=20, tolerance=2e-6),
    _embed("plain", "", "7 labels 5"),
    _embed("no_bias", "bias_term: false", "7 labels 5"),
    _embed("two_axes", "", "4x3 labels 5"),
    _embed("three_axes", "", "2x1x3 labels 5"),
    _embed("four_axes", "", "2x1x3x2 labels 5"),
    _embed("one_index", "", "1 labels 5"),
    _embed("same_index", "", "6 constant 2"),
    _embed("one_input", "", "6 labels 1", inputs=1),
    _embed("one_output", "", "6 labels 9", outputs=1, inputs=9),
    _embed("two_passes", "", "6 labels 40", inputs=40, passes=2),
]
CASES += [
    Case(
        "Parameter",
        f"shape_{i}",
        "loss_weight: 1 parameter_param { shape { "
        + " ".join(f"dim: {size}" for size in shape)
        + " } }",
        backward="driven",
    )
    for i, shape in enumerate(
        [
            (1,),
            (3,),
            (7,),
            (2, 3),
            (4, 1),
            (1, 2, 3),
            (2, 3, 4, 5),
            (1, 1, 1, 1),
            (2, 1, 2, 1, 2),
            (6, 2),
        ]
    )
]
CASES += [
    Case("Dropout", f"test_{i}", options, shape, phase="TEST")
    for i, (options, shape) in enumerate(
        [
            ("", "4x5"),
            ("", MAP),
            ("dropout_param { dropout_ratio: 0.3 }", MAP),
            ("dropout_param { dropout_ratio: 0.9 }", "7"),
            ("", "3"),
            ("", "1x1x1x1"),
            ("dropout_param { dropout_ratio: 0.1 }", "2x3x4"),
            ("dropout_param { dropout_ratio: 0.7 }", "2x8x1x1"),
            ("dropout_param { dropout_ratio: 0.25 }", "2x1x3x1x2"),
            ("dropout_param { dropout_ratio: 0.99 }", "5x2"),
        ]
    )
]
CASES += [
    Case("Dropout", f"train_{i}", options, shape, judged=False)
    for i, (options, shape) in enumerate(
        [
            ("", "4x5"),
            ("", MAP),
            ("dropout_param { dropout_ratio: 0.3 }", MAP),
            ("dropout_param { dropout_ratio: 0.9 }", "7"),
            ("dropout_param { dropout_ratio: 0 }", "2x3x4"),
            ("dropout_param { dropout_ratio: 0.7 }", "2x64x1x1"),
        ]
    )
]

IN_PLACE = ["Dropout"]
REFUSED = [
    ("InnerProduct", "inner_product_param { }", ["3x4"], "num_output is missing"),
    ("InnerProduct", "inner_product_param { num_output: 2 axis: 3 }", ["3x4"], "axis 3 is outside"),
    ("Embed", "embed_param { num_output: 2 }", ["3"], "input_dim .* must be given"),
    ("Dropout", "dropout_param { dropout_ratio: 1.5 }", ["3"], "at most 1; found 1.5"),
]
