"""Vision layers: Convolution, Deconvolution, Pooling, SPP, Im2col, Crop."""

from . import Case

MAPS = "2x3x7x6"

CASES = [
    Case("Pooling", "max_3_2", "pooling_param { kernel_size: 3 stride: 2 }", MAPS),
    Case("Pooling", "max_2_2", "pooling_param { kernel_size: 2 stride: 2 }", "2x2x6x8"),
    Case("Pooling", "max_pad", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", MAPS),
    Case("Pooling", "max_overhang", "pooling_param { kernel_size: 2 stride: 3 pad: 1 }", MAPS),
    Case("Pooling", "max_floor",
         "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", MAPS),
    Case("Pooling", "max_oblong", "pooling_param { kernel_h: 2 kernel_w: 4 stride_h: 1 "
         "stride_w: 2 pad_h: 1 pad_w: 2 }", MAPS),
    Case("Pooling", "max_global", "pooling_param { global_pooling: true }", MAPS),
    Case("Pooling", "max_mask", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", MAPS, tops=2),
    Case("Pooling", "max_mask_ties", "pooling_param { kernel_size: 3 stride: 1 }",
         "2x3x7x6 labels 3", tops=2, true_gradient=False),
    Case("Pooling", "max_wide_kernel", "pooling_param { kernel_size: 9 stride: 4 pad: 2 }", MAPS),
    Case("Pooling", "ave_3_2", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }", MAPS),
    Case("Pooling", "ave_pad", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", MAPS),
    Case("Pooling", "ave_pad_overhang",
         "pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 2 }", "1x2x8x8"),
    Case("Pooling", "ave_floor",
         "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }", MAPS),
    Case("Pooling", "ave_oblong", "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 "
         "stride_w: 1 pad_h: 1 pad_w: 0 }", MAPS),
    Case("Pooling", "ave_global", "pooling_param { pool: AVE global_pooling: true }", MAPS),
    # BVLC Caffe pools at random on a GPU only
    Case("Pooling", "stochastic_test", "pooling_param { pool: STOCHASTIC kernel_size: 3 "
         "stride: 2 }", "2x3x7x6 positive", phase="TEST", backward=None, judged=False),
    Case("Pooling", "stochastic_train", "pooling_param { pool: STOCHASTIC kernel_size: 3 "
         "stride: 2 }", "2x3x7x6 positive", judged=False),
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
    Case("SPP", "stochastic", "spp_param { pyramid_height: 2 pool: STOCHASTIC }",
         "2x2x6x4 positive", judged=False),
]
