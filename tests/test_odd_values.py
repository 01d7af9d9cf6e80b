"""Settings that are odd but legal, and what NaN and infinity do; each value is BVLC Caffe 1.0's.

tests/golden/odd.json holds what tests/oracle/record_odd.py recorded with it.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import caffe
import odd_cases
from caffe import device
from caffe.catalogue.pooling_windows import MaxPool, Windows
from caffe_plain.errors import ParseError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "odd.json").read_text())

NAN, INF = np.nan, np.inf
ODD = [1, -2, INF, -INF, NAN, 0]


def assert_like(found, recorded, where=""):
    """Assert that nested lists and dicts hold the same numbers, and NaN where the other has it."""
    if isinstance(recorded, dict):
        found = [found[key] for key in recorded]
        where, recorded = f"{where} {list(recorded)}", list(recorded.values())
    if isinstance(recorded, list) and any(isinstance(part, (list, dict)) for part in recorded):
        for index, pair in enumerate(zip(found, recorded, strict=True)):
            assert_like(*pair, f"{where} {index}")
    else:
        np.testing.assert_allclose(found, recorded, rtol=1e-5, atol=1e-6, err_msg=where)


@pytest.mark.parametrize("name", odd_cases.CASES)
def test_odd_cases_agree_with_bvlc_caffe(name):
    assert_like(odd_cases.CASES[name](), GOLDEN[name])


@pytest.mark.parametrize(
    "text, reads", list(zip(odd_cases.spellings(), GOLDEN["spellings"], strict=True)), ids=ascii
)
def test_text_is_read_or_refused_as_by_bvlc_caffe(text, reads):
    if reads:
        odd_cases.net(text, force=False)
    else:
        with pytest.raises(ParseError, match=r"net\.prototxt:\d+:\d+: "):
            odd_cases.net(text, force=False)


def test_max_pooling_in_the_engines_own_kernels_takes_nan_alike():
    """They take 16 channels, but not the single one of the recording."""
    assert_like(odd_cases.max_pooling(channels=16), GOLDEN["max_pooling"])


@pytest.mark.parametrize(
    "layer",
    ['"Swish"', '"Pooling" pooling_param { kernel_size: 1 }', '"Dropout"', '"EuclideanLoss"'],
)
def test_backward_without_forward_says_what_is_missing(tmp_path, layer):
    bottoms = [np.zeros((1, 1, 2, 2))] * (1 + ("Loss" in layer))
    net = net_of(tmp_path, "type: " + layer, *bottoms, phase=caffe.TRAIN)
    with pytest.raises(caffe.LayerError, match="layer 'y' .*: backward found no .* forward first"):
        net.backward()


def test_max_pooling_in_pytorch_is_the_same_where_values_cannot_be_looked_at(monkeypatch):
    """As on a GPU: NaN is then always taken out, not only where there is some."""
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    x[x > 0.5], x[x < -0.5] = torch.nan, -torch.inf
    for pad, sizes in ((0, (4, 4)), (1, (5, 5)), (0, (6, 6))):  # the last ones lie outside
        found = []
        for recording in (False, True):
            monkeypatch.setattr(device, "is_recording", lambda recording=recording: recording)
            pool = MaxPool(Windows((2, 2), (2, 2), (pad, pad), (9, 9), sizes))
            y = pool.forward(x)
            found.append((y, pool.mask(), pool.backward(torch.ones_like(y), x)))
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)
        y, mask, dx = found[0]
        assert (mask == -1).any() and dx.sum() == (mask >= 0).sum()


def test_a_window_without_a_number_passes_nothing_down():
    """BVLC Caffe writes outside its memory there."""
    layer = 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
    for channels in (1, 16):
        net = odd_cases.one_layer(layer, [[[[NAN, NAN], [NAN, NAN]]] * channels])
        (diff,) = odd_cases.diffs(net)
        assert not np.any(diff)


def test_gradients_of_a_parameter_layer_add_up():
    """In BVLC Caffe, where top and parameter share the diff, the last pass replaces the others."""
    net = odd_cases.net(odd_cases.PARAMETER, caffe.TRAIN, force=False)
    net.params["p"][0].data[...] = [1, -2, 3]
    for passes in (1, 2):
        net.forward()
        net.backward()
        np.testing.assert_array_equal(
            net.params["p"][0].diff, [[2 * passes, -4 * passes, 6 * passes]]
        )
        np.testing.assert_array_equal(net.blobs["p"].diff, [[2, -4, 6]])


def test_a_parameter_stays_precise_where_its_top_is_rounded():
    net = odd_cases.net(odd_cases.PARAMETER, caffe.TRAIN, force=False)
    parameter, top = net.params["p"][0], net.blobs["p"]
    precise, rounded = [1 + 2**-20] * 3, [1] * 3
    parameter.data[...] = precise
    try:
        for precision, values in (("fp32", precise), ("bf16", rounded), ("fp32", precise)):
            caffe.set_precision(precision)
            net.forward()
            np.testing.assert_array_equal(top.data[0], np.float32(values))
            np.testing.assert_array_equal(parameter.data[0], np.float32(precise))
    finally:
        caffe.set_precision("fp32")


def net_of(tmp_path, layer, *bottoms, phase=caffe.TEST):
    """A net of one layer "y", forced backward, whose bottoms "a", "b", ... hold `bottoms`."""
    names = "abc"[: len(bottoms)]
    text = "force_backward: true "
    for name, values in zip(names, bottoms, strict=True):
        dims = " ".join(f"dim: {size}" for size in np.shape(values))
        text += f'input: "{name}" input_shape {{ {dims} }} '
    text += (
        'layer { name: "y" top: "y" ' + " ".join(f'bottom: "{n}"' for n in names) + f" {layer} }}"
    )
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), phase)
    for name, values in zip(names, bottoms, strict=True):
        net.blobs[name].data[...] = values
    return net


@pytest.mark.parametrize(
    "layer, bottoms, y, diffs",
    [
        (
            '"Eltwise" eltwise_param { coeff: 0 coeff: 1 }',
            [ODD, [1] * 6],
            [1] * 6,
            [[0] * 6, [1] * 6],
        ),
        (
            '"Eltwise" eltwise_param { coeff: 1 coeff: 0 }',
            [[1] * 6, ODD],
            [1] * 6,
            [[1] * 6, [0] * 6],
        ),
        ('"Eltwise" eltwise_param { coeff: 0 coeff: 0 }', [ODD, ODD], [0] * 6, [[0] * 6, [0] * 6]),
        ('"Power" power_param { scale: 0 shift: 3 power: 2 }', [ODD], [9] * 6, [[0] * 6]),
        ('"Power" power_param { power: 0 shift: 2 }', [ODD], [1] * 6, [[0] * 6]),
        ('"Exp" exp_param { scale: 0 shift: 1 }', [ODD], [2.7182817] * 6, [[0] * 6]),
        ('"Exp" exp_param { base: 1 }', [ODD], [1] * 6, [[0] * 6]),
        ('"Log" log_param { scale: 0 shift: 1 }', [ODD], [0] * 6, [[0] * 6]),
        *(
            (f'"Reduction" reduction_param {{ operation: {kind} coeff: 0 }}', [[x, 1]], 0, [[0, 0]])
            for kind in ("SUM", "ASUM", "SUMSQ", "MEAN")
            for x in (INF, NAN)
        ),
    ],
)
def test_a_coefficient_of_0_hides_what_it_multiplies(tmp_path, layer, bottoms, y, diffs):
    net = net_of(tmp_path, "type: " + layer, *bottoms)
    np.testing.assert_allclose(net.forward()["y"], y, rtol=1e-6)
    net.blobs["y"].diff[...] = 1
    net.backward()
    for name, diff in zip("abc", diffs, strict=False):
        np.testing.assert_array_equal(net.blobs[name].diff, diff)


def test_a_top_of_eltwise_is_never_its_bottom(tmp_path):
    net = net_of(tmp_path, 'type: "Eltwise" eltwise_param { coeff: 1 coeff: 0 }', [1], [1])
    net.forward()
    net.blobs["y"].data[...] = 5
    assert net.blobs["a"].data[0] == 1


SCORES, LABELS = [[1, 2], [INF, 1], [NAN, NAN]], [0, 9, 9]
H = [[1, 0.5], [0, 1]]


@pytest.mark.parametrize(
    "layer, bottoms, loss, diff",
    [
        ("SoftmaxWithLoss", [SCORES, LABELS], 1.3132616, [-0.7310586, 0.7310586]),
        ("InfogainLoss", [SCORES, LABELS, H], 1.4698925, [-0.5965879, 0.5965879]),
        (
            "SigmoidCrossEntropyLoss",
            [[[1, 2], [INF, NAN]], [[0, 1], [9, 9]]],
            0.7200949,
            [0.3655293, -0.0596015],
        ),
    ],
)
def test_ignore_label_shields_from_what_the_ignored_scores_hold(
    tmp_path, layer, bottoms, loss, diff
):
    """InfogainLoss's value by its definition: -(log p[0] + log p[1] / 2)."""
    net = net_of(tmp_path, f'type: "{layer}" loss_param {{ ignore_label: 9 }}', *bottoms)
    net.forward()
    net.backward()
    assert float(net.blobs["y"].data) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(net.blobs["a"].diff[0], diff, rtol=1e-5)
    assert not net.blobs["a"].diff[1:].any()


