"""A plain network of 19 convolutions for CIFAR.

python -m relaybp.prototxt.generate plain19
"""

from relaybp.prototxt.plain import plain

MODEL = plain((6, 6, 7))
