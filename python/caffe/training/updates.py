"""Update rules: each turns gradients into updates, in place, and keeps its history.

`update(gradients, history, rate, param, iteration)` works on lists of tensors of one learning
rate. `gradients` become what is subtracted from the parameters; `history` is a list of such lists,
`HISTORY[type]` of them. Formulas as in Caffe's solvers.
"""

import math
from typing import Any

import torch

from .. import kernels
from ..blob import show


def sgd(gradients, history, rate, param, iteration):
    """V = momentum V + rate g; the update is V."""
    (velocity,) = history
    torch._foreach_mul_(velocity, param.momentum)
    torch._foreach_add_(velocity, gradients, alpha=rate)
    torch._foreach_copy_(gradients, velocity)


def nesterov(gradients, history, rate, param, iteration):
    """V' = momentum V + rate g; the update is (1 + momentum) V' - momentum V."""
    (velocity,) = history
    before = torch._foreach_mul(velocity, -param.momentum)
    torch._foreach_mul_(velocity, param.momentum)
    torch._foreach_add_(velocity, gradients, alpha=rate)
    torch._foreach_copy_(gradients, velocity)
    torch._foreach_mul_(gradients, 1 + param.momentum)
    torch._foreach_add_(gradients, before)


def adagrad(gradients, history, rate, param, iteration):
    """H += g^2; the update is rate g / (sqrt(H) + delta)."""
    (squares,) = history
    torch._foreach_addcmul_(squares, gradients, gradients)
    _divide_by_root(gradients, squares, rate, param.delta)


def rmsprop(gradients, history, rate, param, iteration):
    """H = rms_decay H + (1 - rms_decay) g^2; the update is rate g / (sqrt(H) + delta)."""
    (squares,) = history
    _decay_squares(squares, gradients, param.rms_decay)
    _divide_by_root(gradients, squares, rate, param.delta)


def adadelta(gradients, history, rate, param, iteration):
    """u = g sqrt((delta + U) / (delta + H)), H and U running means of g^2 and u^2; rate u."""
    squares, updates = history
    _decay_squares(squares, gradients, param.momentum)
    above = torch._foreach_add(updates, param.delta)
    torch._foreach_div_(above, torch._foreach_add(squares, param.delta))
    torch._foreach_sqrt_(above)
    torch._foreach_mul_(gradients, above)
    _decay_squares(updates, gradients, param.momentum)
    torch._foreach_mul_(gradients, rate)


def adam(gradients, history, rate, param, iteration):
    """m / (sqrt(v) + delta), both running means corrected for their start at zero."""
    means, squares = history
    beta1, beta2, t = param.momentum, param.momentum2, iteration + 1
    torch._foreach_mul_(means, beta1)
    torch._foreach_add_(means, gradients, alpha=1 - beta1)
    _decay_squares(squares, gradients, beta2)
    torch._foreach_copy_(gradients, means)
    correction = math.sqrt(1 - beta2**t) / (1 - beta1**t)
    _divide_by_root(gradients, squares, rate * correction, param.delta)


def _decay_squares(squares, values, decay):
    torch._foreach_mul_(squares, decay)
    torch._foreach_addcmul_(squares, values, values, value=1 - decay)


def _divide_by_root(gradients, squares, rate, delta):
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    torch._foreach_div_(gradients, roots)
    torch._foreach_mul_(gradients, rate)


def follow(history: list, weights: list) -> None:
    """Move what a rule remembers to the device and into the precision that the weights have now.

    The tensors remain the same objects, because lists of several drivers may hold them.
    """
    for kept_list in history:
        for kept, weight in zip(kept_list, weights, strict=True):
            if kept.dtype is not weight.dtype or kept.get_device() != weight.get_device():
                kept.data = kept.data.to(weight)


# these rules keep no state and change nothing if lr_mult is 0
STILL = ("SGD", "Nesterov")


def try_fused_step(
    rule: str,
    params: list,
    weights: list,
    gradients: list,
    history: list,
    rate: float,
    solver_param: Any,
    decay: float,
    keep_diffs: bool,
    held: torch.Tensor | None = None,
) -> bool:
    """Do one whole step in one pass over memory, if a kernel can; returns whether it did.

    params: Blobs of one learning rate and decay, `weights` and `gradients` their tensors. Averages
    over iter_size, adds the L2 decay, updates `history`, subtracts. held: as Solver.held.
    """
    if rule not in ("SGD", "Nesterov") or solver_param.regularization_type != "L2":
        return False
    module = kernels.updating(weights, gradients, history[0], solver_param.momentum, keep_diffs)
    if module is None:
        return False
    copies = [blob.kept_copy() for blob in params]
    module.update_sgd(
        weights,
        gradients,
        history[0],
        copies,
        rate=rate,
        momentum=solver_param.momentum,
        decay=decay,
        gradient_factor=1 / solver_param.iter_size,
        nesterov=rule == "Nesterov",
        keep_diffs=keep_diffs,
        held=held,
    )
    for blob, copy in zip(params, copies, strict=True):
        if copy is not None:
            blob.keep_copy(copy)
    show(params, "data", "diff")
    return True


RULES = {
    "SGD": sgd,
    "Nesterov": nesterov,
    "AdaGrad": adagrad,
    "RMSProp": rmsprop,
    "AdaDelta": adadelta,
    "Adam": adam,
}
HISTORY = {name: 2 if name in ("AdaDelta", "Adam") else 1 for name in RULES}
