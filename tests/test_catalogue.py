"""Every layer type against BVLC Caffe, and against the contract that all layers keep.

The rows are in tests/catalogue_cases; what BVLC Caffe computes for them is recorded in
tests/golden/catalogue_*.npz by tests/oracle/record_catalogue.py.
"""

import copy

import numpy as np
import pytest
import torch

import caffe
import catalogue_cases
import catalogue_judge
from caffe import device
from catalogue_judge import CASES, JUDGED, compare, error, make_net


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.key)


BACKWARD = [case for case in CASES if case.backward]
IN_PLACE = sum(catalogue_cases.cases("IN_PLACE").values(), [])


@pytest.fixture(scope="module")
def golden():
    return catalogue_judge.load()


@pytest.fixture
def precision(request):
    """The engine at the precision that the test names, afterwards back at fp32."""
    device.set_precision(request.param)
    yield request.param
    device.set_precision("fp32")


@over(JUDGED)
def test_agrees_with_bvlc_caffe(case, golden):
    compare(case, golden)


@pytest.mark.parametrize("precision", ["fp64"], indirect=True)
@over(JUDGED)
def test_double_precision_agrees(case, golden, precision):
    compare(case, golden)


@pytest.mark.parametrize("precision", ["bf16"], indirect=True)
@over(JUDGED)
def test_half_precision_agrees_roughly(case, golden, precision):
    """8 bits of mantissa; diffs may jump where a maximum moves, so only tops are compared."""
    found = catalogue_cases.run(make_net(case), case, 0)
    for what, expected in golden[f"{case.key}/0"].items():
        assert found[what].dtype == np.float32 and np.isfinite(found[what]).all()
        if what.startswith("top"):
            assert error(found[what], expected) < 0.06


@over(
    {
        case.type: case
        for case in JUDGED
        if case.backward and case.tops and "loss_weight" not in case.options
    }.values()
)
def test_any_top_may_have_a_loss_weight(case):
    """In half precision, too, where losses are computed in single precision."""
    case = copy.copy(case)
    case.options += " loss_weight: 0.5" * case.tops
    expected = catalogue_cases.run(make_net(case), case, 0)
    device.set_precision("bf16")
    try:
        found = catalogue_cases.run(make_net(case), case, 0)
    finally:
        device.set_precision("fp32")
    for what in expected:
        largest = max(np.abs(expected[what]).max(), 1)
        np.testing.assert_allclose(found[what], expected[what], atol=0.1 * largest)


@over([case for case in JUDGED if case.type in IN_PLACE])
def test_in_place_agrees(case, golden):
    compare(case, golden, in_place=True)


@over([case for case in JUDGED if any(spec.count("x") == 3 for spec in case.bottoms)])
def test_memory_layout_changes_nothing(case, golden, monkeypatch):
    """Bottoms are channels_last by default: here they are not."""
    monkeypatch.setattr(device, "layout", torch.Tensor.contiguous)
    compare(case, golden)


# ---- the contract of caffe.layer.TensorLayer -----------------------------------------------------


class Probe:
    """A case after forward, in fp64, to call its layer's backward by hand."""

    def __init__(self, case, seed=0):
        self.case, self.net = case, make_net(case)
        device.set_random_seed(seed)
        self.random = catalogue_cases.random_state(case, seed)
        catalogue_cases.fill_params(self.net, case, self.random)
        for i, spec in enumerate(case.bottoms):
            self.net.blobs[f"bottom{i}"].data[...] = catalogue_cases.draw(
                spec.partition(" ")[2], catalogue_cases.shape_of(spec), self.random
            )
        self.node = self.net.nodes[-1]
        self.net.forward()
        self.forward()
        self.diffs = [self.direction(blob.tensor) for blob in self.node.tops]

    def direction(self, tensor):
        return torch.from_numpy(np.asarray(self.random.normal(0, 1, tuple(tensor.shape)))).to(
            tensor
        )

    def forward(self):
        device.set_random_seed(1)  # the same dropout masks whenever it runs
        last = len(self.net.nodes) - 1
        self.net._forward(last, last)
        return [blob.tensor.clone() for blob in self.node.tops]

    @property
    def values(self):
        return [b.tensor for b in self.node.bottoms], [b.tensor for b in self.node.tops]

    def backward(self, diffs, values=None):
        """The diffs of the bottoms, then those of the parameters."""
        node = self.node
        bottoms, tops = values or self.values
        for blob in node.layer.blobs:
            blob.clear_diff()
        if any(node.layer.param_propagate_down):
            node.layer.backward_params(list(diffs), bottoms, tops)
        below = node.layer.backward(list(diffs), bottoms, tops, node.propagate_down)
        params = [blob.diff_tensor.clone() for blob in node.layer.blobs]
        return [None if d is None else d.clone() for d in below] + params

    def assert_same(self, found, expected, tolerance=1e-9):
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            assert a is None or error(a, b) <= tolerance


@pytest.fixture
def probe(request):
    device.set_precision("fp64")
    yield Probe(request.param)
    device.set_precision("fp32")


