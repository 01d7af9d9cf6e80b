"""Layers that forks train with: BVLC Caffe has none of them, their definition judges.

See tests/test_fork_losses.py.
"""

from . import Case

ROIS = "6x8"
PROPAGATE = "propagate_down: true propagate_down: true propagate_down: false "


def _case(type, name, options, *bottoms, **more):
    return Case(type, name, options, *bottoms, judged=False, **more)


def _weighted(type, name, options, *bottoms, **more):
    """Weights, the bottoms from the third on, get no gradient."""
    options = PROPAGATE + "propagate_down: false " * (len(bottoms) - 3) + options
    return _case(type, name, options, *bottoms, backward="given", **more)


def _multibox(name, options, classes=4, locations=1, code="CENTER_SIZE", **more):
    """3 images, 30 prior boxes, 7 objects; the last image may have none."""
    return _case(
        "MultiBoxLoss",
        name,
        "propagate_down: true propagate_down: true propagate_down: false propagate_down: false "
        f"multibox_loss_param {{ num_classes: {classes} code_type: {code} {options} }}",
        f"3x{30 * 4 * locations}",
        f"3x{30 * classes}",
        "1x2x120 priors",
        f"1x1x7x8 objects 3 {classes}",
        backward="given",
        **more,
    )


CASES = [
    _multibox("ssd", "mining_type: MAX_NEGATIVE neg_pos_ratio: 3"),
    _multibox("corner", "neg_overlap: 0.4 overlap_threshold: 0.3", code="CORNER"),
    _multibox("corner_size", "use_difficult_gt: false loc_weight: 2", code="CORNER_SIZE"),
    _multibox("bipartite", "match_type: BIPARTITE loc_loss_type: L2"),
    _multibox("all", "mining_type: NONE bp_inside: true"),
    _multibox("logistic", "conf_loss_type: LOGISTIC overlap_threshold: 0.4"),
    _multibox("logistic_all", "conf_loss_type: LOGISTIC mining_type: NONE"),
    _multibox("old_mining", "do_neg_mining: false ignore_cross_boundary_bbox: true"),
    _multibox("classes", "share_location: false mining_type: NONE", locations=4),
    _multibox("predictions", "use_prior_for_matching: false bp_inside: true"),
    _multibox("agnostic", "map_object_to_agnostic: true", classes=2),
    _multibox("hard_example", "mining_type: HARD_EXAMPLE sample_size: 9"),
    _multibox(
        "hard_example_nms",
        "mining_type: HARD_EXAMPLE sample_size: 9 use_prior_for_nms: true "
        "nms_param { nms_threshold: 0.3 top_k: 25 }",
    ),
    _multibox("in_target", "encode_variance_in_target: true", true_gradient=False),
    _multibox("batch_size", "neg_pos_ratio: 1.5 } loss_param { normalization: BATCH_SIZE"),
    _case(
        "DetectionEvaluate",
        "plain",
        "detection_evaluate_param { num_classes: 4 overlap_threshold: 0.3 }",
        "1x1x9x7 detections 2 4",
        "1x1x6x8 objects 2 4",
        backward=None,
    ),
    _case("SmoothL1Loss", "plain", "", ROIS, ROIS),
    _case("SmoothL1Loss", "large", "", "6x8 large", "6x8x1x1 large"),
    _case("SmoothL1Loss", "sigma", "smooth_l1_loss_param { sigma: 3 }", ROIS, ROIS),
    _case("SmoothL1Loss", "map", "loss_weight: 0.3", "2x4x3x5", "2x4x3x5"),
    _weighted("SmoothL1Loss", "weights", "", ROIS, ROIS, "6x8 flags"),
    _weighted("SmoothL1Loss", "fractions", "", ROIS, ROIS, "6x8 unit"),
    _weighted(
        "SmoothL1Loss",
        "py_faster_rcnn",
        "smooth_l1_loss_param { sigma: 2 }",
        ROIS,
        ROIS,
        "6x8 flags",
        "6x8 positive",
    ),
    _case("SmoothL1LossOHEM", "plain", "", ROIS, ROIS),
    _weighted("SmoothL1LossOHEM", "weights", "", "6x8x1x1", ROIS, "6x8 flags"),
    _weighted(
        "SmoothL1LossOHEM",
        "pre_fixed",
        "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 128 }",
        ROIS,
        ROIS,
        "6x8 flags",
    ),
    _case(
        "SmoothL1LossOHEM",
        "each",
        "loss_weight: 1 loss_weight: 0",
        "2x4x3x5",
        "2x4x3x5",
        tops=2,
        true_gradient=False,
    ),
    _case("L1Loss", "one", "", "2x3x4x5"),
    _case("L1Loss", "two", "loss_weight: 0.32", "2x3x4x5", "2x3x4x5"),
    _case("L1Loss", "plateau", "l1_loss_param { plateau: 0.3 }", "2x3x4x5", "2x3x4x5"),
    _case("L1Loss", "l2", "l1_loss_param { l2_per_location: true }", "2x3x4x5", "2x3x4x5"),
    _case(
        "L1Loss",
        "l2_scaled",
        "l1_loss_param { l2_per_location: true l2_prescale_by_channels: true epsilon: 0.1 "
        "normalize_by_num_entries: true plateau: 0.5 }",
        "2x3x4x5",
        "2x3x4x5",
    ),
    _case(
        "CenterLoss",
        "plain",
        "loss_weight: 0.008 center_loss_param { num_output: 4 center_filler { type: 'xavier' } }",
        "6x5",
        "6 labels 4",
        true_gradient=False,
    ),
    _case(
        "CenterLoss",
        "map",
        "center_loss_param { num_output: 3 }",
        "6x2x2x1",
        "6x1 labels 3",
        passes=2,
        true_gradient=False,
    ),
    _case("SoftmaxWithLossOHEM", "plain", "", "6x4", "6 labels 4"),
    _case(
        "SoftmaxWithLossOHEM",
        "each",
        "loss_weight: 1 loss_weight: 0 loss_weight: 0 loss_param { ignore_label: 2 }",
        "2x4x3x2",
        "2x1x3x2 labels 4",
        tops=3,
        true_gradient=False,
    ),
    _case(
        "BoxAnnotatorOHEM",
        "plain",
        "box_annotator_ohem_param { roi_per_img: 2 ignore_label: -1 }",
        "8x5 labels 2",
        "8 positive",
        "8 labels 5",
        "8x12 flags",
        tops=2,
        backward=None,
    ),
    _case(
        "BoxAnnotatorOHEM",
        "pixels",
        "box_annotator_ohem_param { roi_per_img: 3 }",
        "2x5x2x3 labels 2",
        "2x1x2x3 positive",
        "2x1x2x3 labels 5",
        "2x4x2x3 unit",
        tops=2,
        backward=None,
    ),
    _case("SegAccuracy", "plain", "", "2x4x3x5", "2x1x3x5 labels 4", backward=None),
    _case(
        "SegAccuracy",
        "ignore",
        "seg_accuracy_param { ignore_label: 3 ignore_label: 5 }",
        "2x4x3x5",
        "2x1x3x5 labels 4",
        backward=None,
    ),
    _case(
        "SegAccuracy",
        "all_batches",
        "seg_accuracy_param { reset: false }",
        "2x3x3x5",
        "2x1x3x5 labels 3",
        passes=3,
        backward=None,
    ),
    _case("Reverse", "first", "", "3x2x4"),
    _case("Reverse", "last", "reverse_param { axis: -1 }", "2x3x4x5"),
    _case("Transpose", "lstm", "transpose_param { dim: 3 dim: 2 dim: 0 dim: 1 }", "2x3x4x5"),
    _case("Transpose", "two", "transpose_param { dim: 1 dim: 0 }", "2x3"),
]

