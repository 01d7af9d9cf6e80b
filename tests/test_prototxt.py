"""The committed models: current, of the published size, and shaped as the papers say."""

import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from prototxt import count, generate

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


def read(model, name, message=caffe_pb2.NetParameter):
    return text_format.Parse((generate.HERE / model / name).read_text(), message())


@pytest.mark.parametrize("model", generate.folders())
def test_committed_files_are_current(model):
    for name, text in generate.load(model).files(model).items():
        assert (generate.HERE / model / name).read_text() == text, (
            f"prototxt/{model}/{name} is not what net.py gives: run python -m prototxt.generate")


# model, learned parameters of the deploy net, who says so
SIZES = [
    ("resnet50_relay", 25_557_032, "torchvision's resnet50"),
]


@pytest.mark.parametrize("model, parameters, source", SIZES, ids=lambda value: str(value))
def test_deploy_net_has_the_published_number_of_parameters(model, parameters, source):
    assert count.parameters(count.walk(read(model, "deploy.prototxt"), TEST)) == parameters, source


@pytest.mark.parametrize("model", generate.folders())
def test_standard_stage_test_phase_and_deploy_net_learn_the_same(model):
    """The branches are gone in the stage "standard" and cost nothing at test time."""
    train_val = read(model, "train_val.prototxt")
    deploy = count.parameters(count.walk(read(model, "deploy.prototxt"), TEST))
    assert count.parameters(count.walk(train_val, TRAIN, "standard")) == deploy
    assert count.parameters(count.walk(train_val, TEST, "standard")) == deploy
    assert count.parameters(count.walk(train_val, TRAIN)) >= deploy


@pytest.mark.parametrize("model", generate.folders())
def test_relay_file_names_every_loss_and_a_layer_for_each(model):
    model = generate.load(model)
    train = [layer for layer in model.train_val().layer
             if not layer.include or layer.include[0].phase == TRAIN]
    losses = {layer.name for layer in train if layer.type == "SoftmaxWithLoss"}
    assert set(model.flows) == losses
    for lowest in model.flows.values():
        assert any(layer.name == lowest or layer.name.startswith(f"{lowest}_") for layer in train)
