"""A plain network of 28 convolutions for CIFAR.

python -m relaybp.prototxt.generate plain28
"""

from relaybp.prototxt.plain import plain

MODEL = plain((9, 9, 10))
