"""Layer types of forks: BVLC Caffe has none of them, so OpenCV or their definition judges.

See tests/test_forks_opencv.py and tests/test_forks_definitions.py.
"""

from . import Case

MAPS = "2x4x5x6"


def _case(type, name, options, *bottoms, **more):
    return Case(type, name, options, *bottoms, judged=False, **more)


def _roi(type, name, options, features):
    """Bottom 1 names 2 images and corners from 0 to 60, and gets no gradient."""
    options = f"propagate_down: true propagate_down: false {options}"
    return _case(type, name, options, features, "5x5 rois 2 60", backward="given")


def _conv_lstm(name, options, *bottoms, pad=1, **more):
    padding = f"pad: {pad} " if pad else ""
    options = f"lstm_conv_param {{ num_output: 2 kernel_size: 3 {padding}{options} }}"
    return _case("ConvLSTM", name, options, *bottoms, params=("uniform",) * 15, **more)


CASES = [
    # mobile
    _case(
        "DepthwiseConvolution",
        "plain",
        "convolution_param { num_output: 4 kernel_size: 3 pad: 1 group: 4 }",
        MAPS,
    ),
    _case(
        "DepthwiseConvolution",
        "stride",
        "convolution_param { num_output: 8 kernel_size: 3 stride: 2 group: 4 bias_term: false }",
        MAPS,
    ),
    _case("ConvolutionDepthwise", "plain", "convolution_param { kernel_size: 3 pad: 1 }", MAPS),
    _case(
        "ConvolutionDepthwise",
        "num_output",
        "convolution_param { num_output: 4 kernel_h: 3 "
        "kernel_w: 1 stride: 2 group: 2 bias_term: false }",
        MAPS,
    ),
    _case("ReLU6", "plain", "", "2x3x4x5 large"),
    _case("ReLU6", "slope", "relu6_param { negative_slope: 0.1 }", "2x7 large"),
    _case("ShuffleChannel", "two", "shuffle_channel_param { group: 2 }", MAPS),
    _case("ShuffleChannel", "three", "shuffle_channel_param { group: 3 }", "2x6x3x2"),
    _case("ShuffleChannel", "rows", "shuffle_channel_param { group: 2 }", "3x6"),
    _case("Axpy", "pixel", "", "2x3x1x1", "2x3x4x5", "2x3x4x5"),
    _case("Axpy", "vector", "", "2x3", "2x3x4x5", "2x3x4x5"),
    # ssd
    _case("Permute", "ssd", "permute_param { order: 0 order: 2 order: 3 order: 1 }", MAPS),
    _case("Permute", "first_axes", "permute_param { order: 2 order: 0 }", MAPS),
    _case("Permute", "nothing", "", "2x3x4"),
    _case(
        "Normalize",
        "ssd",
        "norm_param { across_spatial: false channel_shared: false "
        "scale_filler { type: 'constant' value: 20 } }",
        MAPS,
    ),
    _case("Normalize", "across_spatial", "norm_param { }", MAPS),
    _case("Normalize", "channel_shared", "norm_param { across_spatial: false eps: 0.1 }", MAPS),
    _case("Normalize", "by_channel", "norm_param { channel_shared: false }", "3x4"),
    _case("Normalize", "faces", "", "3x8"),
    _case("Normalize", "l1", "normalize_param { normalize_type: 'L1' }", MAPS),
    _case("PriorBox", "plain", "prior_box_param { min_size: 4 }", MAPS, "2x3x30x40", backward=None),
    _case(
        "PriorBox",
        "denser",
        "prior_box_param { min_size: 4 max_size: 8 aspect_ratio: 3 denser_prior_boxes: true }",
        MAPS,
        "2x3x30x40",
        backward=None,
    ),
    _case(
        "DetectionOutput",
        "polygons",
        "detection_output_param { num_classes: 2 code_type: CENTER_SIZE use_polygon: true "
        "nms_param { top_k: 9 } keep_top_k: 5 }",
        "2x72 uniform",
        "2x12 unit",
        "1x2x24 unit",
        backward=None,
    ),
    _case(
        "DetectionOutput",
        "plain",
        "detection_output_param { num_classes: 3 code_type: "
        "CENTER_SIZE nms_param { top_k: 9 } keep_top_k: 5 confidence_threshold: 0.1 }",
        "2x24 uniform",
        "2x18 unit",
        "1x2x24 unit",
        backward=None,
    ),
    _case(
        "DetectionOutput",
        "refinedet",
        "detection_output_param { num_classes: 3 code_type: CENTER_SIZE objectness_score: 0.4 }",
        "2x24 uniform",
        "2x18 unit",
        "1x2x24 unit",
        "2x12 unit",
        "2x24 uniform",
        backward=None,
    ),
    # regions
    _roi(
        "ROIPooling",
        "plain",
        "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.125 }",
        "2x3x8x9",
    ),
    _roi(
        "ROIPooling",
        "outside",
        "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 }",
        "2x3x8x9",
    ),
    _roi(
        "ROIPooling",
        "one_size",
        "roi_pooling_param { pooled_size: 2 spatial_scale: 0.125 }",
        "2x3x8x9",
    ),
    _roi(
        "ROIPooling",
        "padded",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.125 pad_ratio: 0.25 }",
        "2x3x8x9",
    ),
    _case(
        "BoxOutput",
        "plain",
        "box_output_param { fg_thr: -5 iou_thr: 0.65 field_w: 20 field_w: 40 field_h: 24 "
        "field_h: 40 downsample_rate: 8 downsample_rate: 16 max_nms_num: 20 }",
        "2x7x6x5",
        "2x7x3x2",
        backward=None,
    ),
    _case(
        "DecodeBBox",
        "plain",
        "bbox_reg_param { bbox_mean: 0 bbox_mean: 0.1 bbox_mean: 0 bbox_mean: 0 "
        "bbox_std: 0.1 bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.2 }",
        "5x8",
        "5x5 rois 2 60",
        backward=None,
    ),
    _roi(
        "ROIAlign",
        "plain",
        "roi_align_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.125 sampling_ratio: 2 }",
        "2x3x8x9",
    ),
    _roi(
        "ROIAlign",
        "adaptive",
        "roi_align_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.2 }",
        "2x2x8x9",
    ),
    _roi(
        "PSROIPooling",
        "plain",
        "psroi_pooling_param { spatial_scale: 0.125 output_dim: 2 group_size: 3 }",
        "2x18x8x9",
    ),
    _roi(
        "PSROIPooling",
        "outside",
        "psroi_pooling_param { spatial_scale: 0.25 output_dim: 3 group_size: 2 }",
        "2x12x8x9",
    ),
    _case(
        "Proposal",
        "plain",
        "proposal_param { ratio: 1 ratio: 2 scale: 2 post_nms_topn: 5 }",
        "1x4x3x4 unit",
        "1x8x3x4 unit",
        "1x3 constant 60",
        backward=None,
    ),
    # segmentation
    _case("Interp", "zoom", "interp_param { zoom_factor: 2 }", MAPS),
    _case("Interp", "shrink", "interp_param { shrink_factor: 2 }", MAPS),
    _case("Interp", "both", "interp_param { shrink_factor: 2 zoom_factor: 4 }", MAPS),
    _case("Interp", "size", "interp_param { height: 9 width: 1 }", MAPS),
    _case("Interp", "cut", "interp_param { height: 7 width: 8 pad_beg: -1 pad_end: -2 }", MAPS),
    _case("Upsample", "yolo", "upsample_param { scale: 2 }", MAPS),
    _case("Upsample", "yolo_default", "", MAPS),
    _case(
        "Upsample",
        "segnet",
        "propagate_down: true propagate_down: false upsample_param { scale: 2 }",
        "2x3x2x3",
        "2x3x2x3 places 24",
        backward="given",
    ),
    _case(
        "Upsample",
        "segnet_pad",
        "propagate_down: true propagate_down: false upsample_param { scale_h: 3 pad_out_h: true }",
        "2x3x2x3",
        "2x3x2x3 places 30",
        backward="given",
    ),
    _case(
        "Upsample",
        "segnet_size",
        "propagate_down: true propagate_down: false upsample_param { upsample_h: 5 upsample_w: 4 }",
        "2x3x2x3",
        "2x3x2x3 places 20",
        backward="given",
    ),
    _case(
        "BN",
        "pspnet",
        "bn_param { momentum: 0.95 }",
        MAPS,
        params=("normal", "normal", "normal", "positive"),
    ),
    _case(
        "BN",
        "pspnet_test",
        "bn_param { eps: 0.1 }",
        MAPS,
        phase="TEST",
        params=("normal", "normal", "normal", "positive"),
    ),
    _case(
        "BN",
        "pspnet_frozen",
        "bn_param { frozen: true }",
        MAPS,
        params=("normal", "normal", "normal", "positive"),
    ),
    _case("BN", "segnet_learn", "bn_param { bn_mode: LEARN }", MAPS),
    _case("BN", "segnet_inference", "bn_param { bn_mode: INFERENCE }", MAPS),
    _case(
        "BN",
        "rows",
        "bn_param { momentum: 0.9 }",
        "4x3",
        params=("normal", "normal", "normal", "positive"),
    ),
    _case(
        "BatchNorm",
        "nvcaffe",
        "batch_norm_param { scale_bias: true scale_filler { type: 'constant' value: 2 } }",
        MAPS,
        params=("normal", "positive", "constant 2", "normal", "normal"),
    ),
    _case(
        "BatchNorm",
        "nvcaffe_test",
        "batch_norm_param { scale_bias: true }",
        MAPS,
        phase="TEST",
        params=("normal", "positive", "constant 2", "normal", "normal"),
    ),
    _case("Dropout", "scale_train", "dropout_param { scale_train: false }", MAPS),
    _case("Dropout", "scale_test", "dropout_param { scale_train: false }", MAPS, phase="TEST"),
    _case("Dropout", "bayesian", "dropout_param { sample_weights_test: true }", MAPS, phase="TEST"),
    # yolo
    _case("Reorg", "plain", "reorg_param { stride: 2 }", "2x8x4x6"),
    _case("Reorg", "reverse", "reorg_param { stride: 2 reverse: true }", "2x8x3x5"),
    _case(
        "YoloDetectionOutput",
        "plain",
        "yolo_detection_output_param { num_classes: 3 num_box: 2 "
        "biases: 1 biases: 2 biases: 2 biases: 1 }",
        "2x16x3x4",
        backward=None,
    ),
    _case(
        "Yolov3DetectionOutput",
        "plain",
        "yolov3_detection_output_param { num_classes: 2 "
        "num_box: 1 biases: 10 biases: 20 biases: 20 biases: 10 mask: 1 mask: 0 anchors_scale: 32 "
        "anchors_scale: 16 }",
        "2x7x3x4",
        "2x7x6x8",
        backward=None,
    ),
    # recurrent
    _case("Lstm", "plain", "lstm_param { num_output: 3 }", "5x2x4"),
    _case("Lstm", "one_step", "lstm_param { num_output: 3 }", "1x2x4"),
    _case("Lstm", "cont", "lstm_param { num_output: 2 }", "5x2x4", "5x2 episodes"),
    _case(
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
    _case(
        "Correlation",
        "plain",
        "correlation_param { pad: 2 kernel_size: 1 max_displacement: 2 }",
        "2x3x5x4",
        "2x3x5x4",
    ),
    _case(
        "Correlation",
        "strides",
        "correlation_param { pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2 stride_2: 2 }",
        "2x3x7x6",
        "2x3x7x6",
    ),
    _case(
        "Correlation",
        "subtract",
        "correlation_param { pad: 2 kernel_size: 3 max_displacement: 1 "
        "correlation_type: SUBTRACT }",
        "1x2x5x4",
        "1x2x5x4",
    ),
    _case("FlowWarp", "plain", "", "2x3x5x6", "2x2x5x6"),
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
    ("Permute", "permute_param { order: 4 }", ["2x4x5x5"], r"order \[4\] must name axes"),
    ("Permute", "permute_param { order: 1 order: 1 }", ["2x4x5x5"], "each at most once"),
    ("Normalize", "norm_param { } normalize_param { }", ["2x4x5x5"], "keep one"),
    ("Normalize", "normalize_param { bp_norm: true }", ["2x4x5x5"], "bp_norm changes .*windows"),
    ("Normalize", "normalize_param { normalize_type: 'L3' }", ["2x4"], "expected L1 or L2"),
    ("PriorBox", "", ["2x4x5x5", "2x3x9x9"], "min_size must be positive"),
    (
        "PriorBox",
        "prior_box_param { min_size: 4 reduce_boxes: true }",
        ["2x4x5x5", "2x3x9x9"],
        "reduce_boxes changes .*known from jiachen0212/ssd-focal_loss_caffe",
    ),
    ("PriorBox", "prior_box_param { min_size: 4 max_size: 2 }", ["2x4x5x5", "2x3x9x9"], "larger"),
    ("DetectionOutput", "", ["2x24", "2x18", "1x2x24"], "num_classes is missing"),
    (
        "DetectionOutput",
        "detection_output_param { num_classes: 3 use_polygon: true }",
        ["2x72", "2x18", "1x2x24"],
        "use_polygon needs code_type: CENTER_SIZE",
    ),
    (
        "DetectionOutput",
        "detection_output_param { num_classes: 4 }",
        ["2x24", "2x18", "1x2x24"],
        "6 prior boxes .* 4 classes need 48 codes and 48 scores for 2 images",
    ),
    (
        "DetectionOutput",
        "detection_output_param { num_classes: 3 }",
        ["2x24", "2x18", "1x2x24", "2x18"],
        r"RefineDet's bottoms need \(N, 12\)",
    ),
    ("ROIPooling", "roi_pooling_param { pooled_h: 2 }", ["2x4x5x5", "3x5"], "pooled_size must be"),
    ("BoxOutput", "box_output_param { field_w: 20 }", ["1x9x4x4"], "1 bottoms need 1 positive"),
    (
        "BoxOutput",
        "box_output_param { field_w: 20 field_h: 20 downsample_rate: 8 nms_type: 'IOMU' }",
        ["1x9x4x4"],
        "nms_type 'IOMU' is not supported",
    ),
    (
        "BoxOutput",
        "box_output_param { field_w: 20 field_h: 20 downsample_rate: 8 }",
        ["1x5x4x4"],
        "at least 2 scores and 4 codes",
    ),
    ("DecodeBBox", "", ["4x4", "4x5"], r"needs codes \(R, 8\)"),
    (
        "DecodeBBox",
        "bbox_reg_param { bbox_mean: 0 bbox_std: 1 }",
        ["4x8", "4x5"],
        "takes 4 bbox_mean and 4 positive bbox_std",
    ),
    (
        "ROIPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 2 }",
        ["2x4x5x5", "3x4"],
        r"regions \(R, 5\).* found .*\(3, 4\)",
    ),
    ("ROIAlign", "roi_align_param { pooled_h: 2 }", ["2x4x5x5", "3x5"], "pooled_size must be"),
    (
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
        ["2x4x5x5", "3x5"],
        "need 8 channels",
    ),
    ("Proposal", "", ["1x4x3x4", "1x8x3x4", "1x3"], "ratio and scale are missing"),
    (
        "Proposal",
        "proposal_param { ratio: 1 scale: 8 }",
        ["1x4x3x4", "1x8x3x4", "1x3"],
        r"1 anchors need scores \(1, 2, H, W\)",
    ),
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
    ("Reorg", "reorg_param { stride: 2 }", ["2x6x4x4"], "C a multiple of 4"),
    ("YoloDetectionOutput", "", ["2x125x3x3"], "5 anchors need 10 biases"),
    ("Yolov3DetectionOutput", "", ["2x125x3x3"], "1 bottoms need 1 anchors_scale and 3 mask"),
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
