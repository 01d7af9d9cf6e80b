"""A plain network of 22 convolutions for CIFAR.

python -m relaybp.prototxt.generate plain22
"""

from relaybp.prototxt.plain import plain

MODEL = plain((7, 7, 8))
