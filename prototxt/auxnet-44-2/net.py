"""AuxNet-44-2: 44 layers, outputs at 35 and 44.

python -m relaybp.prototxt.generate auxnet-44-2
"""

from relaybp.prototxt.auxnet import auxnet
from relaybp.prototxt.cifar import SHORTCUTS

EXPECTED = """
"44 layers with auxiliary outputs beat ResNet-110" (Guo et al.), whose test error is 6.43 % on
CIFAR-10 and about 28.7 % on CIFAR-100. The paper's figure for this number of outputs is not at
hand, nor is their placement: here they are every 8 layers below layer 43, the deepest first.
"""

MODEL = auxnet(44, [35], notes=SHORTCUTS, expected=EXPECTED)
