"""The supervision ratio, against autograd and against a network that can be computed by hand."""

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
import reference
from caffe.proto import caffe_pb2
from relaybp.errors import RelayError
from relaybp.supervision import Supervision
from schedule_cases import make

pytestmark = pytest.mark.usefixtures("project_layers")


def conv(name, bottom, top, outputs=4, size=3, stride=1):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {size} pad: {size // 2} "
        f'stride: {stride} weight_filler {{ type: "msra" }} }} }}\n'
    )


def relu(bottom, top):
    return f'layer {{ name: "relu_{top}" type: "ReLU" bottom: "{bottom}" top: "{top}" }}\n'


def add(one, other, top):
    bottoms = f'bottom: "{one}" bottom: "{other}"'
    return f'layer {{ name: "{top}" type: "Eltwise" {bottoms} top: "{top}" }}\n'


def output(prefix, bottom, weight=1.0):
    return (
        f'layer {{ name: "{prefix}pool" type: "Pooling" bottom: "{bottom}" top: "{prefix}pool" '
        "pooling_param { pool: AVE global_pooling: true } }\n"
        f'layer {{ name: "{prefix}fc" type: "InnerProduct" bottom: "{prefix}pool" '
        f'top: "{prefix}fc" inner_product_param {{ num_output: 4 '
        'weight_filler { type: "xavier" } } }\n'
        f'layer {{ name: "{prefix}loss" type: "SoftmaxWithLoss" bottom: "{prefix}fc" '
        f'bottom: "label" top: "{prefix}loss" loss_weight: {weight} }}\n'
    )


INPUT = """layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 6 dim: 3 dim: 8 dim: 8 } shape { dim: 6 } } }
"""
AUX1, AUX3 = output("aux1_", "block1", 0.5), output("aux3_", "block3", 0.25)
BODY = (  # block1 ends with a ReLU in place; block2 halves the maps over a projection
    conv("conv1", "data", "conv1")
    + conv("conv2", "conv1", "conv2")
    + add("conv1", "conv2", "block1")
    + relu("block1", "block1")
    + "{aux1}"
    + conv("shortcut", "block1", "shortcut", 6, 1, 2)
    + conv("conv3", "block1", "conv3", 6, 3, 2)
    + add("shortcut", "conv3", "block2")
    + relu("block2", "active2")
    + conv("conv4", "active2", "conv4", 6)
    + add("block2", "conv4", "block3")
    + "{aux3}"
    + relu("block3", "active3")
    + conv("conv5", "active3", "conv5", 6)
    + add("block3", "conv5", "block4")
    + output("", "block4")
)
NET = INPUT + BODY.replace("{aux1}", AUX1).replace("{aux3}", AUX3)
PLAIN = INPUT + BODY.replace("{aux1}", "").replace("{aux3}", "")
BLOCKS = ("block1", "block2", "block3", "block4")
MULTI_WAY = {"block1": "aux1_loss", "block2": "aux3_loss", "block3": "aux3_loss", "block4": "loss"}
ENDS = {"aux1_loss": "block1", "aux3_loss": "block3", "loss": "block4", "all": "block4"}


def gradients(text, net, weights):
    """{block: gradient of the weighted losses at its features} by autograd, at net's batch."""
    param = text_format.Parse(text, caffe_pb2.NetParameter())
    inputs = {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs}
    values = {
        name: [torch.tensor(blob.data.copy()).requires_grad_() for blob in blobs]
        for name, blobs in net.params.items()
    }
    blobs = reference.run(param, inputs, values)
    loss = sum(weight * blobs[name] for name, weight in weights.items())
    found = torch.autograd.grad(loss, [blobs[name] for name in BLOCKS], allow_unused=True)
    return {name: g.numpy() for name, g in zip(BLOCKS, found, strict=True) if g is not None}


