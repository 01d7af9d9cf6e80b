"""What an original BVLC Caffe's API does not allow is refused in words, before anything runs."""

from types import SimpleNamespace

import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from nets import AUXILIARY_IN_PLACE, BRANCHED
from relaybp import flows, relay_file
from relaybp.engines import bvlc
from relaybp.errors import RelayError
from relaybp.graph import Graph

ENGINE = bvlc.Bvlc(caffe)  # asked about this engine's nets, whose public names are BVLC's
FLOWS = 'flow { loss: "loss" to: "conv3" } flow { loss: "aux_loss" to: "conv1" }'


def planned(text, relay):
    net = caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN)
    return net, flows.plan(net, relay_file.parse_relay(relay), net.param)


def test_parameters_that_layers_share():
    text = BRANCHED
    for name in ("res2_branch2b", "conv3"):
        text = text.replace(
            f'name: "{name}" type: "Convolution"',
            f'name: "{name}" type: "Convolution" param {{ name: "w" }}',
        )
    text = text.replace("num_output: 8 kernel_size: 3 stride: 2", "num_output: 6 kernel_size: 3")
    net, found = planned(text, FLOWS)
    with pytest.raises(
        RelayError,
        match="layers 'res2_branch2b' and 'conv3' share parameters.*use this repository's engine",
    ):
        ENGINE.backward(net, found)


def test_several_backward_passes_through_a_scale_in_place():
    net, found = planned(AUXILIARY_IN_PLACE, "schedule: MULTI_WAY")
    with pytest.raises(
        RelayError,
        match=r"MULTI_WAY: layer 'scale2' \(Scale\) runs in place.*"
        "give its top another name",
    ):
        ENGINE.check_repeated(Graph(net), found, "schedule MULTI_WAY")
    ENGINE.check_repeated(Graph(net), found[:1], "one flow alone may")


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "Adam"},
        {"type": "SGD", "clip_gradients": 1.0},
        {"type": "SGD", "regularization_type": "L1"},
    ],
)
def test_steps_that_cannot_be_scaled(settings):
    with pytest.raises(RelayError, match="SGD or Nesterov with L2 decay and without clip_grad"):
        bvlc.check_scalable(caffe_pb2.SolverParameter(**settings))
    bvlc.check_scalable(caffe_pb2.SolverParameter(type="Nesterov"))


def test_a_momentum_that_losses_share():
    with pytest.raises(RelayError, match="own_momentum: false: an original Caffe cannot"):
        ENGINE.make_steps(SimpleNamespace(), [], own_momentum=False, scaled=False)


def test_layers_that_only_the_relay_file_freezes():
    net, _ = planned(BRANCHED, FLOWS)
    solver = SimpleNamespace(net=net, param=caffe_pb2.SolverParameter(net_param=net.param))
    with pytest.raises(
        RelayError,
        match=r"'conv1' learns in the net; for an original Caffe give "
        r"it 1 times param \{ lr_mult: 0 \}",
    ):
        ENGINE.freeze(solver, {"bn1", "conv1"}, "relay.prototxt")
    ENGINE.freeze(solver, {"bn1"}, "relay.prototxt")


def test_snapshots_in_hdf5_and_other_precisions(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text('net: "net.prototxt" snapshot_format: HDF5')
    with pytest.raises(RelayError, match=r"solver\.prototxt: .*snapshot_format: BINARYPROTO"):
        bvlc.BvlcSolver(SimpleNamespace(proto=caffe.proto), str(path))
    with pytest.raises(RelayError, match="precision bf16: an original Caffe computes in fp32"):
        ENGINE.use_device(precision="bf16")


def test_a_gpu_that_it_does_not_count_is_used(monkeypatch):
    """pycaffe says of no GPU that it is there."""
    called = []
    monkeypatch.setattr(ENGINE.caffe, "set_device", called.append)
    monkeypatch.setattr(ENGINE.caffe, "set_mode_gpu", lambda: called.append("GPU"))
    assert ENGINE.use_device("1") == "GPU 1" and called == [1, "GPU"]
