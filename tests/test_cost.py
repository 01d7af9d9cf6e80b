"""What the papers claim about cost: no more memory than multi-loss, and nothing at test time."""

import pytest
import torch

import caffe
import relay_cases
from caffe.proto import caffe_pb2
from caffe_plain.phases import TEST, State, layers_of
from live_bytes import LiveBytes
from relaybp import backward, engines, flows, models, run_folder
from relaybp.schedules import make_schedule

pytestmark = pytest.mark.usefixtures("project_layers")

NETWORKS = [name[: -len("_relay")] for name in models.names() if name.endswith("_relay")]


def test_live_bytes_counts_what_lives():
    with LiveBytes() as live:
        one = torch.zeros(100)  # 400 bytes
        two = one + 1
        view = two.view(10, 10)
        del one
        assert (live.now, live.peak) == (400, 800)
        del two
        assert live.now == 400, "the view keeps its storage"
        del view
        assert (live.now, live.peak) == (0, 800)


def peak_of_a_step(name, folder, fused=True):
    """Bytes of all tensors that live at once, at most, in the third iteration of the driver."""
    with LiveBytes() as live:
        path, relay, _ = relay_cases.prepare(caffe, name, folder)
        engine = engines.of(caffe)
        solver = engine.make_solver(path)
        solver.net.keep_diffs = not fused
        relay_cases.fill(solver.net)
        schedule = make_schedule(engine, solver, relay, fused)
        for _ in range(2):
            schedule.iterate(lambda loss: None)
        live.peak = live.now
        schedule.iterate(lambda loss: None)
        return live.peak


@pytest.mark.parametrize(
    "network",
    [
        "plain16",
        "resnet20",
        *(
            pytest.param(name, marks=pytest.mark.heavy)
            for name in ("resnet50", "model_a", "model_b", "vgg19", "inception_v3")
        ),
    ],
)
def test_relay_takes_no_more_memory_than_multi_loss(tmp_path, network):
    multi_loss = peak_of_a_step(network + "_multiloss", str(tmp_path))
    assert peak_of_a_step(network + "_relay", str(tmp_path)) == multi_loss
    assert peak_of_a_step(network, str(tmp_path)) < multi_loss, "the branch takes memory"


@pytest.mark.parametrize("network", ["plain16", "resnet20"])
def test_one_backward_for_each_range_takes_one_diff_more(tmp_path, network):
    """A blob frees the diff of the last flow when that of the next one is made."""
    multi_loss = peak_of_a_step(network + "_multiloss", str(tmp_path), fused=False)
    relay = peak_of_a_step(network + "_relay", str(tmp_path), fused=False)
    path, _, _ = relay_cases.prepare(caffe, network + "_relay", str(tmp_path))
    largest = max(4 * blob.count for blob in caffe.get_solver(path).net.blobs.values())
    assert relay <= multi_loss + largest


def test_the_next_flow_takes_the_place_of_the_last_ones_diffs(tmp_path):
    """One backward per range: after each flow a blob has one diff, and no other is alive."""
    path, relay, param = relay_cases.prepare(caffe, "branched_relay", str(tmp_path))
    net = caffe.get_solver(path).net
    relay_cases.fill(net)
    every, auxiliary = flows.plan(net, relay, param)
    alone = [backward.Ranges(net, [flow]) for flow in (auxiliary, every)]
    with LiveBytes() as live:
        net.clear_param_diffs()
        net.forward()
        alone[0]()
        alone[1]()
        before, first = live.now, net.blobs["res2"].diff.copy()
        for run in alone:
            run()
            assert live.now <= before
        assert (net.blobs["res2"].diff == first).all(), "the last flow's own"


@pytest.mark.parametrize("network", NETWORKS)
def test_the_test_net_is_the_plain_ones_layer_by_layer(network):
    """Of a Relay Backpropagation network; an AuxNet tests its outputs, and deploys one."""
    folder, _ = models.find(network)
    train_val = run_folder.read(f"{folder}/train_val.prototxt", caffe_pb2.NetParameter())
    plain, trained = (
        [(layer.name, layer.type) for layer in layers_of(train_val, State(TEST, stage=stages))]
        for stages in (["standard"], [])
    )
    if not network.startswith("auxnet"):
        assert trained == plain
    deploy = run_folder.read(f"{folder}/deploy.prototxt", caffe_pb2.NetParameter())
    kept = [layer.name for layer in deploy.layer if layer.type not in ("Input", "Softmax")]
    assert kept == [
        name
        for name, kind in plain
        if kind not in ("Python", "Data", "Accuracy", "SoftmaxWithLoss")
    ]
