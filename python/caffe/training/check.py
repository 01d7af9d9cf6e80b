"""Checks of a solver's settings, all before anything is built."""

import os

from caffe_plain.average_precision import VERSIONS
from caffe_plain.errors import CaffeError, nearest
from caffe_plain.lr_policy import POLICIES

from .updates import RULES

_GAMMA = ("step", "exp", "inv", "multistep", "sigmoid")  # the policies that use it
_STEPSIZE = ("step", "sigmoid")


def check(param, rule, more_policies=()):
    """Refuse a SolverParameter, or an update rule, that cannot train.

    more_policies: the values of lr_policy besides Caffe's own.
    """
    if rule not in RULES:
        raise CaffeError(f"solver: unknown type {rule!r}; " + nearest(rule, RULES))
    if param.regularization_type not in ("L1", "L2"):
        raise _wrong("regularization_type", "L1 or L2", param.regularization_type)
    for field, lowest in (
        ("iter_size", 1),
        ("average_loss", 1),
        ("max_iter", 0),
        ("snapshot", 0),
        ("display", 0),
        ("test_interval", 0),
    ):
        if getattr(param, field) < lowest:
            raise _wrong(field, f"at least {lowest}", getattr(param, field))
    if any(count < 0 for count in param.test_iter):
        raise _wrong("test_iter", "counts of batches", list(param.test_iter))
    if param.eval_type not in ("classification", "detection"):
        raise _wrong("eval_type", "classification or detection", param.eval_type)
    if param.ap_version not in VERSIONS:
        raise _wrong("ap_version", f"one of {', '.join(VERSIONS)}", param.ap_version)
    if param.lr_policy not in more_policies:
        _check_policy(param)
    _check_rule(param, rule)
    _check_prefix(param)


def check_evaluation(param, test_nets):
    """Refuse the eval_type of SSD's solvers where no test net has detections to evaluate."""
    types = {node.layer.type for net in test_nets for node in net.nodes}
    if param.eval_type == "detection" and test_nets and "DetectionEvaluate" not in types:
        raise CaffeError('solver: eval_type "detection": no test net has a DetectionEvaluate layer')


def _check_policy(param):
    policy = param.lr_policy
    if policy not in POLICIES:
        what = f"unknown lr_policy {policy!r}" if policy else "no lr_policy"
        raise CaffeError(
            f"solver: {what}; {nearest(policy, POLICIES)} (plateau and cosine stand "
            "in an extra file)"
        )
    if policy in _GAMMA and param.gamma < 0:
        raise _wrong(f"lr_policy {policy!r}: gamma", "0 or more", param.gamma)
    if policy in _STEPSIZE and param.stepsize <= 0:
        raise _wrong(
            f"lr_policy {policy!r}: stepsize", "a positive number of iterations", param.stepsize
        )
    if policy == "poly" and param.max_iter <= 0:
        raise _wrong(
            "lr_policy 'poly': max_iter", "a positive number of iterations", param.max_iter
        )


def _check_rule(param, rule):
    if rule in ("AdaGrad", "RMSProp") and param.momentum:
        raise CaffeError(
            f"solver: type {rule!r} has no momentum; found {param.momentum:.6g}; delete the field"
        )
    if rule == "RMSProp" and not 0 <= param.rms_decay < 1:
        raise _wrong("rms_decay", "at least 0 and below 1", param.rms_decay)
    if rule == "Adam" and not (0 <= param.momentum < 1 and 0 <= param.momentum2 < 1):
        raise _wrong(
            "momentum and momentum2 of Adam",
            "at least 0 and below 1",
            [param.momentum, param.momentum2],
        )


def _check_prefix(param):
    """Refuse an unwritable snapshot_prefix now, not after days of training."""
    if not param.snapshot:
        return
    folder = os.path.abspath(os.path.dirname(param.snapshot_prefix))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    if not (param.snapshot_prefix and os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise CaffeError(
            f"solver: cannot write to snapshot_prefix {param.snapshot_prefix!r}; "
            "give a path in a folder where you may write"
        )


def _wrong(what, expected, found):
    return CaffeError(f"solver: {what} must be {expected}; found {found!r}")
