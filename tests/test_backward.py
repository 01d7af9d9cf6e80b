"""One iteration's gradients under every schedule, against autograd per loss."""

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
import reference
import relay_cases
from caffe.proto import caffe_pb2
from nets import BRANCHED
from relaybp import backward, engines, flows, relay_file
from relaybp.errors import RelayError
from relaybp.graph import Graph

pytestmark = pytest.mark.usefixtures("project_layers")

FLOWS = [
    ("overlapping", 'flow { loss: "loss" to: "res2" } flow { loss: "aux_loss" to: "conv1" }'),
    (
        "boundary inside a block",
        'flow { loss: "loss" to: "res2_branch2b" } flow { loss: "aux_loss" to: "conv1" }',
    ),
    (
        "all to the bottom",
        'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "conv1" }',
    ),
    (
        "auxiliary stops at its own head",
        'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "aux_fc" }',
    ),
    (
        "primary is the long one",
        'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "conv3" }',
    ),
    (
        "meeting in one layer",
        'flow { loss: "loss" to: "conv3" } flow { loss: "aux_loss" to: "conv1" }',
    ),
]
WAYS = [backward.Fused, backward.Ranges, backward.Passes]
LOSS_WEIGHTS = {"loss": 1.0, "aux_loss": float(np.float32(0.3))}  # a protobuf float


def make_net(text=BRANCHED, seed=1):
    caffe.set_random_seed(seed)
    param = text_format.Parse(text, caffe_pb2.NetParameter())
    net = caffe.Net(param, caffe.TRAIN)
    random = np.random.RandomState(seed)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.shape) * 0.3
    for index, blob in enumerate(net.params.get("bn1", ())):
        blob.data[...] = index  # statistics, not weights
    net.blobs["data"].data[...] = random.randn(4, 3, 12, 12)
    net.blobs["label"].data[...] = [0, 3, 4, 1]
    return net, param


def plan(net, text):
    return flows.plan(net, relay_file.parse_relay(text), net.param)


def tensors(net):
    return {
        name: [torch.tensor(blob.data.copy()) for blob in blobs]
        for name, blobs in net.params.items()
    }


def gradients(net, run):
    net.clear_param_diffs()
    net.forward()
    run()
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}


def largest_error(found, expected):
    worst = 0.0
    for name, arrays in expected.items():
        for mine, theirs in zip(found[name], arrays, strict=True):
            theirs = np.asarray(theirs)
            scale = max(np.abs(theirs).max(), 1e-8)
            worst = max(worst, np.abs(mine - theirs).max() / scale)
    return worst


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("text", [row[1] for row in FLOWS], ids=[row[0] for row in FLOWS])
def test_gradients_are_those_of_autograd_per_loss(double, text, way):
    net, param = make_net()
    planned = plan(net, text)
    weights = tensors(net)
    expected = reference.flow_gradients(
        param,
        {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs},
        weights,
        [(flow.loss, {net._layer_names[i] for i in flow.layers}) for flow in planned],
        LOSS_WEIGHTS,
    )
    assert largest_error(gradients(net, way(net, planned)), expected) < 1e-11


def test_joint_is_the_sum_of_both_losses_autograd(double):
    net, param = make_net()
    everything = set(net._layer_names)
    expected = reference.flow_gradients(
        param,
        {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs},
        tensors(net),
        [("loss", everything), ("aux_loss", everything)],
        LOSS_WEIGHTS,
    )
    assert largest_error(gradients(net, backward.Whole(net)), expected) < 1e-11


@pytest.mark.parametrize("text", [row[1] for row in FLOWS], ids=[row[0] for row in FLOWS])
def test_the_three_ways_agree_in_single_precision(text):
    results = []
    for way in WAYS:
        net, _ = make_net()
        results.append(gradients(net, way(net, plan(net, text))))
    assert largest_error(results[0], results[1]) < 1e-5
    assert largest_error(results[2], results[1]) < 1e-5


def test_relay_with_every_flow_to_the_bottom_is_joint_bit_for_bit():
    net, _ = make_net()
    text = 'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "conv1" }'
    relay = gradients(net, backward.Fused(net, plan(net, text)))
    joint = gradients(net, backward.Whole(net))
    assert largest_error(relay, joint) == 0.0


def test_a_flow_that_stops_at_its_head_leaves_the_trunk_alone():
    net, _ = make_net()
    text = 'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "aux_fc" }'
    relay = gradients(net, backward.Fused(net, plan(net, text)))
    net.blobs["aux_loss"].diff[...] = 0  # the auxiliary loss weighs nothing
    alone = gradients(net, backward.Whole(net))
    for name in ("conv1", "res2_branch2a", "conv3", "conv4", "fc"):
        np.testing.assert_array_equal(relay[name][0], alone[name][0])
    assert np.abs(relay["aux_fc"][0]).max() > 0
    assert np.abs(alone["aux_fc"][0]).max() == 0


