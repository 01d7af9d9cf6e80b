"""Recurrent layers."""

from . import Case

# T steps x N sequences
CONT, EPISODES = "5x2 flags", "5x2 episodes"


def _recurrent(type, name, options, *bottoms, outputs=3, **more):
    return Case(
        type,
        name,
        f"recurrent_param {{ num_output: {outputs} {options} }}",
        *bottoms,
        params=("uniform",) * 7,
        **more,
    )


def _rows(type, states):
    """`states`: how many bottoms and tops expose_hidden adds."""
    exposed = {"tops": 1 + states, "true_gradient": False}
    state = ["1x2x3"] * states
    return [
        _recurrent(type, "plain", "", "5x2x4", EPISODES),
        _recurrent(type, "restarts", "", "5x2x4", CONT, true_gradient=False),
        _recurrent(type, "one_step", "", "1x3x4", "1x3 constant 0"),
        _recurrent(type, "one_sequence", "", "6x1x4", "6x1 episodes"),
        _recurrent(type, "map", "", "5x2x2x3", EPISODES),
        _recurrent(type, "one_output", "", "5x2x4", EPISODES, outputs=1),
        # the state goes on from one forward to the next
        _recurrent(
            type, "two_passes", "", "5x2x4", "5x2 constant 1", passes=2, true_gradient=False
        ),
        _recurrent(type, "two_passes_restarts", "", "5x2x4", CONT, passes=2, true_gradient=False),
        _recurrent(type, "static", "", "5x2x4", EPISODES, "2x3"),
        _recurrent(type, "static_map", "", "5x2x4", EPISODES, "2x3x2x1"),
        _recurrent(type, "exposed", "expose_hidden: true", "5x2x4", CONT, *state, **exposed),
        _recurrent(
            type,
            "exposed_goes_on",
            "expose_hidden: true",
            "5x2x4",
            "5x2 constant 1",
            *state,
            **exposed,
        ),
        _recurrent(
            type, "static_exposed", "expose_hidden: true", "5x2x4", CONT, "2x5", *state, **exposed
        ),
    ]


CASES = _rows("RNN", 1) + _rows("LSTM", 2)
CASES += [
    Case(
        "LSTMUnit",
        f"{batch}x{size}_{kind.replace(' ', '_')}",
        "",
        f"1x{batch}x{size}",
        f"1x{batch}x{4 * size}",
        f"1x{batch} {kind}",
        tops=2,
    )
    for batch, size in ((1, 1), (3, 2), (4, 5), (2, 7))
    for kind in ("flags", "constant 1", "constant 0")
]

REFUSED = [
    ("LSTM", "recurrent_param { }", ["5x2x4", "5x2"], "num_output is missing"),
    ("LSTM", "recurrent_param { num_output: 3 }", ["5x2x4", "5x3"], r"bottom 1 \(T, N\)"),
    (
        "RNN",
        "recurrent_param { num_output: 3 expose_hidden: true }",
        ["5x2x4", "5x2"],
        "takes 3 bottoms, or 4",
    ),
    ("LSTMUnit", "", ["1x2x3", "1x2x9", "1x2"], "LSTMUnit.* takes 2 top"),
]
