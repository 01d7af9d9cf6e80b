"""AuxNet-26-2, 10 times wide: outputs at 19 and 26.

python -m relaybp.prototxt.generate auxnet-26-2-wide
"""

from relaybp.prototxt.auxnet import auxnet

WIDE = """\
- **Shortcuts** are 1x1 convolutions where the width changes, as in wide residual networks.
- **The auxiliary output** is after layer 19, as the authors placed it.
"""
EXPECTED = """
Test error, % (Guo et al., multi-way):

| | CIFAR-10 | CIFAR-100 |
|---|---|---|
| AuxNet-26-2, 10 times wide | 3.77 | 19.69 |
"""

MODEL = auxnet(26, [19], widths=(160, 320, 640), project=True, notes=WIDE, expected=EXPECTED)