def test_gradients_accumulate_over_iterations_of_iter_size(double):
    net, _ = make_net()
    run = backward.Fused(net, plan(net, FLOWS[0][1]))
    once = gradients(net, run)
    net.clear_param_diffs()
    for _ in range(2):
        net.forward()
        run()
    for name, arrays in once.items():
        for index, array in enumerate(arrays):
            np.testing.assert_allclose(net.params[name][index].diff, 2 * array, rtol=1e-12)


def test_the_engine_chooses_fused_and_the_modified_split_otherwise():
    net, _ = make_net()
    engine, planned = engines.of(caffe), plan(net, FLOWS[0][1])
    assert isinstance(engine.backward(net, planned), backward.Fused)
    assert isinstance(engine.backward(net, planned, fused=False), backward.Ranges)
    assert isinstance(engine.backward(net, None), backward.Whole)
    caffe.register_layer(caffe.layer_class("Split").__mro__[1])
    net, _ = make_net()
    with pytest.raises(RelayError, match=r"_split.* built before.*engines\.load"):
        engine.backward(net, planned, fused=False)


def test_the_modified_split_sums_every_top_outside_of_flows():
    net, _ = make_net()
    modified = gradients(net, backward.Whole(net))
    caffe.register_layer(caffe.layer_class("Split").__mro__[1])
    own_net, _ = make_net()
    assert largest_error(modified, gradients(own_net, backward.Whole(own_net))) == 0.0


def test_resnet50_relay_is_autograd_per_loss(double, tmp_path):
    """The whole network at 80 x 80: both flows against a second implementation, in fp64."""
    path, relay, param = relay_cases.prepare(caffe, "resnet50_relay", str(tmp_path))
    net = caffe.get_solver(path).net
    relay_cases.fill(net)
    planned = flows.plan(net, relay, param)
    inputs = {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs}
    expected = reference.flow_gradients(
        param,
        inputs,
        tensors(net),
        [(flow.loss, {net._layer_names[i] for i in flow.layers}) for flow in planned],
        LOSS_WEIGHTS,
    )
    learned = {
        name: values
        for name, values in expected.items()
        if net.layer_dict[name].type != "BatchNorm"
    }
    assert largest_error(gradients(net, backward.Fused(net, planned)), learned) < 1e-7


def test_activations_and_diffs_stay_channels_last():
    """A kernel that returns another layout would slow every layer below it."""
    net, _ = make_net()
    gradients(net, backward.Fused(net, plan(net, FLOWS[0][1])))
    for name, blob in net.blobs.items():
        if len(blob.shape) == 4 and name != "data":
            for tensor in (blob.tensor, blob.diff_tensor):
                assert tensor.is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.unlooked
@pytest.mark.parametrize("way", [backward.Fused, backward.Whole], ids=lambda way: way.__name__)
def test_diffs_need_not_be_kept(way):
    net, _ = make_net()
    planned = plan(net, FLOWS[0][1])
    kept = gradients(net, way(net, planned))
    assert not net.blobs["conv3"].diff_is_zero
    fresh, _ = make_net()
    fresh.keep_diffs = False
    freed = gradients(fresh, way(fresh, planned))
    assert largest_error(freed, kept) == 0.0
    with_diffs = [name for name, blob in fresh.blobs.items() if not blob.diff_is_zero]
    assert with_diffs == ["aux_loss", "loss"], "only the losses' weights"


# ---- corner cases --------------------------------------------------------------------------------

