"""VGG-16.

python -m relaybp.prototxt.generate vgg16
"""

from relaybp.prototxt.vgg import one_branch

MODEL = one_branch(
    "VGG-16",
    "VGG-16 (Simonyan and Zisserman, ICLR 2015, configuration D)",
    depths=(2, 2, 3, 3, 3),
    dataset="ImageNet",
    error="26.6 / 8.6",
)
