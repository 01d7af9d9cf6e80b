"""Small nets that several tests use."""

# Two losses on a trunk with a residual block; the flows can overlap in conv2 and conv3.
BRANCHED = """
name: "branched"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 dim: 12 dim: 12 } shape { dim: 4 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1"
        scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "res2_branch2a" type: "Convolution" bottom: "conv1" top: "res2_branch2a"
        convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "res2_branch2b" type: "Convolution" bottom: "res2_branch2a" top: "res2_branch2b"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1
                            weight_filler { type: "msra" } } }
layer { name: "res2" type: "Eltwise" bottom: "conv1" bottom: "res2_branch2b" top: "res2" }
layer { name: "relu2" type: "ReLU" bottom: "res2" top: "res2" }
layer { name: "conv3" type: "Convolution" bottom: "res2" top: "conv3"
        convolution_param { num_output: 8 kernel_size: 3 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu3" type: "ReLU" bottom: "conv3" top: "conv3" }
layer { name: "aux_pool" type: "Pooling" bottom: "conv3" top: "aux_pool"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "aux_fc" type: "InnerProduct" bottom: "aux_pool" top: "aux_fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux_fc" bottom: "label"
        top: "aux_loss" loss_weight: 0.3 }
layer { name: "conv4" type: "Convolution" bottom: "conv3" top: "conv4"
        convolution_param { num_output: 8 kernel_size: 3
                            weight_filler { type: "msra" } } }
layer { name: "relu4" type: "ReLU" bottom: "conv4" top: "conv4" }
layer { name: "pool4" type: "Pooling" bottom: "conv4" top: "pool4"
        pooling_param { pool: MAX global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool4" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""

# Three outputs on a pre-activation trunk, as AuxNet has them: at layers 2, 3 and 5 of 5.
AUXILIARY = """
name: "auxiliary"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 6 dim: 3 dim: 8 dim: 8 } shape { dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 5 kernel_size: 3 pad: 1 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv1" top: "bn2" }
layer { name: "scale2" type: "Scale" bottom: "bn2" top: SCALE_TOP
        scale_param { bias_term: true } }
layer { name: "relu2" type: "ReLU" bottom: SCALE_TOP top: SCALE_TOP }
layer { name: "conv2" type: "Convolution" bottom: SCALE_TOP top: "conv2"
        convolution_param { num_output: 5 kernel_size: 3 pad: 1 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "block2" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "block2" }
layer { name: "aux2_pool" type: "Pooling" bottom: "block2" top: "aux2_pool"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "aux2_fc" type: "InnerProduct" bottom: "aux2_pool" top: "aux2_fc"
        param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "aux2_loss" type: "SoftmaxWithLoss" bottom: "aux2_fc" bottom: "label"
        top: "aux2_loss" loss_weight: 0.5 }
layer { name: "conv3" type: "Convolution" bottom: "block2" top: "conv3"
        convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu3" type: "ReLU" bottom: "conv3" top: "conv3" }
layer { name: "aux3_pool" type: "Pooling" bottom: "conv3" top: "aux3_pool"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "aux3_fc" type: "InnerProduct" bottom: "aux3_pool" top: "aux3_fc"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "aux3_loss" type: "SoftmaxWithLoss" bottom: "aux3_fc" bottom: "label"
        top: "aux3_loss" loss_weight: 0.25 }
layer { name: "conv4" type: "Convolution" bottom: "conv3" top: "conv4"
        convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "relu4" type: "ReLU" bottom: "conv4" top: "conv4" }
layer { name: "pool4" type: "Pooling" bottom: "conv4" top: "pool4"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool4" top: "fc"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
# an original Caffe can run an in-place Scale's backward only once after a forward
AUXILIARY_IN_PLACE = AUXILIARY.replace("SCALE_TOP", '"bn2"')
AUXILIARY = AUXILIARY.replace("SCALE_TOP", '"scale2"')
