"""VGG-13.

python -m relaybp.prototxt.generate vgg13
"""

from relaybp.prototxt.vgg import one_branch

MODEL = one_branch(
    "VGG-13",
    "VGG-13 (Simonyan and Zisserman, ICLR 2015, configuration B)",
    depths=(2, 2, 2, 2, 2),
    dataset="ImageNet",
    error="28.2 / 9.6",
)
