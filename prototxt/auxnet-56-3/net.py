"""AuxNet-56-3: 56 layers, outputs at 35, 45 and 56.

python -m relaybp.prototxt.generate auxnet-56-3
"""

from relaybp.prototxt.auxnet import auxnet
from relaybp.prototxt.cifar import SHORTCUTS

EXPECTED = """
SVHN test error of the authors' variant that their table marks with a dagger: 1.58 % (multi-way);
ResNet-56 with the same mark: 1.70 %.
"""

MODEL = auxnet(56, [35, 45], notes=SHORTCUTS, expected=EXPECTED)
