"""The update of one flow's parameters, with a momentum of its own."""

import os

from .errors import RelayError
from .flows import frozen_by
from .graph import Graph, address


def make_steps(solver, flows, own_momentum, scaled):
    """A step(iteration, factor) for each flow, the final one's last.

    The final loss uses the momentum of the solver itself, which its snapshots hold. `scaled`:
    whether factors other than 1 will come.
    """
    if hasattr(solver, "new_history"):
        return [NativeStep(solver, flow, own_momentum and flow is not flows[-1]) for flow in flows]
    from . import bvlc

    if not own_momentum:
        raise RelayError(
            "own_momentum: false: an original Caffe cannot update some parameters "
            "with a momentum that others share; use this repository's engine"
        )
    if scaled:
        bvlc.check_scalable(solver.param)
    prefix = solver.param.snapshot_prefix
    steps = [bvlc.BvlcStep(solver, flow, f"{prefix}.{flow.loss}") for flow in flows[:-1]]
    steps.append(bvlc.BvlcStep(solver, flows[-1], prefix))
    solver.adopt(steps[-1].inner)
    return steps


class NativeStep:
    """This repository's solver, for the records that a flow's layers use."""

    def __init__(self, solver, flow, own_momentum):
        self.solver, self.loss, self.own_momentum = solver, flow.loss, own_momentum
        users = {address(blob): layers for blob, layers in Graph(solver.net).parameters()}
        chosen = [
            index
            for index, record in enumerate(solver.net.learnable)
            if record.lr_mult and flow.layers.intersection(users[address(record.blob)])
        ]
        self.learnable = [solver.net.learnable[index] for index in chosen]
        self.history = (
            solver.new_history(self.learnable)
            if own_momentum
            else [[kept[index] for index in chosen] for kept in solver.history]
        )

    def __call__(self, iteration, factor):
        self.solver.iter = iteration
        self.solver.apply_update(self.learnable, self.history, factor)

    def save(self, path):
        """Write the momentum, as a .solverstate without weights."""
        from caffe.files import weights

        arrays = [kept.cpu().numpy() for kept_list in self.history for kept in kept_list]
        weights.write_state(path, self.solver.iter, "", 0, arrays)

    def restore(self, path):
        """Read what `save` wrote."""
        import torch

        from caffe.files import weights

        saved = weights.read_state(path).history
        mine = [kept for kept_list in self.history for kept in kept_list]
        if [array.size for array in saved] != [kept.numel() for kept in mine]:
            raise RelayError(
                f"{path}: its {len(saved)} history blobs do not fit the {len(mine)} "
                f"of the flow of {self.loss!r}: another net, relay file or solver"
            )
        for kept, array in zip(mine, saved):
            kept.copy_(torch.from_numpy(array.reshape(tuple(kept.shape))))


def beside(state, loss):
    """Where the momentum of a loss lies: PREFIX_iter_N.LOSS.solverstate."""
    stem, dot, ending = state.rpartition(".solverstate")
    return f"{stem}.{loss}{dot}{ending}"


def existing(path):
    """`path`, which must exist."""
    if not os.path.exists(path):
        raise RelayError(
            f"{path}: no such file; it holds the momentum of one loss and lies beside "
            "the snapshot of a run with the same schedule"
        )
    return path


def freeze(net, relay, frozen, source="relay.prototxt"):
    """Stop the layers that a relay file freezes from learning; `frozen`: those that do not."""
    names = set(frozen_by(Graph(net), relay, source)).difference(frozen)
    names = {name for name in names if name in net.params}
    if not names:
        return
    if not hasattr(net, "learnable"):
        name = min(names)
        raise RelayError(
            f"{source}: frozen layer {name!r} learns in the net; for an original "
            f"Caffe give it {len(net.params[name])} times param {{ lr_mult: 0 }}"
        )
    still = {address(blob) for name in names for blob in net.params[name]}
    for record in net.learnable:
        if address(record.blob) in still:
            record.lr_mult = 0
    for name in names:
        layer = net.layer_dict[name]
        layer.param_propagate_down = [False] * len(layer.blobs)
