"""Layer types of forks, except for detection: BVLC Caffe has none of them, so OpenCV or their
definition judges.

See tests/test_forks_opencv.py and tests/test_forks_definitions.py.
"""

from . import Case

MAPS = "2x4x5x6"


def fork_case(type, name, options, *bottoms, **more):
    return Case(type, name, options, *bottoms, judged=False, **more)


def _conv_lstm(name, options, *bottoms, pad=1, **more):
    padding = f"pad: {pad} " if pad else ""
    options = f"lstm_conv_param {{ num_output: 2 kernel_size: 3 {padding}{options} }}"
    return fork_case("ConvLSTM", name, options, *bottoms, params=("uniform",) * 15, **more)


CASES = [
    # mobile
    fork_case(
        "DepthwiseConvolution",
        "plain",
        "convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 4 }",
        MAPS,
    ),
    fork_case(
        "DepthwiseConvolution",
        "stride",
        "convolution_param { num_output: 8 kernel_size: 3 stride: 2 group: 4 bias_term: false }",
        MAPS,
    ),
    fork_case("ConvolutionDepthwise", "plain", "convolution_param { kernel_size: 3 pad: 1 }", MAPS),
    fork_case(
        "ConvolutionDepthwise",
        "num_output",
        "convolution_param { num_output: 4 kernel_h: 3 "
        "kernel_w: 1 stride: 2 group: 2 bias_term: false }",
        MAPS,
    ),
    fork_case("ReLU6", "plain", "", "2x3x4x5 large"),
    fork_case("ReLU6", "slope", "relu6_param { negative_slope: 0.1 }", "2x7 large"),
    fork_case("ShuffleChannel", "two", "shuffle_channel_param { group: 2 }", MAPS),
    fork_case("ShuffleChannel", "three", "shuffle_channel_param { group: 3 }", "2x6x3x2"),
    fork_case("ShuffleChannel", "rows", "shuffle_channel_param { group: 2 }", "3x6"),
    fork_case("Axpy", "pixel", "", "2x3x1x1", "2x3x4x5", "2x3x4x5"),
    fork_case("Axpy", "vector", "", "2x3", "2x3x4x5", "2x3x4x5"),
    # segmentation
    fork_case("Interp", "zoom", "interp_param { zoom_factor: 2 }", MAPS),
    fork_case("Interp", "shrink", "interp_param { shrink_factor: 2 }", MAPS),
    fork_case("Interp", "both", "interp_param { shrink_factor: 2 zoom_factor: 4 }", MAPS),
    fork_case("Interp", "size", "interp_param { height: 9 width: 1 }", MAPS),
    fork_case("Interp", "cut", "interp_param { height: 7 width: 8 pad_beg: -1 pad_end: -2 }", MAPS),
    fork_case("Upsample", "yolo", "upsample_param { scale: 2 }", MAPS),
    fork_case("Upsample", "yolo_default", "", MAPS),
    fork_case(
        "Upsample",
        "segnet",
        "propagate_down: true propagate_down: false upsample_param { scale: 2 }",
        "2x3x2x3",
        "2x3x2x3 places 24",
        backward="given",
    ),
    fork_case(
        "Upsample",
        "segnet_pad",
        "propagate_down: true propagate_down: false upsample_param { scale_h: 3 pad_out_h: true }",
        "2x3x2x3",
        "2x3x2x3 places 30",
        backward="given",
    ),
    fork_case(
        "Upsample",
        "segnet_size",
        "propagate_down: true propagate_down: false upsample_param { upsample_h: 5 upsample_w: 4 }",
        "2x3x2x3",
        "2x3x2x3 places 20",
        backward="given",
    ),
    fork_case(
        "BN",
        "pspnet",
        "bn_param { momentum: 0.95 }",
        MAPS,
        params=("normal", "normal", "normal", "positive"),
    ),
    fork_case(
        "BN",
        "pspnet_test",
        "bn_param { eps: 0.1 }",
        MAPS,
        phase="TEST",
        params=("normal", "normal", "normal", "positive"),
    ),
    fork_case(
        "BN",
        "pspnet_frozen",
        "bn_param { frozen: true }",
        MAPS,
        params=("normal", "normal", "normal", "positive"),
    ),
    fork_case("BN", "segnet_learn", "bn_param { bn_mode: LEARN }", MAPS),
    fork_case("BN", "segnet_inference", "bn_param { bn_mode: INFERENCE }", MAPS),
    fork_case(
        "BN",
        "rows",
        "bn_param { momentum: 0.9 }",
        "4x3",
        params=("normal", "normal", "normal", "positive"),
    ),
    fork_case(
        "BatchNorm",
        "nvcaffe",
        "batch_norm_param { scale_bias: true scale_filler { type: 'constant' value: 2 } }",
        MAPS,
        params=("normal", "positive", "constant 2", "normal", "normal"),
    ),
    fork_case(
        "BatchNorm",
        "nvcaffe_test",
        "batch_norm_param { scale_bias: true }",
        MAPS,
        phase="TEST",
        params=("normal", "positive", "constant 2", "normal", "normal"),
    ),
    fork_case("Dropout", "scale_train", "dropout_param { scale_train: false }", MAPS),
    fork_case("Dropout", "scale_test", "dropout_param { scale_train: false }", MAPS, phase="TEST"),
    fork_case(
        "Dropout", "bayesian", "dropout_param { sample_weights_test: true }", MAPS, phase="TEST"
    ),
    # recurrent
    fork_case("Lstm", "plain", "lstm_param { num_output: 3 }", "5x2x4"),
    fork_case("Lstm", "one_step", "lstm_param { num_output: 3 }", "1x2x4"),
    fork_case("Lstm", "cont", "lstm_param { num_output: 2 }", "5x2x4", "5x2 episodes"),
    fork_case(
        "Lstm",
        "goes_on",
        "lstm_param { num_output: 2 }",
        "5x2x4",
        "5x2 constant 1",
        passes=2,
        true_gradient=False,
    ),
    # the cells of the forward before reach the gates: no true gradient, but in test_fork_recurrent
    _conv_lstm("plain", "", "4x2x3x5x4", "4x2 episodes", true_gradient=False),
    _conv_lstm("goes_on", "", "3x1x2x4x4", "3x1 flags", passes=2, true_gradient=False),
    _conv_lstm(
        "dilation", "pad: 2 dilation: 2", "2x1x2x5x6", "2x1 episodes", pad=0, true_gradient=False
    ),
    _conv_lstm(
        "no_peepholes", "} lstm_debug_param { disable_hadamard: true", "3x2x2x4x4", "3x2 episodes"
    ),
    _conv_lstm(
        "all_peepholes",
        "} lstm_debug_param { axis_hadamard: 2 num_axes_hadamard: 3",
        "3x2x2x4x4",
        "3x2 episodes",
        true_gradient=False,
    ),
    _conv_lstm(
        "exposed",
        "} recurrent_param { expose_hidden: true",
        "3x2x3x5x4",
        "3x2 flags",
        "1x2x2x5x4",
        "1x2x2x5x4",
        tops=3,
        true_gradient=False,
    ),
    # flow
    fork_case(
        "Correlation",
        "plain",
        "correlation_param { pad: 2 kernel_size: 1 max_displacement: 2 }",
        "2x3x5x4",
        "2x3x5x4",
    ),
    fork_case(
        "Correlation",
        "strides",
        "correlation_param { pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2 }",
        "2x3x7x6",
        "2x3x7x6",
    ),
    fork_case(
        "Correlation",
        "subtract",
        "correlation_param { pad: 2 kernel_size: 3 max_displacement: 1 "
        "correlation_type: SUBTRACT }",
        "1x2x5x4",
        "1x2x5x4",
    ),
    fork_case("FlowWarp", "plain", "", "2x3x5x6", "2x2x5x6"),
]

