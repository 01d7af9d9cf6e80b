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
    ("vgg13", 133_047_848, "torchvision's vgg13"),
    ("vgg16", 138_357_544, "torchvision's vgg16"),
    ("vgg19", 143_667_240, "torchvision's vgg19"),
    # an fc8 of 401 classes for 1000, and 3x3 convolutions (and biases) more
    ("vgg22", 143_667_240 - 599 * 4097 + 590_080 + 2 * 2_359_808, "VGG-19 and 1 + 2 convolutions"),
    ("vgg25", 143_667_240 - 599 * 4097 + 2 * 590_080 + 4 * 2_359_808, "VGG-19 and 2 + 4"),
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


def test_model_b_fills_the_released_caffemodel():
    """Its 685,025,107 bytes are the float32 parameters, and some kilobytes of names."""
    size = 4 * count.parameters(count.walk(read("model_b", "deploy.prototxt"), TEST))
    assert 0 < 685_025_107 - size < 50_000


@pytest.mark.parametrize("model, channels", [("model_a", 256), ("model_b", 512)])
def test_the_pyramid_has_49_9_4_and_1_bins(model, channels):
    rows = {row.name: row for row in count.walk(read(model, "deploy.prototxt"), TEST)}
    for bins in (1, 2, 3, 7):
        assert rows[f"spp{bins}"].shapes == [(1, channels, bins, bins)]
    assert rows["spp"].shapes == [(1, channels * (1 + 4 + 9 + 49))]


def test_figure_2_flows_of_vgg19_overlap_in_segments_3_and_4():
    assert generate.load("vgg19").flows == {
        "loss": "conv4_1", "aux2_loss": "conv3_1", "aux1_loss": "conv1_1"}
    order = [layer.name for layer in read("vgg19", "train_val.prototxt").layer]
    assert order.index("pool3") < order.index("aux1_pool") < order.index("conv4_1")
    assert order.index("pool4") < order.index("aux2_pool") < order.index("conv5_1")
