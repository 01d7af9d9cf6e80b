"""VGG-25 for Places2.

python -m relaybp.prototxt.generate vgg25
"""

from relaybp.prototxt.vgg import one_branch

MODEL = one_branch(
    "VGG-25",
    "VGG-25, that is VGG-19 with six more convolutions",
    depths=(2, 2, 6, 6, 6),
    dataset="Places2",
    error="48.9 / 17.4",
    more="""
The paper says only "6 more conv layers"; here each of the last three stages gets two, in
VGG's own widths.
""",
)
