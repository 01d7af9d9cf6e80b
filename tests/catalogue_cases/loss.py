"""Loss layers, and Accuracy."""

from . import Case

SCORES, LABELS = "4x5", "4 labels 5"
MAP, MAP_LABELS = "2x4x3x2", "2x1x3x2 labels 4"
PROBABILITIES = "4x5 probabilities"


def _softmax(name, options, *bottoms, **more):
    return Case("SoftmaxWithLoss", name, options, *bottoms, **more)


def _infogain(name, options, *bottoms, **more):
    # with force_backward BVLC Caffe ends on the diff of H
    only_scores = "propagate_down: true propagate_down: false propagate_down: false "
    return Case("InfogainLoss", name, only_scores + options, *bottoms, backward="given", **more)


def _contrastive(name, options, *pair, true_gradient=False, **more):
    # BVLC Caffe adds 1e-4 to distances that it divides by
    return Case(
        "ContrastiveLoss", name, options, *pair, "6 flags", true_gradient=true_gradient, **more
    )


CASES = [
    _softmax("plain", "", SCORES, LABELS),
    _softmax("loss_weight", "loss_weight: 0.3", SCORES, LABELS),
    _softmax("labels_column", "", SCORES, "4x1 labels 5"),
    _softmax("confident", "", "6x5 large", "6 labels 5", tolerance=1e-5),
    # BVLC Caffe 1.0 refuses its own second top
    _softmax("probabilities", "", SCORES, LABELS, tops=2, judged=False, true_gradient=False),
    _softmax("map", "", MAP, MAP_LABELS),
    _softmax(
        "map_probabilities",
        "loss_weight: 2 loss_weight: 0",
        MAP,
        MAP_LABELS,
        tops=2,
        judged=False,
        true_gradient=False,
    ),
    _softmax("axis_last", "softmax_param { axis: -1 }", "2x3x4", "2x3 labels 4"),
    _softmax("axis_0", "softmax_param { axis: 0 }", "4x4", "4 labels 4"),
    _softmax("ignore", "loss_param { ignore_label: 2 }", "8x4", "8 labels 4"),
    _softmax("ignore_full", "loss_param { ignore_label: 2 normalization: FULL }", MAP, MAP_LABELS),
    _softmax(
        "ignore_batch", "loss_param { ignore_label: 1 normalization: BATCH_SIZE }", MAP, MAP_LABELS
    ),
    _softmax("ignore_none", "loss_param { ignore_label: 0 normalization: NONE }", MAP, MAP_LABELS),
    _softmax(
        "ignore_valid", "loss_param { ignore_label: 3 normalization: VALID }", MAP, MAP_LABELS
    ),
    _softmax("ignore_outside", "loss_param { ignore_label: 255 }", MAP, MAP_LABELS),
    _softmax("ignore_all", "loss_param { ignore_label: 0 }", SCORES, "4 constant 0"),
    _softmax("not_normalized", "loss_param { normalize: false }", MAP, MAP_LABELS),
    _softmax(
        "normalize_overruled",
        "loss_param { normalize: false normalization: FULL }",
        MAP,
        MAP_LABELS,
    ),
    Case("Accuracy", "top_1", "", "9x5", "9 labels 5", backward=None),
    Case("Accuracy", "top_3", "accuracy_param { top_k: 3 }", "9x5", "9 labels 5", backward=None),
    Case("Accuracy", "top_all", "accuracy_param { top_k: 5 }", "9x5", "9 labels 5", backward=None),
    Case("Accuracy", "ties", "", "9x3 labels 2", "9 labels 3", backward=None),
    Case(
        "Accuracy",
        "ties_top_2",
        "accuracy_param { top_k: 2 }",
        "9x4 labels 2",
        "9 labels 4",
        backward=None,
    ),
    Case(
        "Accuracy",
        "axis_last",
        "accuracy_param { axis: -1 }",
        "2x3x4",
        "2x3 labels 4",
        backward=None,
    ),
    Case("Accuracy", "axis_0", "accuracy_param { axis: 0 }", "4x6", "6 labels 4", backward=None),
    Case("Accuracy", "map", "", MAP, MAP_LABELS, backward=None),
    Case(
        "Accuracy", "ignore", "accuracy_param { ignore_label: 1 }", MAP, MAP_LABELS, backward=None
    ),
    Case(
        "Accuracy",
        "ignore_all",
        "accuracy_param { ignore_label: 1 }",
        SCORES,
        "4 constant 1",
        backward=None,
    ),
    Case("Accuracy", "per_class", "", "12x4", "12 labels 4", tops=2, backward=None),
    Case(
        "Accuracy",
        "per_class_top_2",
        "accuracy_param { top_k: 2 }",
        "12x4",
        "12 labels 4",
        tops=2,
        backward=None,
    ),
    Case("Accuracy", "per_class_absent", "", "6x5", "6 labels 2", tops=2, backward=None),
    Case(
        "Accuracy",
        "per_class_ignore",
        "accuracy_param { ignore_label: 0 }",
        MAP,
        MAP_LABELS,
        tops=2,
        backward=None,
    ),
    Case("EuclideanLoss", "plain", "", "4x5", "4x5"),
    Case("EuclideanLoss", "vector", "", "6", "6"),
    Case("EuclideanLoss", "column", "", "6x1", "6"),
    Case("EuclideanLoss", "map", "", "2x3x2x4", "2x3x2x4"),
    Case("EuclideanLoss", "other_shape", "", "2x3x2x4", "2x24"),
    Case("EuclideanLoss", "one", "", "1x7", "1x7"),
    Case("EuclideanLoss", "weight", "loss_weight: 0.25", "3x2", "3x2"),
    Case("EuclideanLoss", "negative_weight", "loss_weight: -3", "3x2x2", "3x2x2"),
    Case("EuclideanLoss", "far", "", "4x3 large", "4x3 large"),
    Case(
        "EuclideanLoss",
        "first_only",
        "propagate_down: true propagate_down: false",
        "4x3",
        "4x3",
        backward="given",
    ),
    Case(
        "EuclideanLoss",
        "second_only",
        "propagate_down: false propagate_down: true",
        "4x3",
        "4x3",
        backward="given",
    ),
    Case("HingeLoss", "plain", "", SCORES, LABELS),
    Case("HingeLoss", "l1", "hinge_loss_param { norm: L1 }", "7x3", "7 labels 3"),
    Case("HingeLoss", "l2", "hinge_loss_param { norm: L2 }", SCORES, LABELS),
    Case(
        "HingeLoss", "l2_weight", "loss_weight: 0.5 hinge_loss_param { norm: L2 }", SCORES, LABELS
    ),
    Case("HingeLoss", "l1_weight", "loss_weight: 2", SCORES, LABELS),
    Case("HingeLoss", "labels_column", "", SCORES, "4x1 labels 5"),
    Case("HingeLoss", "two_classes", "", "8x2", "8 labels 2"),
    Case("HingeLoss", "image", "", "3x2x2x2", "3 labels 8"),
    Case("HingeLoss", "large", "", "4x5 large", LABELS),
    Case("HingeLoss", "large_l2", "hinge_loss_param { norm: L2 }", "4x5 large", LABELS),
    Case("HingeLoss", "one", "hinge_loss_param { norm: L2 }", "1x4", "1 labels 4"),
    Case("SigmoidCrossEntropyLoss", "plain", "", "4x5", "4x5 flags"),
    Case("SigmoidCrossEntropyLoss", "soft", "", "4x5", "4x5 unit"),
    Case("SigmoidCrossEntropyLoss", "outside", "", "4x5", "4x5 normal"),
    Case("SigmoidCrossEntropyLoss", "large", "", "4x5 large", "4x5 flags"),
    Case("SigmoidCrossEntropyLoss", "map", "", MAP, MAP + " flags"),
    Case("SigmoidCrossEntropyLoss", "other_shape", "", MAP, "2x24 flags"),
    Case("SigmoidCrossEntropyLoss", "vector", "", "6", "6 flags"),
    Case("SigmoidCrossEntropyLoss", "weight", "loss_weight: 3", "4x5", "4x5 flags"),
    Case(
        "SigmoidCrossEntropyLoss", "full", "loss_param { normalization: FULL }", MAP, MAP + " flags"
    ),
    Case(
        "SigmoidCrossEntropyLoss", "none", "loss_param { normalization: NONE }", MAP, MAP + " flags"
    ),
    Case(
        "SigmoidCrossEntropyLoss",
        "valid",
        "loss_param { normalization: VALID }",
        MAP,
        MAP + " flags",
    ),
    Case(
        "SigmoidCrossEntropyLoss",
        "normalize",
        "loss_param { normalize: true }",
        MAP,
        MAP + " flags",
    ),
    Case(
        "SigmoidCrossEntropyLoss",
        "ignore",
        "loss_param { ignore_label: 2 }",
        MAP,
        MAP + " labels 3",
    ),
    Case(
        "SigmoidCrossEntropyLoss",
        "ignore_valid",
        "loss_param { ignore_label: 2 normalization: VALID }",
        MAP,
        MAP + " labels 3",
    ),
    Case(
        "SigmoidCrossEntropyLoss",
        "ignore_all",
        "loss_param { ignore_label: 1 normalization: VALID }",
        "4x5",
        "4x5 constant 1",
    ),
    Case(
        "SigmoidCrossEntropyLoss",
        "ignore_whole_part",
        "loss_param { ignore_label: 0 }",
        "4x5",
        "4x5 positive",
    ),
    Case("MultinomialLogisticLoss", "plain", "", PROBABILITIES, LABELS),
    Case("MultinomialLogisticLoss", "labels_column", "", PROBABILITIES, "4x1 labels 5"),
    Case("MultinomialLogisticLoss", "weight", "loss_weight: 0.7", PROBABILITIES, LABELS),
    Case("MultinomialLogisticLoss", "image", "", "4x2x3x1 unit", "4 labels 6"),
    Case("MultinomialLogisticLoss", "two_classes", "", "9x2 probabilities", "9 labels 2"),
    Case("MultinomialLogisticLoss", "one", "", "1x3 probabilities", "1 labels 3"),
    Case("MultinomialLogisticLoss", "unnormalized", "", "4x5 positive", LABELS),
    Case("MultinomialLogisticLoss", "zeros", "", "4x5 constant 0", LABELS, true_gradient=False),
    Case("MultinomialLogisticLoss", "one_class", "", "3x1 unit", "3 labels 1"),
    Case("MultinomialLogisticLoss", "many_classes", "", "3x40 probabilities", "3 labels 40"),
    _infogain("plain", "", SCORES, LABELS, "5x5"),
    _infogain("positive", "", SCORES, LABELS, "5x5 positive"),
    _infogain("matrix_axes", "", SCORES, LABELS, "1x1x5x5"),
    _infogain("weight", "loss_weight: 0.3", SCORES, LABELS, "5x5"),
    # the sum nearly cancels: BVLC Caffe's own runs differ by 2e-6
    _infogain("map", "", MAP, MAP_LABELS, "4x4", tolerance=5e-6),
    _infogain("axis_last", "infogain_loss_param { axis: -1 }", "2x3x4", "2x3 labels 4", "4x4"),
    _infogain("axis_0", "infogain_loss_param { axis: 0 }", "4x4", "4 labels 4", "4x4"),
    _infogain("ignore", "loss_param { ignore_label: 1 }", MAP, MAP_LABELS, "4x4"),
    _infogain(
        "ignore_batch",
        "loss_param { ignore_label: 1 normalization: BATCH_SIZE }",
        MAP,
        MAP_LABELS,
        "4x4",
    ),
    _infogain("full", "loss_param { normalization: FULL }", MAP, MAP_LABELS, "4x4"),
    _infogain("none", "loss_param { normalization: NONE }", MAP, MAP_LABELS, "4x4"),
    _infogain(
        "probabilities",
        "loss_weight: 1 loss_weight: 0",
        SCORES,
        LABELS,
        "5x5",
        tops=2,
        true_gradient=False,
    ),
    _contrastive("plain", "", "6x4", "6x4"),
    _contrastive("margin", "contrastive_loss_param { margin: 4 }", "6x4", "6x4"),
    _contrastive("small_margin", "contrastive_loss_param { margin: 0.5 }", "6x1", "6x1"),
    _contrastive(
        "legacy",
        "contrastive_loss_param { legacy_version: true }",
        "6x2",
        "6x2",
        true_gradient=True,
    ),
    _contrastive(
        "legacy_margin",
        "contrastive_loss_param { legacy_version: true margin: 5 }",
        "6x3",
        "6x3",
        true_gradient=True,
    ),
    _contrastive("weight", "loss_weight: 0.4 contrastive_loss_param { margin: 3 }", "6x3", "6x3"),
    _contrastive("four_axes", "contrastive_loss_param { margin: 3 }", "6x3x1x1", "6x3x1x1"),
    _contrastive("one_channel", "contrastive_loss_param { margin: 2 }", "6x1", "6x1"),
    _contrastive(
        "first_only",
        "propagate_down: true propagate_down: false propagate_down: false "
        "contrastive_loss_param { margin: 4 }",
        "6x3",
        "6x3",
        backward="given",
    ),
    Case("ContrastiveLoss", "all_alike", "", "5x3", "5x3", "5 constant 1"),
    Case(
        "ContrastiveLoss",
        "none_alike",
        "contrastive_loss_param { margin: 4 }",
        "5x3",
        "5x3",
        "5 constant 0",
        true_gradient=False,
    ),
]

