"""Vision layers: Convolution, Deconvolution, Pooling, SPP, Im2col, Crop."""

from . import Case

MAPS = "2x3x7x6"

# options of convolution_param, and a bottom for them
GEOMETRIES = [
    ("plain", "kernel_size: 3", "2x3x5x4"),
    ("pad", "kernel_size: 3 pad: 1", "2x2x4x3"),
    ("stride_pad", "kernel_size: 3 stride: 2 pad: 1", "2x3x5x6"),
    ("dilation", "kernel_size: 2 dilation: 2", "2x2x5x4"),
    ("dilation_pad", "kernel_size: 3 dilation: 2 pad: 2 stride: 2", "1x2x6x5"),
    ("oblong", "kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2", "2x2x5x4"),
    (
        "repeated",
        "kernel_size: 3 kernel_size: 1 stride: 1 stride: 2 pad: 1 pad: 0 dilation: 1 dilation: 2",
        "2x2x4x5",
    ),
    ("line", "kernel_size: 3 stride: 2 pad: 1", "2x3x6"),
    ("volume", "kernel_size: 2 kernel_size: 1 kernel_size: 3 pad: 1", "1x2x3x3x4"),
    ("batch_axes", "axis: 2 kernel_size: 2", "2x2x3x4x3"),
    ("axis_negative", "axis: -3 kernel_size: 2 stride: 2", "2x3x4x5"),
    ("force_nd", "kernel_size: 3 pad: 1 force_nd_im2col: true", "1x2x4x3"),
]


def _conv(type, name, options, *bottoms, **more):
    return Case(type, name, f"convolution_param {{ num_output: 4 {options} }}", *bottoms, **more)


