"""The names of pycaffe's module caffe.pycaffe.

In the original, the functions here become methods of the binary Net; scripts call them, wrap them
or put others in their place. Here they are Net's own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from .net import Net
from .solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
)
from .timer import Timer
from .training.parallel import NCCL

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
]

_Net_blobs = Net.blobs
_Net_blob_loss_weights = Net.blob_loss_weights
_Net_layer_dict = Net.layer_dict
_Net_params = Net.params
_Net_inputs = Net.inputs
_Net_outputs = Net.outputs
_Net_forward = Net.forward
_Net_backward = Net.backward
_Net_forward_all = Net.forward_all
_Net_forward_backward_all = Net.forward_backward_all
_Net_set_input_arrays = Net.set_input_arrays
_Net_batch = Net._batch


def _Net_get_id_name(func: Callable[[Net, int], list[int]], field: str) -> property:
    """A property for Net: {layer name: names of the blobs whose indices func(net, layer) gives}.

    `field` names the attribute of the net that keeps the dict once it is made.
    """

    def names_of(net: Net) -> OrderedDict[str, list[str]]:
        if not hasattr(net, field):
            blobs = list(net.blobs)
            found = OrderedDict(
                (name, [blobs[i] for i in func(net, index)])
                for index, name in enumerate(net._layer_names)
            )
            setattr(net, field, found)
        return getattr(net, field)

    return property(names_of)
