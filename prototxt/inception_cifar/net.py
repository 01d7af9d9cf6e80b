"""A small network of the relay paper's inception modules for CIFAR.

python -m relaybp.prototxt.generate inception_cifar
"""

from functools import partial

from relaybp.prototxt.plain import inception_stages, without_batch_norm

ABOUT = """
An inception-like network for CIFAR-10, beside the plain ones what Model B of Relay Backpropagation
(Shen, Lin and Huang, ECCV 2016) is beside Model A: a 3x3 convolution and eight of its modified
inception modules in three stages (2, 3, 3; k = 8, 16, 32), each stage max-pooled, then global
average pooling and one fc. A module concatenates a 1x1 convolution of k filters, a 3x3 one of k and
two stacked 3x3 ones of 2k each. There is no BatchNorm and no shortcut.

One auxiliary branch is attached to `pool2`. Its loss trains everything below it, the primary loss
everything from the top down to `inception2a`; both train the modules of stage 2.
"""

MODEL = without_batch_norm(
    "Inception for CIFAR",
    ABOUT,
    partial(inception_stages, modules=(2, 3, 3), widths=(8, 16, 32)),
    overlap="inception2a",
    lowest="conv1",
)