MODULE = """
name: "module"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 3 dim: 12 dim: 12 } shape { dim: 4 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "mix_1x1" type: "Convolution" bottom: "conv1" top: "mix_1x1"
        convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "mix_3x3a" type: "Convolution" bottom: "conv1" top: "mix_3x3a"
        convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "mix_3x3a_relu" type: "ReLU" bottom: "mix_3x3a" top: "mix_3x3a" }
layer { name: "mix_3x3b" type: "Convolution" bottom: "mix_3x3a" top: "mix_3x3b"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "mix_5x5" type: "Convolution" bottom: "conv1" top: "mix_5x5"
        convolution_param { num_output: 2 kernel_size: 5 pad: 2 } }
layer { name: "mix" type: "Concat" bottom: "mix_1x1" bottom: "mix_3x3b" bottom: "mix_5x5"
        top: "mix" }
layer { name: "aux_fc" type: "InnerProduct" bottom: "mix" top: "aux_fc"
        inner_product_param { num_output: 5 } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux_fc" bottom: "label"
        top: "aux_loss" loss_weight: 0.3 }
layer { name: "conv3" type: "Convolution" bottom: "mix" top: "conv3"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv3" top: "fc"
        inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def expected_of(net, param, flows_by_name, loss_weights=LOSS_WEIGHTS):
    return reference.flow_gradients(
        param,
        {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs},
        tensors(net),
        flows_by_name,
        loss_weights,
    )


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "to, trained",
    [
        ("mix", ["mix_1x1", "mix_3x3a", "mix_3x3b", "mix_5x5"]),
        # the layers of the module that come later in the file, whatever path they are on
        ("mix_3x3a", ["mix_3x3a", "mix_3x3b", "mix_5x5"]),
        ("mix_3x3b", ["mix_3x3b", "mix_5x5"]),
        ("mix_5x5", ["mix_5x5"]),
    ],
)
def test_a_boundary_inside_an_inception_module(double, way, to, trained):
    net, param = make_net(MODULE)
    planned = plan(
        net, f'flow {{ loss: "loss" to: "{to}" }} flow {{ loss: "aux_loss" to: "conv1" }}'
    )
    expected = expected_of(
        net,
        param,
        [
            ("loss", {*trained, "conv3", "fc"}),
            ("aux_loss", {"conv1", "mix_1x1", "mix_3x3a", "mix_3x3b", "mix_5x5", "aux_fc"}),
        ],
    )
    assert largest_error(gradients(net, way(net, planned)), expected) < 1e-11


@pytest.mark.parametrize("way", WAYS[:2], ids=lambda way: way.__name__)
def test_parameters_shared_by_two_flows_gain_from_both(double, way):
    shared = (
        'name: "{}" type: "Convolution"',
        'name: "{}" type: "Convolution" param {{ name: "w" }} param {{ name: "b" }}',
    )
    net, param = make_net(
        BRANCHED.replace(
            "num_output: 8 kernel_size: 3 stride: 2", "num_output: 6 kernel_size: 3 pad: 1"
        )
        .replace(shared[0].format("conv3"), shared[1].format("conv3"))
        .replace(shared[0].format("res2_branch2b"), shared[1].format("res2_branch2b"))
    )
    planned = plan(net, 'flow { loss: "loss" to: "conv3" } flow { loss: "aux_loss" to: "conv1" }')
    apart = expected_of(
        net, param, [(flow.loss, {net._layer_names[i] for i in flow.layers}) for flow in planned]
    )
    found = gradients(net, way(net, planned))
    for index in range(2):  # by the chain rule, the sum over the uses
        total = apart["conv3"][index] + apart["res2_branch2b"][index]
        for name in ("conv3", "res2_branch2b"):
            np.testing.assert_allclose(found[name][index], total, rtol=1e-10, atol=1e-12)
    assert (
        largest_error(
            found,
            {
                name: values
                for name, values in apart.items()
                if name not in ("conv3", "res2_branch2b")
            },
        )
        < 1e-11
    )


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "text",
    [
        'flow { loss: "loss" to: "conv1" } flow { loss: "aux_loss" to: "conv1" }',
        'flow { loss: "loss" to: "conv1" }',
    ],
)
def test_a_loss_of_weight_0_trains_nothing(double, way, text):
    net, param = make_net(BRANCHED.replace("loss_weight: 0.3", "loss_weight: 0"))
    planned = plan(net, text)
    assert [flow.loss for flow in planned] == ["loss"]
    expected = expected_of(net, param, [("loss", set(net._layer_names))])
    found = gradients(net, way(net, planned))
    assert largest_error(found, expected) < 1e-11
    assert not found["aux_fc"][0].any()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_trunk_frozen_in_the_net_passes_gradients_where_they_are_wanted(double, way):
    """conv3 is frozen; both losses train res2's layers below it, and conv1 is frozen too."""
    text = BRANCHED
    for name in ("conv1", "conv3"):
        text = text.replace(
            f'name: "{name}" type: "Convolution"',
            f'name: "{name}" type: "Convolution" param {{ lr_mult: 0 }} '
            + ("" if name == "conv1" else "param { lr_mult: 0 }"),
        )
    net, param = make_net(text)
    frozen = flows.frozen(Graph(net), param)
    assert frozen == {"conv1", "bn1", "conv3"}
    planned = plan(
        net, 'flow { loss: "loss" to: "res2_branch2b" } flow { loss: "aux_loss" to: "scale1" }'
    )
    expected = expected_of(
        net, param, [(flow.loss, {net._layer_names[i] for i in flow.layers}) for flow in planned]
    )
    for name in frozen:
        expected[name] = [torch.zeros_like(value) for value in expected[name]]
    assert largest_error(gradients(net, way(net, planned)), expected) < 1e-11