CASES = {
    "schedule: STANDARD": (PLAIN, dict.fromkeys(BLOCKS, "loss")),
    "schedule: JOINT": (NET, dict.fromkeys(BLOCKS, "all")),
    "schedule: PAIR_WISE": (NET, MULTI_WAY),
    "schedule: MULTI_WAY": (NET, MULTI_WAY),
}
WEIGHTS = {"aux1_loss": 0.5, "aux3_loss": 0.25, "loss": 1.0}


@pytest.mark.parametrize("fusing", [False, True])
@pytest.mark.parametrize("relay", CASES)
def test_the_ratio_is_what_autograd_says(double, tmp_path, relay, fusing):
    text, losses = CASES[relay]
    solver, schedule = make(caffe, str(tmp_path), relay, text)
    if fusing:
        schedule.engine.keep_values(solver.net, False, False)
    supervision, random = Supervision(schedule), np.random.RandomState(3)
    ends, here = dict.fromkeys(BLOCKS, 0.0), dict.fromkeys(BLOCKS, 0.0)
    for _ in range(2):
        solver.net.blobs["data"].data[...] = random.randn(6, 3, 8, 8)
        solver.net.blobs["label"].data[...] = random.randint(0, 4, 6)
        solver.net.forward()
        supervision.add()
        for block, loss in losses.items():
            weights = {"loss": 1.0} if text is PLAIN else WEIGHTS if loss == "all" else {loss: 1.0}
            found = gradients(text, solver.net, weights)
            end = "block4" if text is PLAIN else ENDS[loss]
            ends[block] += (found[end] ** 2).mean()
            here[block] += (found[block] ** 2).mean()
    ratios = supervision.ratios()
    assert [(ratio.block.name, ratio.loss) for ratio in ratios] == list(losses.items())
    assert [ratio.block.level for ratio in ratios] == [2, 3, 4, 5]
    for ratio in ratios:
        expected = np.sqrt(ends[ratio.block.name] / here[ratio.block.name])
        assert ratio.value == pytest.approx(expected, rel=1e-6), ratio
    assert ratios[-1].value == 1


def test_by_hand(tmp_path):
    """x_(l+1) = x_l + w_l x_l and a squared error: the ratio is 1 over the product of 1 + w."""
    text = (
        'layer { name: "data" type: "Input" top: "data" top: "label" input_param '
        "{ shape { dim: 2 dim: 1 dim: 1 dim: 1 } shape { dim: 2 dim: 1 dim: 1 dim: 1 } } }\n"
        + conv("conv1", "data", "x0", 1, 1)
    )
    for k in range(3):
        text += conv(f"w{k}", f"x{k}", f"y{k}", 1, 1) + add(f"x{k}", f"y{k}", f"x{k + 1}")
    text += (
        'layer { name: "loss" type: "EuclideanLoss" bottom: "x3" bottom: "label" top: "loss" }\n'
    )
    solver, schedule = make(caffe, str(tmp_path), "schedule: STANDARD", text)
    for name, value in {"conv1": 1, "w0": 7, "w1": 1, "w2": 0.5}.items():
        solver.net.params[name][0].data[...] = value
    solver.net.blobs["data"].data[...] = [[[[1]]], [[[-2]]]]
    solver.net.forward()
    supervision = Supervision(schedule)
    supervision.add()
    assert [ratio.value for ratio in supervision.ratios()] == pytest.approx([1 / 3, 1 / 1.5, 1])
    assert not solver.net.params["w1"][0].diff.any()


def test_only_where_it_is_defined(tmp_path):
    with pytest.raises(RelayError, match="expected a residual network .* found 4 .* and Relay"):
        relay = 'flow { loss: "loss" to: "conv4" } flow { loss: "aux3_loss" to: "shortcut" } '
        relay += 'flow { loss: "aux1_loss" to: "conv1" }'
        Supervision(make(caffe, str(tmp_path), relay, NET)[1])
    with pytest.raises(RelayError, match="found 0 residual blocks and Standard"):
        plain = INPUT + conv("conv1", "data", "conv1") + output("", "conv1")
        Supervision(make(caffe, str(tmp_path), "schedule: STANDARD", plain)[1])
