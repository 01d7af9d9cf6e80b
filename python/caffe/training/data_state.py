"""Which record and which random draw come next: PREFIX_iter_N.datastate, beside a solver's state.

Caffe's solverstate lacks this, so a resumed run there starts its data from the beginning (BVLC's
issue 1059). The file is JSON: {"seed": ..., "random": {device: state}, "nets": [{layer: position},
...], "plateau": {...}, "choices": {...}}; the train net comes first; then what the plateau policy
remembers, and which ways of computing were chosen.
Without it, as after a snapshot by BVLC Caffe, the data start from the beginning.
"""

import json
import os

import torch

from caffe_plain.errors import DataError
from caffe_plain.files import write_atomically

from .. import device
from ..kernels import choice


def path_of(state_path):
    """The .datastate that belongs to a .solverstate or .solverstate.h5."""
    stem, found, _ = state_path.rpartition(".solverstate")
    return (stem if found else state_path) + ".datastate"


def write(state_path, nets, plateau):
    """Write the positions of the data layers of `nets`, the random generators and the plateau."""
    content = json.dumps(
        {
            "seed": device.seed(),
            "random": {
                kind: bytes(state.tolist()).hex() for kind, state in device.random_state().items()
            },
            "nets": [_positions(net) for net in nets],
            "plateau": plateau,
            "choices": choice.state(),
        }
    ).encode()
    write_atomically(path_of(state_path), content)


def restore(state_path, nets):
    """Continue where `write` was called, and return the plateau's memory ({} without a file).

    Layers that the file does not name stay as they are.
    """
    path = path_of(state_path)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
        device.set_random_seed(state["seed"], device.solver_rank())
        device.set_random_state(
            {
                kind: torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
                for kind, text in state["random"].items()
            }
        )
        for net, positions in zip(nets, state["nets"], strict=False):
            for node in net.nodes:
                if node.name in positions:
                    node.layer.position = positions[node.name]
        choice.restore(state.get("choices", {}))
        return dict(state.get("plateau", {}))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{path}: damaged ({error}); delete it to start the data from the beginning"
        ) from error


def _positions(net):
    return {node.name: node.layer.position for node in net.nodes if hasattr(node.layer, "position")}
