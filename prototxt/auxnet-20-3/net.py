"""AuxNet-20-3: 20 layers, outputs at 11, 15 and 20.

python -m relaybp.prototxt.generate auxnet-20-3
"""

from relaybp.prototxt.auxnet import auxnet
from relaybp.prototxt.cifar import SHORTCUTS

EXPECTED = """
The paper has no network of this size. It is here to compare the ways of training on one machine in
an hour: `SCALE=cifar` of `tools/tables/auxnet_methods.sh`. The plain ResNet-20 of He et al. has a
test error of 8.75 % on CIFAR-10.
"""

MODEL = auxnet(20, [11, 15], notes=SHORTCUTS, expected=EXPECTED)