IN_PLACE = ["ReLU6"]

REFUSED = [
    (
        "ConvolutionDepthwise",
        "convolution_param { num_output: 8 kernel_size: 3 }",
        ["2x4x5x5"],
        "num_output 8: a filter for each of the 4 channels",
    ),
    (
        "DepthwiseConvolution",
        "convolution_param { num_output: 4 kernel_size: 3 group: 3 }",
        ["2x4x5x5"],
        "group 3 .*4",
    ),
    ("ShuffleChannel", "shuffle_channel_param { group: 3 }", ["2x4x5x5"], "group 3 must divide"),
    ("Axpy", "", ["2x3", "2x4x5x5", "2x4x5x5"], r"found \(2, 3\), \(2, 4, 5, 5\)"),
    ("Interp", "interp_param { pad_beg: 1 }", ["2x4x5x5"], "are 0 or less"),
    ("Interp", "interp_param { height: 3 }", ["2x4x5x5"], "give both height and width"),
    ("Upsample", "upsample_param { scale_h: 2 }", ["2x4x5x5"], "only scale counts"),
    ("BN", "", ["2x4x5x5"], "no field of either PSPNet's .* momentum: 0.9 or bn_mode: LEARN"),
    ("BN", "bn_param { momentum: 0.9 bn_mode: LEARN }", ["2x4x5x5"], "fields of both"),
    (
        "BN",
        "bn_param { var_eps: 1e-9 momentum: 1 decay: 0.1 }",
        ["2x4x5x5"],
        "var_eps changes .*CTPN",
    ),
    (
        "Correlation",
        "correlation_param { kernel_size: 2 max_displacement: 1 }",
        ["2x4x5x5", "2x4x5x5"],
        "an odd kernel_size",
    ),
    (
        "Correlation",
        "correlation_param { kernel_size: 1 max_displacement: 9 }",
        ["2x4x5x5", "2x4x5x5"],
        r"leave \[-13, -13\]",
    ),
    ("Lstm", "", ["5x2x4"], "num_output is missing"),
    ("Lstm", "lstm_param { num_output: 2 }", ["5x2"], r"needs x \(T, N, I\)"),
    ("Lstm", "lstm_param { num_output: 2 }", ["5x2x4", "4x2"], r"bottom 1 must be \(5, 2\)"),
    ("ConvLSTM", "lstm_conv_param { num_output: 2 }", ["4x2x3x5x4", "4x2"], "kernel_size is miss"),
    (
        "ConvLSTM",
        "lstm_conv_param { num_output: 2 kernel_size: 3 }",
        ["4x2x3x5x4", "4x2"],
        "convolutions that keep the size",
    ),
    ("ConvLSTM", "", ["4x2x3x5x4", "4x2"], "takes one lstm_conv_param"),
    ("ConvLSTM", "", ["4x2x3x5x4", "4x2", "1x2"], "takes 2 bottoms"),
    (
        "ConvLSTM",
        "lstm_conv_param { num_output: 2 kernel_size: 1 } lstm_debug_param { axis_hadamard: 1 }",
        ["4x2x3x5x4", "4x2"],
        "must name axes from 2 to 4",
    ),
    ("FlowWarp", "", ["2x4x5x5", "2x4x5x5"], r"a flow \(N, 2, H, W\)"),
]