CASES = [
    Case("Pooling", "max_3_2", "pooling_param { kernel_size: 3 stride: 2 }", MAPS),
    Case("Pooling", "max_2_2", "pooling_param { kernel_size: 2 stride: 2 }", "2x2x6x8"),
    Case("Pooling", "max_pad", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", MAPS),
    Case("Pooling", "max_overhang", "pooling_param { kernel_size: 2 stride: 3 pad: 1 }", MAPS),
    Case(
        "Pooling", "max_floor", "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", MAPS
    ),
    Case(
        "Pooling",
        "max_oblong",
        "pooling_param { kernel_h: 2 kernel_w: 4 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 2 }",
        MAPS,
    ),
    Case("Pooling", "max_global", "pooling_param { global_pooling: true }", MAPS),
    Case("Pooling", "max_mask", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", MAPS, tops=2),
    Case(
        "Pooling",
        "max_mask_ties",
        "pooling_param { kernel_size: 3 stride: 1 }",
        "2x3x7x6 labels 3",
        tops=2,
        true_gradient=False,
    ),
    Case("Pooling", "max_wide_kernel", "pooling_param { kernel_size: 9 stride: 4 pad: 2 }", MAPS),
    # the last windows start beyond the image: BVLC Caffe's backward writes outside its memory
    Case(
        "Pooling",
        "max_beyond",
        "pooling_param { kernel_size: 1 stride: 2 }",
        "1x2x6x5",
        backward=None,
    ),
    Case("Pooling", "ave_3_2", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }", MAPS),
    Case("Pooling", "ave_pad", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", MAPS),
    Case(
        "Pooling",
        "ave_pad_overhang",
        "pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 2 }",
        "1x2x8x8",
    ),
    Case(
        "Pooling",
        "ave_floor",
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }",
        MAPS,
    ),
    Case(
        "Pooling",
        "ave_oblong",
        "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 "
        "stride_w: 1 pad_h: 1 pad_w: 0 }",
        MAPS,
    ),
    Case("Pooling", "ave_global", "pooling_param { pool: AVE global_pooling: true }", MAPS),
    # BVLC Caffe pools at random on a GPU only
    Case(
        "Pooling",
        "stochastic_test",
        "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }",
        "2x3x7x6 positive",
        phase="TEST",
        backward=None,
        judged=False,
    ),
    Case(
        "Pooling",
        "stochastic_train",
        "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }",
        "2x3x7x6 positive",
        judged=False,
    ),
    Case("SPP", "max_1", "spp_param { pyramid_height: 1 }", MAPS),
    Case("SPP", "max_2", "spp_param { pyramid_height: 2 }", MAPS),
    Case("SPP", "max_3", "spp_param { pyramid_height: 3 }", "2x2x7x8"),
    Case("SPP", "max_3_exact", "spp_param { pyramid_height: 3 pool: MAX }", "1x2x8x4"),
    Case("SPP", "max_3_tall", "spp_param { pyramid_height: 3 }", "1x3x11x6"),
    Case("SPP", "max_1_batch", "spp_param { pyramid_height: 1 }", "5x2x3x2"),
    Case("SPP", "ave_1", "spp_param { pyramid_height: 1 pool: AVE }", MAPS),
    Case("SPP", "ave_2", "spp_param { pyramid_height: 2 pool: AVE }", MAPS),
    Case("SPP", "ave_3", "spp_param { pyramid_height: 3 pool: AVE }", "2x2x7x8"),
    Case("SPP", "ave_3_wide", "spp_param { pyramid_height: 3 pool: AVE }", "1x2x6x15"),
    Case(
        "SPP",
        "stochastic",
        "spp_param { pyramid_height: 2 pool: STOCHASTIC }",
        "2x2x6x4 positive",
        judged=False,
    ),
    *(
        Case("Im2col", name, f"convolution_param {{ {options} }}", bottom)
        for name, options, bottom in GEOMETRIES
    ),
    *(
        _conv(type, name, options, bottom)
        for type in ("Convolution", "Deconvolution")
        for name, options, bottom in GEOMETRIES
    ),
    *(
        _conv(type, name, options, *bottoms, **more)
        for type in ("Convolution", "Deconvolution")
        for name, options, *bottoms, more in [
            ("group", "kernel_size: 3 pad: 1 group: 2", "2x4x5x4", {}),
            ("group_each", "kernel_size: 3 group: 4 stride: 2", "2x4x5x4", {}),
            ("no_bias", "kernel_size: 2 bias_term: false", "2x3x4x3", {}),
            ("group_no_bias", "kernel_size: 3 group: 2 bias_term: false pad: 2", "2x4x4x3", {}),
            ("group_dilation", "kernel_size: 2 group: 2 dilation: 2", "2x4x5x6", {}),
            ("two_bottoms", "kernel_size: 3 pad: 1", "2x3x4x3", "2x3x4x3", {"tops": 2}),
            ("pointwise", "kernel_size: 1", "2x3x4x3", {}),
            ("pointwise_stride", "kernel_size: 1 stride: 2", "2x3x5x4", {}),
            ("line_group", "kernel_size: 3 group: 2", "2x4x6", {}),
            ("engine", "kernel_size: 3 engine: CAFFE", "2x3x4x5", {}),
            ("no_spatial_axes", "", "3x2", {}),
            ("no_spatial_axes_group", "group: 2 bias_term: false", "2x4", {}),
            ("four_spatial_axes", "kernel_size: 2 stride: 2 pad: 1", "1x2x3x2x3x2", {}),
            (
                "four_spatial_axes_group",
                "kernel_size: 2 kernel_size: 1 kernel_size: 2 kernel_size: 1 dilation: 2 group: 2",
                "1x4x4x2x3x1",
                {},
            ),
        ]
    ),
    Case("Crop", "plain", "", "2x3x5x6", "2x3x3x4"),
    Case("Crop", "offset", "crop_param { offset: 2 }", "2x3x5x6", "2x3x3x4"),
    Case("Crop", "offsets", "crop_param { offset: 1 offset: 2 }", "2x3x5x6", "2x3x3x4"),
    Case(
        "Crop",
        "axis_1",
        "crop_param { axis: 1 offset: 1 offset: 0 offset: 2 }",
        "2x3x5x6",
        "7x2x3x4",
    ),
    Case("Crop", "axis_0", "crop_param { axis: 0 offset: 1 }", "4x3x5x6", "2x2x3x4"),
    Case("Crop", "axis_last", "crop_param { axis: -1 offset: 1 }", "2x3x5x6", "1x1x1x4"),
    Case("Crop", "axis_3", "crop_param { axis: 3 }", "2x3x5x6", "1x1x1x4"),
    Case("Crop", "whole", "", "2x3x3x4", "2x3x3x4"),
    Case("Crop", "three_axes", "crop_param { axis: 1 offset: 1 }", "2x5x4", "2x3x2"),
    Case(
        "Crop",
        "five_axes",
        "crop_param { offset: 0 offset: 1 offset: 2 }",
        "1x2x3x3x4",
        "1x2x2x2x2",
    ),
    Case("Crop", "other_channels", "", "2x3x5x6", "1x8x5x2"),
]

REFUSED = [
    ("Pooling", "pooling_param { kernel_size: 3 }", ["2x3x4"], r"must be \(N, C, H, W\)"),
    ("Pooling", "", ["2x3x4x4"], "kernel_size is missing"),
    (
        "Pooling",
        "pooling_param { kernel_size: 2 kernel_h: 2 kernel_w: 2 }",
        ["2x3x4x4"],
        "not both",
    ),
    ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", ["2x3x4x4"], "smaller than the kernel"),
    ("Pooling", "pooling_param { kernel_size: 0 }", ["2x3x4x4"], "must be positive"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 0 }", ["2x3x4x4"], "must be positive"),
    (
        "Pooling",
        "pooling_param { kernel_size: 2 global_pooling: true }",
        ["2x3x4x4"],
        "delete the kernel size",
    ),
    (
        "Pooling",
        "pooling_param { stride: 2 global_pooling: true }",
        ["2x3x4x4"],
        "pad 0 and stride 1",
    ),
    ("Pooling", "pooling_param { kernel_size: 9 }", ["2x3x4x4"], "does not fit"),
    (
        "Pooling",
        "pooling_param { kernel_size: 3 pad: 1 pool: STOCHASTIC }",
        ["2x3x4x4"],
        "cannot pad",
    ),
    ("SPP", "", ["2x3x4x4"], "pyramid_height must be positive"),
    ("SPP", "spp_param { pyramid_height: 3 }", ["2x3x5x5"], "lower pyramid_height"),
    ("Convolution", "convolution_param { kernel_size: 3 }", ["2x3x4x4"], "num_output"),
    ("Convolution", "convolution_param { num_output: 4 }", ["2x3x4x4"], "kernel_size is missing"),
    (
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 kernel_size: 2 kernel_size: 1 }",
        ["2x3x4x4"],
        "3 values for 2 spatial axes",
    ),
    (
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 group: 2 }",
        ["2x3x4x4"],
        "must divide the 3 input channels",
    ),
    (
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 7 }",
        ["2x3x4x4"],
        "does not fit",
    ),
    ("Im2col", "convolution_param { kernel_size: 7 }", ["2x3x4x4"], "does not fit"),
    ("Crop", "", ["2x3x4x4", "2x3x4"], "equally many axes"),
    ("Crop", "crop_param { offset: 2 }", ["2x3x4x4", "2x3x4x4"], "do not fit into the 4"),
    (
        "Crop",
        "crop_param { offset: 1 offset: 1 offset: 1 }",
        ["2x3x4x4", "2x3x2x2"],
        "3 values for 2 cropped axes",
    ),
]
