"""Relay Backpropagation: which loss trains which layers, and the driver that trains so.

Runs on any pycaffe: this repository's engine or an original BVLC Caffe, Python 3.9 or newer.
"""

import os

# Installed, `layers`, `data_prep` and `prototxt` lie in this package; in a checkout, beside it.
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.exists(os.path.join(_CHECKOUT, "pyproject.toml")):
    __path__.append(_CHECKOUT)
