"""Python layers: the classes of tests/user_layers.py."""

from . import Case


def _python(layer, name, *bottoms, param_str="", options="", **more):
    return Case(
        "Python",
        f"{layer}_{name}",
        f'python_param {{ module: "user_layers" layer: "{layer}" '
        f"param_str: '{param_str}' }} {options}",
        *bottoms,
        **more,
    )


CASES = [
    _python("Times", "plain", "4x3"),
    _python("Times", "map", "2x3x4x5"),
    _python("Times", "param_str", "2x3x2", param_str="-0.5"),
    _python("Times", "one_axis", "7", param_str="3"),
    _python("Distance", "plain", "4x3", "4x3", tops=2),
    _python("Distance", "loss", "5x2", "5x2", tops=2, options="loss_weight: 0.5 loss_weight: 0"),
    _python("Distance", "two_passes", "3x4", "3x4", tops=2, passes=2),
    _python("Affine", "plain", "4x3"),
    _python("Affine", "param_str", "4x3", param_str='{"bias": 2.5}'),
    _python("Affine", "two_passes", "6x2", passes=2),
    _python("Phase", "train", backward=None),
    _python("Phase", "test", phase="TEST", backward=None),
    _python("Counter", "one_batch", tops=2, backward=None),
    _python("Counter", "batches", tops=2, passes=5, backward=None),
]

USER = 'python_param { module: "%s" layer: "%s" }'
REFUSED = [
    (
        "Python",
        USER % ("no_such_module", "X"),
        [],
        "cannot import module 'no_such_module': "
        "ModuleNotFoundError: .* put the folder that holds it on PYTHONPATH",
    ),
    ("Python", USER % ("user_layers", "Time"), [], "has no class 'Time'; did you mean 'Times'"),
    (
        "Python",
        USER % ("user_layers", "NoLayer"),
        [],
        "must be a class that derives from caffe.Layer; found <class",
    ),
    (
        "Python",
        USER % ("user_layers", "Distance"),
        ["2x3"],
        r"user_layers.Distance.setup raised ValueError: Distance needs two bottoms",
    ),
]
