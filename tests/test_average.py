"""The exponential moving average of the weights, against its definition."""

import numpy as np
import pytest
import torch

import caffe
import relaybp
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2, extra_pb2
from caffe_plain.snapshots import newest_weights

SETTINGS = """
base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 12 random_seed: 3
test_iter: 1 test_interval: 100 snapshot_prefix: "{}/a"
"""
DECAY = 0.6
NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 }
                           data_filler { type: "gaussian" std: 1 } data_filler { value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "fc" type: "InnerProduct" bottom: "norm" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def solver_of(folder, decay=DECAY, more=""):
    param = parse_text(SETTINGS.format(folder) + more, caffe_pb2.SolverParameter())
    parse_text(NET, param.net_param)
    return caffe.get_solver(param, extra_pb2.ExtraParameter(ema_decay=decay))


def weights(net):
    """{name: [array]} of copies, as numbers of double precision."""
    return {name: [blob.data.astype(float) for blob in blobs] for name, blobs in net.params.items()}


def saved(path, net):
    """The weights in a file, in the order of the net's."""
    copy = caffe.Net(net.param, caffe.TRAIN, weights=str(path))
    return weights(copy)


def assert_same(found, wanted, **tolerance):
    for name, arrays in wanted.items():
        for mine, its in zip(found[name], arrays, strict=True):
            np.testing.assert_allclose(mine, its, err_msg=name, **tolerance)


def defined(steps):
    """The average after iterations 1, 2, ...; of a BatchNorm the statistics as they are."""
    average = steps[0]
    for iteration, step in enumerate(steps[1:], 2):
        d = min(DECAY, iteration / (iteration + 9))
        average = {
            name: [d * a + (1 - d) * w for a, w in zip(average[name], step[name], strict=True)]
            for name in step
        }
    return {**average, "norm": steps[-1]["norm"]}


@pytest.fixture(params=["solver", "relay"])
def trained(request, tmp_path):
    """(solver, what steps it, the weights after each of 20 iterations)."""
    solver = solver_of(tmp_path)
    driver = relaybp.attach(solver) if request.param == "relay" else solver
    steps = []
    for _ in range(20):
        driver.step(1)
        steps.append(weights(solver.net))
    return solver, driver, steps


def test_the_snapshot_has_the_average_as_defined(trained, tmp_path):
    solver, driver, steps = trained
    driver.snapshot()
    assert_same(saved(tmp_path / "a_iter_20.caffemodel", solver.net), defined(steps), atol=1e-6)
    at = tmp_path / "a_iter_20.training.caffemodel"
    assert_same(saved(at, solver.net), steps[-1], rtol=0)
    assert newest_weights(str(tmp_path)) == str(tmp_path / "a_iter_20.caffemodel")


def test_a_test_sees_the_average_and_leaves_the_weights(trained):
    solver, driver, steps = trained
    seen = []
    solver.test_nets[0].before_forward(lambda _: seen.append(weights(solver.test_nets[0])))
    driver.test_all()
    assert_same(seen[0], defined(steps), atol=1e-6)
    assert_same(weights(solver.net), steps[-1], rtol=0)


def test_training_is_the_same_without_it(trained, tmp_path):
    plain = solver_of(tmp_path, decay=0)
    plain.step(20)
    assert_same(weights(plain.net), trained[2][-1], rtol=0)


@pytest.mark.parametrize("more", ["", "snapshot_format: HDF5"])
def test_a_resumed_training_has_the_same_bits(tmp_path, more):
    whole = relaybp.attach(solver_of(tmp_path, more=more))
    whole.step(12)
    half = relaybp.attach(solver_of(tmp_path, more=more))  # begins with the same seed
    half.step(7)
    state = half.snapshot()
    resumed = relaybp.attach(solver_of(tmp_path, more=more))
    resumed.restore(state)
    resumed.step(5)
    with whole.solver.averaged(), resumed.solver.averaged():
        assert_same(weights(resumed.net), weights(whole.net), rtol=0)
    assert_same(weights(resumed.net), weights(whole.net), rtol=0)


def test_a_snapshot_during_a_test_has_both(tmp_path):
    solver = solver_of(tmp_path)
    solver.step(5)
    asked = iter(["snapshot"])
    solver.requested_action = lambda: next(asked, None)
    now = weights(solver.net)
    solver.test(0)
    assert_same(saved(tmp_path / "a_iter_5.training.caffemodel", solver.net), now, rtol=0)
    with solver.averaged():
        average = weights(solver.net)
    assert_same(saved(tmp_path / "a_iter_5.caffemodel", solver.net), average, rtol=0)
    assert_same(weights(solver.net), now, rtol=0)


def test_a_snapshot_of_an_average_goes_on_without_one(tmp_path):
    averaging, plain = solver_of(tmp_path), solver_of(tmp_path, decay=0)
    averaging.step(5)
    plain.restore(averaging.snapshot())
    assert_same(weights(plain.net), weights(averaging.net), rtol=0)


def test_an_update_that_a_gpu_has_held_back_is_not_averaged(tmp_path):
    solver = solver_of(tmp_path)
    solver.step(5)
    with solver.averaged():
        before = weights(solver.net)
    solver.average.update(6, held=torch.ones(()))
    with solver.averaged():
        assert_same(weights(solver.net), before, rtol=0)
    solver.average.update(6, held=torch.zeros(()))
    with solver.averaged():
        held = weights(solver.net)
    assert not np.array_equal(held["fc"][0], before["fc"][0])
