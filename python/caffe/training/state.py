"""Snapshots: PREFIX_iter_N.caffemodel and .solverstate, binary or HDF5: written and restored."""

import os

import numpy as np
import torch

from caffe_plain.errors import CaffeError, DataError, WeightsError
from caffe_plain.glog import say

from .. import device
from ..files import weights
from ..proto import caffe_pb2
from . import data_state

TRAINING = ".training.caffemodel"  # the weights that are trained, where .caffemodel has an average


def snapshot(solver):
    """Write the weights and the state of a solver; return the path of the state."""
    param = solver.param
    if not param.snapshot_prefix:
        raise CaffeError("solver: a snapshot needs a snapshot_prefix, where its files go")
    hdf5 = param.snapshot_format == caffe_pb2.SolverParameter.HDF5
    kind, ending = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
    stem = f"{param.snapshot_prefix}_iter_{solver.iter}"
    os.makedirs(os.path.dirname(stem) or ".", exist_ok=True)
    model, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
    say("solver", f"Snapshotting to {kind} file {model}")
    with solver.averaged():
        solver.net.save(model, param.snapshot_diff)
    if solver.average.has_begun:
        model = f"{stem}{TRAINING}{ending}"
        with solver.average.in_net(False):
            solver.net.save(model, param.snapshot_diff)
    say("sgd_solver", f"Snapshotting solver state to {kind} file {state}")
    history = [kept.cpu().numpy() for kept_list in solver.history for kept in kept_list]
    step = solver.extra.current_step(solver.iter - 1)  # as of the last update
    data_state.write(state, [solver.net, *solver.test_nets], solver.extra.state())
    weights.write_state(state, solver.iter, model, step, history)
    return state


def restore(solver, path):
    """Give a solver the iteration, weights and history of a .solverstate or .solverstate.h5."""
    path = os.fspath(path)
    state = weights.read_state(path)
    mine = [kept for kept_list in solver.history for kept in kept_list]
    _check(path, state.history, mine, solver)
    if state.learned_net:
        _restore_weights(solver, _find_model(path, state.learned_net))
    for kept, array in zip(mine, state.history, strict=True):
        kept.copy_(torch.from_numpy(np.asarray(array, np.float32).reshape(kept.shape)))
    plateau = data_state.restore(path, [solver.net, *solver.test_nets])
    if device.solver_rank():  # what was restored are the first process's draws
        device.seed_draws(device.solver_rank(), state.iter)
    solver.extra.restore(state.iter, state.current_step, plateau)
    solver.iter = state.iter


def _restore_weights(solver, model):
    """Copy the weights, and the average where both the solver and the snapshot have one."""
    solver.average.end()
    if solver.average.decay and TRAINING in model:
        solver.net.copy_from(model.replace(TRAINING, ".caffemodel"))
        solver.average.begin()
    solver.net.copy_from(model)


def _check(path, history, mine, solver):
    if len(history) != len(mine):
        raise WeightsError(
            f"{path}: holds {len(history)} history blobs; this {solver.type} solver has "
            f"{len(mine)}: the state belongs to another net or solver type"
        )
    names = [p.name for p in solver.net.learnable]
    for index, (kept, array) in enumerate(zip(mine, history, strict=True)):
        if kept.numel() != array.size:
            raise WeightsError(
                f"{path}: the history of {names[index % len(names)]!r} has shape {array.shape}; "
                f"this net has {tuple(kept.shape)}: the state belongs to another net"
            )


def _find_model(path, model):
    """The weights that a state names: from the working directory, else beside the state."""
    beside = os.path.join(os.path.dirname(path), os.path.basename(model))
    for found in (model, beside):
        if os.path.exists(found):
            return found
    raise DataError(
        f"{path}: its weights {model!r} are missing; put them back or beside it, or "
        "run from the folder where the snapshot was taken"
    )
