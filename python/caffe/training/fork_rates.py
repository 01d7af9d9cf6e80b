"""Learning rates that forks of Caffe added to a solver's own file.

Intel's: lr_policy "multifixed" (stagelr, stageiter), "plateau" (plateau_winsize), and a linear
warm-up (warmup_iter, warmup_start_lr). NVCaffe's: rampup_interval, rampup_lr, min_lr.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from caffe_plain.errors import CaffeError

from ..proto import caffe_pb2

POLICIES = ("multifixed",)


def check(param: caffe_pb2.SolverParameter) -> None:
    """Raise a CaffeError where fields contradict each other; warn where NVCaffe's versions do."""
    stages = len(param.stagelr), len(param.stageiter)
    if param.lr_policy == "multifixed" and (stages[0] != stages[1] or not stages[0]):
        raise CaffeError(
            "solver: lr_policy 'multifixed' needs stagelr and stageiter, one each for every stage; "
            f"found {stages[0]} and {stages[1]}"
        )
    if param.lr_policy != "multifixed" and any(stages):
        raise CaffeError(
            "solver: stagelr and stageiter are of lr_policy 'multifixed'; found "
            f"{param.lr_policy!r}"
        )
    for name in ("min_lr", "rampup_lr", "warmup_iter", "warmup_start_lr"):
        if getattr(param, name) < 0:
            raise CaffeError(f"solver: {name} must be 0 or more; found {getattr(param, name)}")
    if param.min_lr > param.base_lr:
        raise CaffeError(f"solver: min_lr {param.min_lr:.6g} is above base_lr {param.base_lr:.6g}")
    if param.rampup_interval and param.warmup_iter:
        raise CaffeError("solver: give rampup_interval (NVCaffe) or warmup_iter (Intel), not both")
    if param.rampup_interval and not param.HasField("min_lr"):
        warnings.warn(
            "rampup_interval: here the rate grows linearly, as in NVCaffe up to 0.16; for the "
            "square of later versions, which have min_lr, give min_lr: 0",
            stacklevel=2,
        )


def adapted(
    param: caffe_pb2.SolverParameter, iteration: int, rate: Callable[[int], float]
) -> float:
    """The rate of an iteration: a fork's own, or `rate(iteration)` as the fork changes it."""
    if iteration < param.rampup_interval:
        share = iteration / param.rampup_interval
        share = share**2 if param.HasField("min_lr") else share
        return max(_between(param.rampup_lr, param.base_lr, share), param.min_lr)
    if iteration < param.warmup_iter:
        return _between(param.warmup_start_lr, param.base_lr, iteration / param.warmup_iter)
    if param.lr_policy == "multifixed":
        return _stage_rate(param, iteration)
    if param.lr_policy == "poly" and param.min_lr:
        return _between(param.min_lr, param.base_lr, rate(iteration) / param.base_lr)
    return max(rate(iteration), param.min_lr)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _stage_rate(param: caffe_pb2.SolverParameter, iteration: int) -> float:
    """The rate of the first stage that does not end before the iteration; else the last one's."""
    stages = zip(param.stageiter, param.stagelr, strict=True)
    return next((rate for end, rate in stages if iteration <= end), param.stagelr[-1])