BOXES = ["3x120", "3x120", "1x2x120", "1x1x7x8"]
REFUSED = [
    ("MultiBoxLoss", "", BOXES, "num_classes is missing"),
    ("MultiBoxLoss", "multibox_loss_param { num_classes: 3 }", BOXES, "need 360 codes and 270 sc"),
    (
        "MultiBoxLoss",
        "multibox_loss_param { num_classes: 4 }",
        [*BOXES[:3], "7x8"],
        "a row for each object",
    ),
    (
        "MultiBoxLoss",
        "multibox_loss_param { num_classes: 4 share_location: false }",
        BOXES,
        "mining needs share_location",
    ),
    ("DetectionEvaluate", "", ["1x1x9x7", "1x1x6x8"], "num_classes is missing"),
    (
        "DetectionEvaluate",
        "detection_evaluate_param { num_classes: 3 }",
        ["9x7", "1x1x6x8"],
        "bottom 0 needs detections",
    ),
    ("BoxAnnotatorOHEM", "top: 'top1'", ["8x5", "8", "8", "8x12"], "roi_per_img.*must be given"),
    (
        "BoxAnnotatorOHEM",
        "top: 'top1' box_annotator_ohem_param { roi_per_img: 2 }",
        ["8x5", "8", "7", "8x12"],
        "a loss and a label for each",
    ),
    ("SoftmaxWithLossOHEM", "", ["6x4", "5"], "bottom 1"),
    ("SmoothL1LossOHEM", "", ["4x5", "4x6"], "equally many values"),
    ("SmoothL1Loss", "", ["4x5", "4x6"], "equally many values"),
    ("SmoothL1Loss", "smooth_l1_loss_param { sigma: 0 }", ["4x5", "4x5"], "sigma must be positive"),
    ("L1Loss", "l1_loss_param { power: 1 }", ["2x3"], "power must be 0.5"),
    ("CenterLoss", "", ["4x5", "4"], "num_output.*must be given"),
    (
        "CenterLoss",
        "center_loss_param { num_output: 3 alpha: 0.1 }",
        ["4x5", "4"],
        "alpha changes what the layer computes.*CenterLoss_Caffe_Mnist",
    ),
    ("Transpose", "transpose_param { dim: 1 }", ["2x3"], "must name each axis"),
    ("Reverse", "reverse_param { axis: 2 }", ["2x3"], "axis 2 is outside"),
    ("SegAccuracy", "", ["2x4x3x5", "2x1x3x4"], "needs 30 labels"),
]
