"""Loss layers, and Accuracy."""

from . import Case

SCORES, LABELS = "4x5", "4 labels 5"
MAP, MAP_LABELS = "2x4x3x2", "2x1x3x2 labels 4"


def _softmax(name, options, *bottoms, **more):
    return Case("SoftmaxWithLoss", name, options, *bottoms, **more)


CASES = [
    _softmax("plain", "", SCORES, LABELS),
    _softmax("loss_weight", "loss_weight: 0.3", SCORES, LABELS),
    _softmax("labels_column", "", SCORES, "4x1 labels 5"),
    _softmax("confident", "", "6x5 large", "6 labels 5", tolerance=1e-5),
    # BVLC Caffe 1.0 refuses its own second top
    _softmax("probabilities", "", SCORES, LABELS, tops=2, judged=False, true_gradient=False),
    _softmax("map", "", MAP, MAP_LABELS),
    _softmax("map_probabilities", "loss_weight: 2 loss_weight: 0", MAP, MAP_LABELS, tops=2,
             judged=False, true_gradient=False),
    _softmax("axis_last", "softmax_param { axis: -1 }", "2x3x4", "2x3 labels 4"),
    _softmax("axis_0", "softmax_param { axis: 0 }", "4x4", "4 labels 4"),
    _softmax("ignore", "loss_param { ignore_label: 2 }", "8x4", "8 labels 4"),
    _softmax("ignore_full", "loss_param { ignore_label: 2 normalization: FULL }", MAP, MAP_LABELS),
    _softmax("ignore_batch", "loss_param { ignore_label: 1 normalization: BATCH_SIZE }",
             MAP, MAP_LABELS),
    _softmax("ignore_none", "loss_param { ignore_label: 0 normalization: NONE }", MAP, MAP_LABELS),
    _softmax("ignore_valid", "loss_param { ignore_label: 3 normalization: VALID }",
             MAP, MAP_LABELS),
    _softmax("ignore_outside", "loss_param { ignore_label: 255 }", MAP, MAP_LABELS),
    _softmax("ignore_all", "loss_param { ignore_label: 0 }", SCORES, "4 constant 0"),
    _softmax("not_normalized", "loss_param { normalize: false }", MAP, MAP_LABELS),
    _softmax("normalize_overruled", "loss_param { normalize: false normalization: FULL }",
             MAP, MAP_LABELS),
    Case("Accuracy", "top_1", "", "9x5", "9 labels 5", backward=None),
    Case("Accuracy", "top_3", "accuracy_param { top_k: 3 }", "9x5", "9 labels 5", backward=None),
    Case("Accuracy", "top_all", "accuracy_param { top_k: 5 }", "9x5", "9 labels 5", backward=None),
    Case("Accuracy", "ties", "", "9x3 labels 2", "9 labels 3", backward=None),
    Case("Accuracy", "ties_top_2", "accuracy_param { top_k: 2 }", "9x4 labels 2", "9 labels 4",
         backward=None),
    Case("Accuracy", "axis_last", "accuracy_param { axis: -1 }", "2x3x4", "2x3 labels 4",
         backward=None),
    Case("Accuracy", "axis_0", "accuracy_param { axis: 0 }", "4x6", "6 labels 4", backward=None),
    Case("Accuracy", "map", "", MAP, MAP_LABELS, backward=None),
    Case("Accuracy", "ignore", "accuracy_param { ignore_label: 1 }", MAP, MAP_LABELS,
         backward=None),
    Case("Accuracy", "ignore_all", "accuracy_param { ignore_label: 1 }", SCORES, "4 constant 1",
         backward=None),
    Case("Accuracy", "per_class", "", "12x4", "12 labels 4", tops=2, backward=None),
    Case("Accuracy", "per_class_top_2", "accuracy_param { top_k: 2 }", "12x4", "12 labels 4",
         tops=2, backward=None),
    Case("Accuracy", "per_class_absent", "", "6x5", "6 labels 2", tops=2, backward=None),
    Case("Accuracy", "per_class_ignore", "accuracy_param { ignore_label: 0 }", MAP, MAP_LABELS,
         tops=2, backward=None),
]