@pytest.mark.parametrize(
    "kernel, row",
    [
        (2, [0.25, 0.25]),
        (3, [0.5, 1, 0.5]),
        (4, [0.1875, 0.5625, 0.5625, 0.1875]),
        (6, [0.1389, 0.4167, 0.6944, 0.6944, 0.4167, 0.1389]),
        (7, [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
        (10, [0.09, 0.27, 0.45, 0.63, 0.81, 0.81, 0.63, 0.45, 0.27, 0.09]),
    ],
)
def test_the_bilinear_filler(tmp_path, kernel, row):
    """The row in the middle of the kernel, to four digits."""
    net = net_of(
        tmp_path,
        f'type: "Deconvolution" convolution_param {{ num_output: 1 kernel_size: {kernel} '
        'bias_term: false weight_filler { type: "bilinear" } }',
        np.zeros((1, 1, 9, 9)),
    )
    np.testing.assert_allclose(net.params["y"][0].data[0, 0, kernel // 2], row, atol=6e-5)


LEVELS = """
state { level: 3 }
layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 } } }
layer { name: "p" type: "Power" bottom: "d" top: "p" include { min_level: 2 } }
"""


def test_the_level_of_net_replaces_that_of_the_file_and_a_solver_keeps_it(tmp_path):
    (tmp_path / "net.prototxt").write_text(LEVELS)
    path = str(tmp_path / "net.prototxt")
    assert list(caffe.Net(path, caffe.TEST)._layer_names) == ["d"]
    assert list(caffe.Net(path, caffe.TEST, level=2)._layer_names) == ["d", "p"]
    (tmp_path / "solver.prototxt").write_text(f'net: "{path}" base_lr: 0 lr_policy: "fixed"')
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    assert list(solver.net._layer_names) == ["d", "p"]


@pytest.mark.parametrize("between", [" ", "\n", "\t\n  "])
def test_a_list_of_hdf5_files_is_split_at_any_white_space(tmp_path, between):
    for name, value in (("a.h5", 1), ("b.h5", 2)):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = np.full((1, 1), value, np.float32)
    files = between.join(str(tmp_path / name) for name in ("a.h5", "b.h5"))
    (tmp_path / "list.txt").write_text(files)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "'
        f'{tmp_path}/list.txt" batch_size: 2 }} }}'
    )
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert net.forward()["x"].ravel().tolist() == [1, 2]


@pytest.mark.parametrize("ratio", [1, 1.5, -0.5])
def test_dropout_of_any_ratio_is_the_identity_in_a_test_net(tmp_path, ratio):
    layer = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    assert net_of(tmp_path, layer, [3, 4]).forward()["y"].tolist() == [3, 4]


@pytest.mark.parametrize("ratio", [1.5, -0.5, "nan"])
def test_dropout_cannot_train_with_a_ratio_outside_0_to_1(tmp_path, ratio):
    layer = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    with pytest.raises(caffe.LayerError, match="dropout_ratio must be at least 0 and at most 1"):
        net_of(tmp_path, layer, [3, 4], phase=caffe.TRAIN)
