"""Learning rates that forks added to a solver's own file, by hand from their formulas."""

import warnings

import pytest

import caffe
from test_solver_extra import extra, rates, solver_with

FIXED = 'base_lr: 0.1 lr_policy: "fixed" '
POLY = 'base_lr: 0.1 lr_policy: "poly" power: 2 '  # max_iter: 12


def found(settings, count, more=None):
    return rates(solver_with(more, settings), count)


def test_multifixed_has_a_rate_for_each_stage_up_to_its_last_iteration():
    stages = "stagelr: 0.1 stagelr: 0.02 stagelr: 0.5 stageiter: 1 stageiter: 3 stageiter: 4"
    assert found(f'base_lr: 9 lr_policy: "multifixed" {stages}', 7) == pytest.approx(
        [0.1, 0.1, 0.02, 0.02, 0.5, 0.5, 0.5]
    )


def test_intels_warm_up_goes_from_its_start_to_base_lr():
    assert found(FIXED + "warmup_iter: 4 warmup_start_lr: 0.02", 6) == pytest.approx(
        [0.02, 0.04, 0.06, 0.08, 0.1, 0.1]
    )


def test_nvcaffes_warm_up_is_square_where_min_lr_is_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        square = found(FIXED + "rampup_interval: 4 rampup_lr: 0.02 min_lr: 0", 5)
    assert square == pytest.approx([0.02, 0.02 + 0.08 / 16, 0.04, 0.02 + 0.08 * 9 / 16, 0.1])
    with pytest.warns(UserWarning, match="rampup_interval: here the rate grows linearly.*0.16"):
        linear = found(FIXED + "rampup_interval: 4 rampup_lr: 0.02", 5)
    assert linear == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


def test_poly_ends_at_min_lr_and_other_policies_stop_there():
    expected = [0.01 + 0.09 * (1 - i / 12) ** 2 for i in range(12)] + [0.01, 0.01]
    assert found(POLY + "min_lr: 0.01", 14) == pytest.approx(expected)
    exp = 'base_lr: 0.1 lr_policy: "exp" gamma: 0.5 min_lr: 0.02'
    assert found(exp, 5) == pytest.approx([0.1, 0.05, 0.025, 0.02, 0.02])
    assert found(POLY, 2) == pytest.approx([0.1, 0.1 * (11 / 12) ** 2])


def test_intels_plateau_is_that_of_an_extra_file():
    plateau = 'base_lr: 0.1 lr_policy: "plateau" gamma: 0.5 '
    own = solver_with(None, plateau + "plateau_winsize: 2 plateau_winsize: 3")
    other = solver_with(
        'lr_policy: "plateau" plateau_winsize: 2 plateau_winsize: 3', FIXED + "gamma: 0.5"
    )
    for iteration, loss in enumerate([3, 2, 2, 2, 2.5, 2, 2, 2]):
        for solver in (own, other):
            solver.extra.observe(iteration, loss)
        assert own.extra.rate(iteration) == other.extra.rate(iteration)
    assert own.extra.drops == 2 and own.extra.rate(7) == pytest.approx(0.025)


def test_an_extra_message_is_left_as_it_was():
    message = extra("rampup_interval: 4")
    param = solver_with(None, FIXED).param
    assert caffe.get_solver(param, message).extra.options == message == extra("rampup_interval: 4")


@pytest.mark.parametrize(
    "settings, more, pattern",
    [
        (
            'base_lr: 1 lr_policy: "multifixed" stagelr: 1',
            None,
            "one each for every stage; found 1",
        ),
        (FIXED + "stageiter: 3", None, "stageiter are of lr_policy 'multifixed'; found 'fixed'"),
        (FIXED + "min_lr: 1", None, "min_lr 1 is above base_lr 0.1"),
        (FIXED + "rampup_lr: -1", None, "rampup_lr must be 0 or more"),
        (FIXED + "rampup_interval: 2 warmup_iter: 3 min_lr: 0", None, "not both"),
        (FIXED + "warmup_iter: 3", "rampup_interval: 2", "has a warm-up too"),
        ('base_lr: 1 lr_policy: "plateau"', None, "lr_policy 'plateau'"),
    ],
)
def test_what_contradicts_itself_is_refused(settings, more, pattern):
    with pytest.raises(caffe.CaffeError, match=pattern):
        solver_with(more, settings)