def probing(cases):
    return pytest.mark.parametrize("probe", cases, indirect=True, ids=lambda case: case.key)


@probing(BACKWARD)
def test_backward_is_linear_and_repeatable(probe):
    """Two flows one after another give what their sum gives, and leave nothing behind."""
    other = [probe.direction(diff) for diff in probe.diffs]
    first, second = probe.backward(probe.diffs), probe.backward(other)
    both = probe.backward([2 * a - b for a, b in zip(probe.diffs, other, strict=True)])
    probe.assert_same(
        both, [None if a is None else 2 * a - b for a, b in zip(first, second, strict=True)]
    )
    probe.assert_same(probe.backward(probe.diffs), first)


@probing([case for case in BACKWARD if case.tops > 1])
def test_a_missing_diff_counts_as_zero(probe):
    for i, diff in enumerate(probe.diffs):
        alone = [diff if j == i else None for j in range(len(probe.diffs))]
        zeros = [diff if j == i else torch.zeros_like(d) for j, d in enumerate(probe.diffs)]
        found, expected = probe.backward(alone), probe.backward(zeros)
        probe.assert_same(
            [
                torch.zeros_like(b) if a is None and b is not None else a
                for a, b in zip(found, expected, strict=True)
            ],
            expected,
        )


@probing(BACKWARD)
def test_param_diffs_accumulate_and_blob_diffs_are_overwritten(probe):
    net, node = probe.net, probe.node
    for blob, diff in zip(node.tops, probe.diffs, strict=True):
        blob.diff_tensor = diff
    for blob in node.layer.blobs:
        blob.diff[...] = 0
    net.backward()
    once = [blob.diff.copy() for blob in node.bottoms + node.layer.blobs]
    net.backward()
    below, params = once[: len(node.bottoms)], once[len(node.bottoms) :]
    probe.assert_same([blob.diff for blob in node.bottoms], below)
    probe.assert_same([blob.diff for blob in node.layer.blobs], [2 * diff for diff in params])


@probing(BACKWARD)
def test_backward_reads_only_what_it_declares(probe):
    """The net may overwrite a bottom or top that `reads_bottom`, `reads_top` disclaim."""
    expected = probe.backward(probe.diffs)
    bottoms, tops = probe.values
    layer = probe.node.layer
    spoilt = [
        [x if kept else torch.full_like(x, torch.nan) for x in values]
        for values, kept in ((bottoms, layer.reads_bottom), (tops, layer.reads_top))
    ]
    probe.assert_same(probe.backward(probe.diffs, spoilt), expected)


@pytest.mark.unlooked
@probing([case for case in BACKWARD if make_net(case).nodes[-1].layer.can_replay()])
def test_its_parts_hold_what_forward_leaves_for_backward(probe):
    """So that a pass can be replayed while another was run in between: see caffe.run.replay."""
    node, values = probe.node, probe.values
    expected = probe.backward(probe.diffs)
    left = [(part, dict(vars(part))) for part in node.layer.parts()]
    for blob, wanted in zip(node.bottoms, node.propagate_down, strict=True):
        if wanted:
            blob.tensor = blob.tensor.flip(0) * 0.9
    device.set_random_seed(2)
    probe.net._forward(len(probe.net.nodes) - 1, len(probe.net.nodes) - 1)
    for part, state in left:
        vars(part).update(state)
    probe.assert_same(probe.backward(probe.diffs, values), expected)


@probing([case for case in BACKWARD if case.true_gradient])
def test_gradient_is_the_derivative_of_forward(probe):
    """Central differences along a random direction, dropout masks and all."""
    step, node = 1e-6, probe.node
    diffs = probe.backward(probe.diffs)
    blobs = node.bottoms + node.layer.blobs
    learnt = {id(param.blob): param.lr_mult != 0 for param in probe.net.learnable}
    wanted = node.propagate_down + [learnt[id(blob)] for blob in node.layer.blobs]
    ways = [
        probe.direction(blob.tensor) if want else torch.zeros_like(blob.tensor)
        for blob, want in zip(blobs, wanted, strict=True)
    ]
    expected = sum(
        float((diff * way).sum()) for diff, way in zip(diffs, ways, strict=True) if diff is not None
    )
    values = []
    for sign in (1, -1):
        for blob, way in zip(blobs, ways, strict=True):
            blob.tensor.add_(way, alpha=sign * step)
        values.append(probe.forward())
        for blob, way in zip(blobs, ways, strict=True):
            blob.tensor.sub_(way, alpha=sign * step)
    found = sum(
        float(((a - b) * dy).sum()) for a, b, dy in zip(*values, probe.diffs, strict=True)
    ) / (2 * step)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


REFUSED = [row for rows in catalogue_cases.cases("REFUSED").values() for row in rows]


@pytest.mark.parametrize(
    "type, options, bottoms, pattern",
    REFUSED,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options_are_refused_with_a_cure(type, options, bottoms, pattern):
    case = catalogue_cases.Case(type, "refused", options, *bottoms)
    with pytest.raises(caffe.CaffeError, match=pattern):
        make_net(case)
