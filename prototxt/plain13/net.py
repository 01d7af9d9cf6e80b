"""A plain network of 13 convolutions for CIFAR.

python -m relaybp.prototxt.generate plain13
"""

from relaybp.prototxt.plain import plain

MODEL = plain((4, 4, 5))
