"""Layer types of forks that detect objects: SSD, Fast and Faster R-CNN, R-FCN, MS-CNN, YOLO.

See tests/test_forks_opencv.py and tests/test_forks_definitions.py.
"""

from .forks import MAPS, fork_case


def _roi(type, name, options, features):
    """Bottom 1 names 2 images and corners from 0 to 60, and gets no gradient."""
    options = f"propagate_down: true propagate_down: false {options}"
    return fork_case(type, name, options, features, "5x5 rois 2 60", backward="given")


CASES = [
    # ssd
    fork_case("Permute", "ssd", "permute_param { order: 0 order: 2 order: 3 order: 1 }", MAPS),
    fork_case("Permute", "first_axes", "permute_param { order: 2 order: 0 }", MAPS),
    fork_case("Permute", "nothing", "", "2x3x4"),
    fork_case(
        "Normalize",
        "ssd",
        "norm_param { across_spatial: false channel_shared: false "
        "scale_filler { type: 'constant' value: 20 } }",
        MAPS,
    ),
    fork_case("Normalize", "across_spatial", "norm_param { }", MAPS),
    fork_case("Normalize", "channel_shared", "norm_param { across_spatial: false eps: 0.1 }", MAPS),
    fork_case("Normalize", "by_channel", "norm_param { channel_shared: false }", "3x4"),
    fork_case("Normalize", "faces", "", "3x8"),
    fork_case("Normalize", "l1", "normalize_param { normalize_type: 'L1' }", MAPS),
    fork_case(
        "PriorBox", "plain", "prior_box_param { min_size: 4 }", MAPS, "2x3x30x40", backward=None
    ),
    fork_case(
        "PriorBox",
        "denser",
        "prior_box_param { min_size: 4 max_size: 8 aspect_ratio: 3 denser_prior_boxes: true }",
        MAPS,
        "2x3x30x40",
        backward=None,
    ),
    fork_case(
        "DetectionOutput",
        "polygons",
        "detection_output_param { num_classes: 2 code_type: CENTER_SIZE use_polygon: true "
        "nms_param { top_k: 9 } keep_top_k: 5 }",
        "2x72 uniform",
        "2x12 unit",
        "1x2x24 unit",
        backward=None,
    ),
    fork_case(
        "DetectionOutput",
        "plain",
        "detection_output_param { num_classes: 3 code_type: "
        "CENTER_SIZE nms_param { top_k: 9 } keep_top_k: 5 confidence_threshold: 0.1 }",
        "2x24 uniform",
        "2x18 unit",
        "1x2x24 unit",
        backward=None,
    ),
    fork_case(
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
    fork_case(
        "BoxOutput",
        "plain",
        "box_output_param { fg_thr: -5 iou_thr: 0.65 field_w: 20 field_w: 40 field_h: 24 "
        "field_h: 40 downsample_rate: 8 downsample_rate: 16 max_nms_num: 20 }",
        "2x7x6x5",
        "2x7x3x2",
        backward=None,
    ),
    fork_case(
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
    fork_case(
        "Proposal",
        "plain",
        "proposal_param { ratio: 1 ratio: 2 scale: 2 post_nms_topn: 5 }",
        "1x4x3x4 unit",
        "1x8x3x4 unit",
        "1x3 constant 60",
        backward=None,
    ),
    # yolo
    fork_case("Reorg", "plain", "reorg_param { stride: 2 }", "2x8x4x6"),
    fork_case("Reorg", "reverse", "reorg_param { stride: 2 reverse: true }", "2x8x3x5"),
    fork_case(
        "YoloDetectionOutput",
        "plain",
        "yolo_detection_output_param { num_classes: 3 num_box: 2 "
        "biases: 1 biases: 2 biases: 2 biases: 1 }",
        "2x16x3x4",
        backward=None,
    ),
    fork_case(
        "Yolov3DetectionOutput",
        "plain",
        "yolov3_detection_output_param { num_classes: 2 "
        "num_box: 1 biases: 10 biases: 20 biases: 20 biases: 10 mask: 1 mask: 0 anchors_scale: 32 "
        "anchors_scale: 16 }",
        "2x7x3x4",
        "2x7x6x8",
        backward=None,
    ),
]

REFUSED = [
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
    ("Reorg", "reorg_param { stride: 2 }", ["2x6x4x4"], "C a multiple of 4"),
    ("YoloDetectionOutput", "", ["2x125x3x3"], "5 anchors need 10 biases"),
    ("Yolov3DetectionOutput", "", ["2x125x3x3"], "1 bottoms need 1 anchors_scale and 3 mask"),
]
