"""Residual networks (He et al. 2016) in the layer names of their authors' Caffe release."""

from caffe.net_spec import layers as L

from prototxt.parts import batch_norm, classifier, conv, pool, relu

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # (width, stride of the first block)


def resnet(n, x, branches, blocks, classes=1000):
    """The scores of a ResNet of bottleneck blocks, `blocks` of them in each of four stages.

    `branches` maps the name of a block ("res4d") to a function that hangs layers on its top.
    """
    x = conv(n, "conv1", x, 64, kernel_size=7, pad=3, stride=2)
    x = relu(n, "conv1_relu", batch_norm(n, "bn_conv1", "scale_conv1", x))
    x = pool(n, "pool1", x, kernel_size=3, stride=2)
    for stage, ((width, stride), count) in enumerate(zip(STAGES, blocks), 2):
        for index in range(count):
            block = f"{stage}{chr(ord('a') + index)}"
            x = bottleneck(n, block, x, width, stride if index == 0 else 1, index == 0)
            if f"res{block}" in branches:
                branches[f"res{block}"](n, x)
    x = pool(n, "pool5", x, "AVE", global_pooling=True)
    return classifier(n, f"fc{classes}", x, classes)


def bottleneck(n, block, x, width, stride, project):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; as in the release, the first 1x1 strides."""
    shortcut = x
    if project:
        shortcut = _conv_bn(n, f"{block}_branch1", x, 4 * width, kernel_size=1, stride=stride)
    x = _conv_bn(n, f"{block}_branch2a", x, width, kernel_size=1, stride=stride)
    x = relu(n, f"res{block}_branch2a_relu", x)
    x = _conv_bn(n, f"{block}_branch2b", x, width, kernel_size=3, pad=1)
    x = relu(n, f"res{block}_branch2b_relu", x)
    x = _conv_bn(n, f"{block}_branch2c", x, 4 * width, kernel_size=1)
    n[f"res{block}"] = L.Eltwise(shortcut, x)
    return relu(n, f"res{block}_relu", n[f"res{block}"])


def _conv_bn(n, suffix, x, num_output, **shape):
    x = conv(n, f"res{suffix}", x, num_output, **shape)
    return batch_norm(n, f"bn{suffix}", f"scale{suffix}", x)
