"""Learning-rate policies: pure functions of the solver's settings and the iteration.

Plain Python, so that a driver on another Caffe can use the same functions.
"""

import math
from itertools import takewhile


def learning_rate(param, iteration):
    """The learning rate of `iteration` under a SolverParameter (Caffe's GetLearningRate)."""
    if param.lr_policy not in POLICIES:
        raise ValueError("solver: unknown lr_policy %r; known are: %s"
                         % (param.lr_policy, ", ".join(sorted(POLICIES))))
    return POLICIES[param.lr_policy](param, iteration)


def current_step(param, iteration):
    """How often the rate has dropped so far (multistep: stepvalues reached; step: steps)."""
    if param.lr_policy == "step":
        return iteration // param.stepsize
    return len(list(takewhile(lambda value: iteration >= value, param.stepvalue)))


def _fixed(param, iteration):
    return param.base_lr


def _step(param, iteration):
    return param.base_lr * param.gamma ** current_step(param, iteration)


def _exp(param, iteration):
    return param.base_lr * param.gamma ** iteration


def _inv(param, iteration):
    return param.base_lr * (1 + param.gamma * iteration) ** -param.power


def _poly(param, iteration):
    return param.base_lr * (1 - iteration / param.max_iter) ** param.power


def _sigmoid(param, iteration):
    return param.base_lr / (1 + math.exp(-param.gamma * (iteration - param.stepsize)))


POLICIES = {
    "fixed": _fixed,
    "step": _step,
    "multistep": _step,
    "exp": _exp,
    "inv": _inv,
    "poly": _poly,
    "sigmoid": _sigmoid,
}
