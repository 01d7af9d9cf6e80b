"""Learning-rate policies: pure functions of the solver's settings and the iteration.

Plain Python, so that a driver on another Caffe can use the same functions.
"""

import math
from typing import Any

_MOST_EXPONENT = 700.0  # of e, in the range of a double


def learning_rate(param: Any, iteration: int) -> float:
    """The learning rate of `iteration` under a SolverParameter (Caffe's GetLearningRate)."""
    if param.lr_policy not in POLICIES:
        raise ValueError(
            "solver: unknown lr_policy {!r}; known are: {}".format(
                param.lr_policy, ", ".join(sorted(POLICIES))
            )
        )
    try:
        return POLICIES[param.lr_policy](param, iteration)
    except (OverflowError, ZeroDivisionError):  # of 0 to a negative power
        raise ValueError(
            f"solver: lr_policy {param.lr_policy!r}: the learning rate of iteration "
            f"{iteration} is too large for a number; change gamma {param.gamma:.6g} "
            f"or power {param.power:.6g}"
        ) from None


def current_step(param: Any, iteration: int) -> int:
    """How often the rate has dropped so far (multistep: stepvalues reached; step: steps).

    A stepvalue counts in the iteration it names, or in the one after the stepvalue before it:
    two equal ones drop the rate in two iterations.
    """
    if param.lr_policy == "step":
        return max(iteration, 0) // param.stepsize
    if param.lr_policy != "multistep":
        return 0
    reached, at = 0, -1
    for value in param.stepvalue:
        at = max(value, at + 1)
        if iteration < at:
            break
        reached += 1
    return reached


def _fixed(param: Any, iteration: int) -> float:
    return param.base_lr


def _step(param: Any, iteration: int) -> float:
    return param.base_lr * param.gamma ** current_step(param, iteration)


def _exp(param: Any, iteration: int) -> float:
    return param.base_lr * param.gamma**iteration


def _inv(param: Any, iteration: int) -> float:
    return param.base_lr * (1 + param.gamma * iteration) ** -param.power


def _poly(param: Any, iteration: int) -> float:
    """Beyond max_iter, where Caffe's formula has no meaning, the rate stays 0."""
    return param.base_lr * max(1 - iteration / param.max_iter, 0) ** param.power


def _sigmoid(param: Any, iteration: int) -> float:
    exponent = -param.gamma * (iteration - param.stepsize)
    return param.base_lr / (1 + math.exp(min(exponent, _MOST_EXPONENT)))


POLICIES = {
    "fixed": _fixed,
    "step": _step,
    "multistep": _step,
    "exp": _exp,
    "inv": _inv,
    "poly": _poly,
    "sigmoid": _sigmoid,
}
