"""VGG-22 for Places2.

python -m relaybp.prototxt.generate vgg22
"""

from relaybp.prototxt.vgg import one_branch

MODEL = one_branch(
    "VGG-22",
    "VGG-22, that is VGG-19 with three more convolutions",
    depths=(2, 2, 5, 5, 5),
    dataset="Places2",
    error="48.7 / 17.2",
    more="""
The paper says only "3 more conv layers"; here each of the last three stages gets one, in
VGG's own widths. Its Model A, which it also calls VGG-22, has 256 channels in the last stage and a
spatial pyramid in place of `pool5`: that network is `model_a`.
""",
)
