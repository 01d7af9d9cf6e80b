"""AuxNet-56-5: 56 layers, outputs at 15, 25, 35, 45 and 56.

python -m relaybp.prototxt.generate auxnet-56-5
"""

from relaybp.prototxt.auxnet import auxnet
from relaybp.prototxt.cifar import SHORTCUTS

EXPECTED = """
Test error, % (Guo et al., multi-way):

| | CIFAR-10 | CIFAR-100 |
|---|---|---|
| AuxNet-56-5 | 5.53 | 26.62 |
| ResNet-56 / 110 (He et al.; re-implementations) | 6.97 / 6.43 | about 27.4 / 28.7 |
"""

MODEL = auxnet(56, [15, 25, 35, 45], notes=SHORTCUTS, expected=EXPECTED)
