"""A plain network of 10 convolutions for CIFAR.

python -m relaybp.prototxt.generate plain10
"""

from relaybp.prototxt.plain import plain

MODEL = plain((3, 3, 4))
