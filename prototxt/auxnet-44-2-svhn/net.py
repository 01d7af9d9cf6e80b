"""AuxNet-44-2 as its authors trained it on SVHN: 44 layers, outputs at 39 and 44.

python -m relaybp.prototxt.generate auxnet-44-2-svhn
"""

from relaybp.prototxt.auxnet import auxnet
from relaybp.prototxt.cifar import SHORTCUTS

EXPECTED = """
SVHN test error, % (multi-way; the second figure is the authors' variant marked with a dagger):

| AuxNet-44-2 | AuxNet-56-2 | ResNet-56 |
|---|---|---|
| 1.96 / 1.75 | 1.84 / 1.63 | 2.06 / 1.70 |
"""

MODEL = auxnet(44, [39], notes=SHORTCUTS, expected=EXPECTED, data="SVHN")
