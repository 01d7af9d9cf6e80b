"""Layers under every kind of include and exclude rule, and the states of a net.

tests/oracle/record_phases.py records which layers BVLC Caffe keeps in each state.
"""

from itertools import product

PHASES = {"": None, "phase: TRAIN ": 0, "phase: TEST ": 1}
LEVELS = ("", "min_level: 1 ", "max_level: 0 ", "max_level: 2 ", "min_level: 1 max_level: 1 ")
STAGES = (
    "",
    'stage: "a" ',
    'stage: "a" stage: "b" ',
    'not_stage: "a" ',
    'not_stage: "a" not_stage: "b" ',
    'stage: "a" not_stage: "b" ',
)
RULES = ["".join(parts) for parts in product(PHASES, LEVELS, STAGES)]
PAIRS = [(RULES[i], RULES[-i - 1]) for i in range(len(RULES) // 2)]
LAYERS = [
    " ".join("%s { %s}" % (kind, rule) for rule in rules)
    for kind in ("include", "exclude")
    for rules in [[rule] for rule in RULES] + PAIRS
]
# (phase, level, stages)
STATES = list(product((0, 1), (-1, 0, 1, 2, 3), ((), ("a",), ("b",), ("a", "b"), ("another", "a"))))

NET = 'name: "phases"\n' + "".join(
    'layer { name: "layer%d" type: "Input" top: "layer%d" '
    "input_param { shape { dim: 1 } } %s }\n" % (number, number, rules)
    for number, rules in enumerate(LAYERS)
)


def key(phase, level, stages):
    """A state in words: its key in the recording."""
    return " ".join([("TRAIN", "TEST")[phase], "level %d" % level, *stages])


def bits(names):
    """For each layer whether it is among the names, as a string of 0 and 1."""
    names = set(names)
    return "".join(str(int("layer%d" % number in names)) for number in range(len(LAYERS)))
