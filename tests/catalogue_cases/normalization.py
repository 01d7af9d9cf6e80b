"""Normalization layers: LRN, MVN, BatchNorm, Softmax."""

from . import Case

MAP = "2x5x4x3"

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
    Case("LRN", "within_5", "lrn_param { norm_region: WITHIN_CHANNEL alpha: 0.5 beta: 0.6 }",
         "1x2x6x5"),
    Case("LRN", "within_ignores_k",
         "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 k: 3 }", MAP),
    Case("LRN", "within_1", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 1 }", "1x2x3x3"),
]
IN_PLACE = ["Softmax"]