REFUSED = [
    ("SoftmaxWithLoss", "", ["4x5", "3 labels 5"], "needs 4 labels.*found shape \\(3,\\)"),
    ("SoftmaxWithLoss", "softmax_param { axis: 2 }", ["4x5", "4"], "axis 2 is outside"),
    ("SoftmaxWithLoss", "softmax_param { axis: 0 }", ["5x4", "4"], "one batch size"),
    ("Accuracy", "accuracy_param { top_k: 6 }", ["4x5", "4"], "top_k must be 1 to 5"),
    ("Accuracy", "accuracy_param { top_k: 0 }", ["4x5", "4"], "top_k must be 1 to 5"),
    ("Accuracy", "", ["4x5", "2x3"], "needs 4 labels"),
    ("EuclideanLoss", "", ["4x5", "4x6"], "equally many values"),
    ("EuclideanLoss", "", ["4x5", "5x4"], "one batch size"),
    ("HingeLoss", "", ["4x5", "4x5"], "needs 4 labels"),
    ("InfogainLoss", "", ["4x5", "4"], "needs infogain_loss_param.source"),
    ("InfogainLoss", "", ["4x5", "4", "4x4"], "H must be 5 x 5"),
    ("ContrastiveLoss", "", ["4x5", "4x5", "3"], "one value for each of the 4 pairs"),
]
