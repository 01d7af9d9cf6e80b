"""Normalization layers: LRN, MVN, BatchNorm, Softmax."""

from . import Case

MAP = "2x5x4x3"
STATISTICS = ("normal", "positive", "positive")


def _batch_norm(name, options, bottom, **more):
    return Case("BatchNorm", name, options, bottom, params=STATISTICS, **more)


CASES = [
    Case("Softmax", "plain", "", "4x5"),
    Case("Softmax", "map", "", MAP),
    Case("Softmax", "one_axis", "softmax_param { axis: 0 }", "6"),
    Case("Softmax", "axis_0", "softmax_param { axis: 0 }", "4x3"),
    Case("Softmax", "axis_2", "softmax_param { axis: 2 }", MAP),
    Case("Softmax", "axis_last", "softmax_param { axis: -1 }", MAP),
    Case("Softmax", "large", "", "4x5 large", tolerance=1e-4),
    Case("Softmax", "one_class", "", "4x1x2"),
    Case("Softmax", "engine", "softmax_param { engine: CAFFE }", "3x4"),
    Case("Softmax", "five_axes", "softmax_param { axis: 1 }", "2x3x2x1x2"),
    Case("LRN", "across", "lrn_param { alpha: 0.5 }", "2x7x3x2"),
    Case("LRN", "across_size_3", "lrn_param { local_size: 3 alpha: 1 beta: 0.5 }", MAP),
    Case("LRN", "across_k", "lrn_param { alpha: 0.3 k: 2 }", MAP),
    Case("LRN", "across_alexnet", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }", MAP),
    Case("LRN", "across_size_1", "lrn_param { local_size: 1 alpha: 2 }", MAP),
    Case("LRN", "across_size_over_channels", "lrn_param { local_size: 9 alpha: 1 }", "2x3x2x2"),
    Case("LRN", "across_beta_2", "lrn_param { local_size: 3 alpha: 0.7 beta: 2 }", MAP),
    Case("LRN", "within", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 1 }", MAP),
    Case(
        "LRN",
        "within_5",
        "lrn_param { norm_region: WITHIN_CHANNEL alpha: 0.5 beta: 0.6 }",
        "1x2x6x5",
    ),
    Case(
        "LRN",
        "within_ignores_k",
        "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 k: 3 }",
        MAP,
    ),
    Case("LRN", "within_1", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 1 }", "1x2x3x3"),
    Case("MVN", "plain", "", MAP),
    Case("MVN", "mean_only", "mvn_param { normalize_variance: false }", MAP),
    Case("MVN", "across", "mvn_param { across_channels: true }", MAP),
    Case(
        "MVN",
        "across_mean_only",
        "mvn_param { across_channels: true normalize_variance: false }",
        MAP,
    ),
    Case("MVN", "eps", "mvn_param { eps: 0.1 }", MAP, true_gradient=False),
    Case(
        "MVN", "across_eps", "mvn_param { across_channels: true eps: 1 }", MAP, true_gradient=False
    ),
    Case("MVN", "three_axes", "", "2x3x5"),
    Case("MVN", "two_axes_across", "mvn_param { across_channels: true }", "3x6"),
    Case("MVN", "one_image", "", "1x2x3x3"),
    Case("MVN", "large", "", "2x2x3x3 large"),
    Case("MVN", "one_channel", "", "3x1x2x3"),
    _batch_norm("train", "", MAP),
    _batch_norm("test", "", MAP, phase="TEST"),
    _batch_norm("train_stored", "batch_norm_param { use_global_stats: true }", MAP),
    _batch_norm("test_batch", "batch_norm_param { use_global_stats: false }", MAP, phase="TEST"),
    _batch_norm("eps", "batch_norm_param { eps: 0.1 }", MAP),
    _batch_norm("eps_stored", "batch_norm_param { eps: 0.5 }", MAP, phase="TEST"),
    _batch_norm("fraction", "batch_norm_param { moving_average_fraction: 0.5 }", MAP),
    _batch_norm("many_passes", "batch_norm_param { moving_average_fraction: 0.9 }", MAP, passes=5),
    _batch_norm("two_axes", "", "6x4"),
    _batch_norm("two_axes_stored", "", "6x4", phase="TEST"),
    _batch_norm("three_axes", "", "3x2x5"),
    _batch_norm("five_axes", "", "2x3x2x2x3"),
    _batch_norm("large", "", "3x2x4x3 large"),
    Case("BatchNorm", "new_statistics", "", MAP, phase="TEST", params=["constant 0"] * 3),
    _batch_norm("one_value", "batch_norm_param { eps: 1 }", "1x3x1x1", tolerance=1e-4),
]
IN_PLACE = ["Softmax", "BatchNorm"]

REFUSED = [
    ("Softmax", "softmax_param { axis: 3 }", ["2x3"], "axis 3 is outside"),
    ("LRN", "lrn_param { local_size: 4 }", ["2x3x4x4"], "must be odd; found 4"),
    ("LRN", "", ["2x3"], r"must be \(N, C, H, W\)"),
    ("BatchNorm", "param { lr_mult: 1 }", ["2x3"], "lr_mult must be 0; found 1"),
]
