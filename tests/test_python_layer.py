"""Python layers: what users of pycaffe rely on; the numbers are in catalogue_cases/python.py."""

import numpy as np
import pytest
import torch

import caffe
import user_layers
from caffe import device


def make_net(folder, *layers, phase=caffe.TRAIN):
    path = folder / "net.prototxt"
    path.write_text("\n".join(layers))
    return caffe.Net(str(path), phase)


def layer(name, cls, bottoms="", tops="", param_str="", options=""):
    def lines(kind, names):
        return " ".join(f'{kind}: "{blob}"' for blob in names.split())

    return (
        f'layer {{ name: "{name}" type: "Python" {lines("bottom", bottoms)} '
        f'{lines("top", tops)} python_param {{ module: "user_layers" layer: "{cls}" '
        f"param_str: '{param_str}' }} {options} }}"
    )


INPUT = """layer { name: "in" type: "Input" top: "x" top: "y"
                   input_param { shape { dim: 4 dim: 3 } } }"""


def test_layers_are_the_users_own_objects(tmp_path):
    net = make_net(tmp_path, INPUT, layer("affine", "Affine", "x", "z"))
    user = net.layers[list(net._layer_names).index("affine")]
    assert type(user) is user_layers.Affine
    assert user is net.layer_dict["affine"]
    assert user.type == "Python"
    assert user.phase == caffe.TRAIN
    assert list(net.params["affine"]) == list(user.blobs)
    net.params["affine"][0].data[...] = 5
    net.blobs["x"].data[...] = 2
    net.forward()
    np.testing.assert_array_equal(net.blobs["z"].data, np.full((4, 3), 10))


@pytest.mark.parametrize(
    "method, call",
    [("setup", None), ("reshape", None), ("forward", "forward"), ("backward", "backward")],
)
def test_the_users_exception_is_named_and_chained(tmp_path, method, call):
    fail = layer("oops", "Failing", "x", "z", param_str=method)
    with pytest.raises(
        caffe.LayerError,
        match=f"layer 'oops' .Python.: user_layers.Failing."
        f"{method} raised KeyError: .*the user's mistake",
    ) as error:
        net = make_net(tmp_path, "force_backward: true", INPUT, fail)
        getattr(net, call or "forward")()
    assert isinstance(error.value.__cause__, KeyError)
    assert isinstance(error.value, RuntimeError)  # as scripts for BVLC Caffe expect


def test_reshape_runs_before_every_forward(tmp_path):
    net = make_net(tmp_path, layer("data", "Counter", "", "data label"))
    batches = []
    for _ in range(4):
        net.forward()
        batches.append(net.blobs["data"].shape[0])
    assert sorted(batches[:2]) == [2, 3]
    assert batches[2:] == batches[:2]


def test_what_a_top_held_stays_until_it_is_overwritten(tmp_path):
    net = make_net(tmp_path, layer("data", "Counter", "", "data label"))
    for _ in range(4):
        net.forward()
    assert np.all(net.blobs["label"].data > 1000)


@pytest.fixture
def bf16():
    device.set_precision("bf16")
    yield
    device.set_precision("fp32")


def test_labels_are_not_rounded_to_bf16(tmp_path, bf16):
    net = make_net(tmp_path, layer("data", "Counter", "", "data label"))
    for _ in range(4):
        net.forward()
    assert net.blobs["data"].tensor.dtype == torch.bfloat16
    assert sorted(net.blobs["label"].data % 4) == [0, 1, 2, 3]


LOSS = [
    INPUT,
    layer("affine", "Affine", "x", "a"),
    """layer { name: "fc" type: "InnerProduct" bottom: "a" top: "f"
                   inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }""",
    layer("loss", "Distance", "f y", "loss difference", options="loss_weight: 2 loss_weight: 0"),
    layer(
        "aux", "Distance", "a y", "aux aux_difference", options="loss_weight: 0.5 loss_weight: 0"
    ),
]


def gradients(net, losses):
    """The parameters' gradients of the weighted losses, by autograd."""
    params = {
        name: [torch.tensor(blob.data.copy(), requires_grad=True) for blob in blobs]
        for name, blobs in net.params.items()
    }
    x, y = (torch.tensor(net.blobs[name].data.copy()) for name in "xy")
    a = x * params["affine"][0] + params["affine"][1]
    f = torch.nn.functional.linear(a, *params["fc"])
    terms = {"loss": 2 * (f - y).square().sum() / 8, "aux": 0.5 * (a - y).square().sum() / 8}
    sum(terms[name] for name in losses).backward()
    return {
        name: [None if p.grad is None else p.grad.numpy() for p in blobs]
        for name, blobs in params.items()
    }


def assert_gradients(net, expected):
    for name, grads in expected.items():
        for blob, grad in zip(net.params[name], grads, strict=True):
            if grad is not None:
                np.testing.assert_allclose(blob.diff, grad, rtol=1e-5, atol=1e-6)


def loss_net(tmp_path):
    caffe.set_random_seed(1)
    net = make_net(tmp_path, *LOSS)
    random = np.random.RandomState(0)
    for name in "xy":
        net.blobs[name].data[...] = random.normal(size=(4, 3))
    net.forward()
    net.clear_param_diffs()
    return net


def test_python_losses_train_layers_below(tmp_path):
    net = loss_net(tmp_path)
    net.backward()
    assert_gradients(net, gradients(net, ["loss", "aux"]))


def test_flows_pass_through_python_layers(tmp_path):
    """One flow per loss, in one sweep; each alone; both give the sum."""
    net = loss_net(tmp_path)
    place = {name: i for i, name in enumerate(net._layer_names)}
    main = [(place["loss"], 0)]
    aux = [(place["aux"], place["aux"]), (place["fc"] - 1, 0)]
    net.backward_flows([main, aux])
    assert_gradients(net, gradients(net, ["loss", "aux"]))
    net.clear_param_diffs()
    net.backward_flows([aux])
    assert_gradients(net, gradients(net, ["aux"]))
