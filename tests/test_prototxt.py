"""The committed models: current, of the published size, and shaped as the papers say."""

import subprocess
import sys
from math import prod

import cv2
import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from relaybp.prototxt import count, generate
from relaybp.relay_file import read_relay

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


def read_text(model):
    return (generate.HERE / model / "README.md").read_text()


def read(model, name, message=caffe_pb2.NetParameter):
    return text_format.Parse((generate.HERE / model / name).read_text(), message())


@pytest.mark.parametrize("model", generate.folders())
def test_committed_files_are_current(model):
    for name, text in generate.load(model).files(model).items():
        assert (generate.HERE / model / name).read_text() == text, (
            f"prototxt/{model}/{name} is not what net.py gives: run make prototxts"
        )


@pytest.mark.parametrize("model", generate.folders())
def test_one_gray_file_among_photos_stops_no_training(model):
    """Of those that are stored encoded; CIFAR's are raw."""
    layers = read(model, "train_val.prototxt").layer
    of_photos = any(layer.type == "Python" for layer in layers)
    forced = [layer.transform_param.force_color for layer in layers if layer.type == "Data"]
    assert forced == [of_photos] * 2


@pytest.mark.parametrize(
    "path",
    sorted(generate.HERE.glob("*/deploy*.prototxt")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_opencv_reads_the_deploy_net(path):
    assert not cv2.dnn.readNetFromCaffe(str(path)).empty()


# model, learned parameters of the deploy net, who says so
SIZES = [
    ("resnet50_relay", 25_557_032, "torchvision's resnet50"),
    ("inception_v3", 23_834_568, "torchvision's inception_v3 without its auxiliary head"),
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


# model, millions of parameters as the paper rounds them
MILLIONS = [
    ("resnet20", "0.27"),
    ("resnet32", "0.46"),
    ("resnet44", "0.66"),
    ("resnet56", "0.85"),
    ("resnet110", "1.7"),
    ("auxnet-56-5", "0.85"),
    ("auxnet-44-3", "0.66"),
    ("auxnet-20-3", "0.27"),
    ("wide16_8", "11.0"),
    ("wide28_10", "36.5"),
    ("resnet200", "64.7"),
]


@pytest.mark.parametrize("model, millions", MILLIONS)
def test_deploy_net_has_the_size_that_its_paper_gives(model, millions):
    parameters = count.parameters(count.walk(read(model, "deploy.prototxt"), TEST))
    decimals = len(millions.split(".")[1])
    assert f"{parameters / 1e6:.{decimals}f}" == millions


# model, 10^9 multiply-adds of one image: torchvision's tables; He et al. for stride in the 1x1
MULTIPLY_ADDS = [
    ("vgg13", 11.31),
    ("vgg16", 15.47),
    ("vgg19", 19.63),
    ("inception_v3", 5.71),
    ("resnet50_relay", 3.86),
]


@pytest.mark.parametrize("model, billions", MULTIPLY_ADDS)
def test_deploy_net_costs_what_is_published(model, billions):
    rows = count.walk(read(model, "deploy.prototxt"), TEST)
    assert count.multiply_adds(rows) / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize(
    "model", ["model_a", "vgg19", "inception_v3", "resnet50_relay", "auxnet-56-5", "plain16"]
)
def test_readmes_count_what_the_engine_builds(model):
    """Shapes, parameters and multiply-adds of the deploy net, read off the built net."""
    net = caffe.Net(read(model, "deploy.prototxt"), caffe.TEST)
    rows = count.walk(read(model, "deploy.prototxt"), TEST)
    for row in rows:
        assert row.shapes == [tuple(net.blobs[top].shape) for top in net.top_names[row.name]]
    learned = sum(
        blob.count
        for name, blobs in net.params.items()
        for blob in blobs
        if net.layer_dict[name].type != "BatchNorm"
    )
    assert count.parameters(rows) == learned
    adds = sum(
        net.params[name][0].count * prod(net.blobs[net.top_names[name][0]].shape[2:])
        for name in net.params
        if net.layer_dict[name].type in ("Convolution", "InnerProduct")
    )
    assert count.multiply_adds(rows) == adds
    text = read_text(model)
    assert f"| learned parameters | {learned:,} |" in text
    assert f"| multiply-adds per image, forward | {adds / 1e9:.3g} G |" in text


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
    relay = read_relay(str(generate.HERE / model / "relay.prototxt"))
    names = [row.name for row in count.walk(read(model, "train_val.prototxt"), TRAIN)]
    assert {flow.loss for flow in relay.flow} == {name for name in names if name.endswith("loss")}
    for flow in relay.flow:
        assert any(name == flow.to or name.startswith(f"{flow.to}_") for name in names)


def test_model_b_fills_the_released_caffemodel():
    """Its 685,025,107 bytes are the float32 parameters, and some kilobytes of names."""

    def convolution(inputs, outputs, side):
        return (inputs * side * side + 1) * outputs

    def module(inputs, k):
        return (
            convolution(inputs, k, 1)
            + convolution(inputs, k, 3)
            + convolution(inputs, 2 * k, 3)
            + convolution(2 * k, 2 * k, 3)
        )

    trunk = (
        convolution(3, 128, 7)
        + module(128, 64)
        + 3 * module(256, 64)
        + module(256, 128)
        + 3 * module(512, 128)
        + 4 * module(512, 128)
    )
    pyramid = 512 * (1 * 1 + 2 * 2 + 3 * 3 + 7 * 7)
    by_hand = trunk + (pyramid + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 401
    assert by_hand == 171_252_113 and 685_025_107 - 4 * by_hand == 16_655
    assert count.parameters(count.walk(read("model_b", "deploy.prototxt"), TEST)) == by_hand


@pytest.mark.parametrize("model, channels", [("model_a", 256), ("model_b", 512)])
@pytest.mark.parametrize("name", ["deploy.prototxt", "train_val.prototxt"])
def test_the_pyramid_has_1_4_9_and_49_bins_in_this_order(model, channels, name):
    """Max poolings of 14x14 whose windows, side by side, are ceil(14 / bins) wide."""
    net = read(model, name)
    layers = {layer.name: layer for layer in net.layer}
    rows = {row.name: row for row in count.walk(net, TEST)}
    batch = rows["spp"].shapes[0][0]
    for bins, width in ((1, 14), (2, 7), (3, 5), (7, 2)):
        pool = layers[f"spp{bins}"].pooling_param
        assert pool.pool == caffe_pb2.PoolingParameter.MAX and pool.pad == 0
        assert pool.kernel_size == pool.stride == width
        assert rows[f"spp{bins}"].shapes == [(batch, channels, bins, bins)]
    assert list(layers["spp"].bottom) == ["spp1_flat", "spp2_flat", "spp3_flat", "spp7_flat"]
    assert rows["spp"].shapes == [(batch, channels * (1 + 4 + 9 + 49))]


def test_models_are_listed_with_their_size_and_what_they_are():
    done = subprocess.run(
        [sys.executable, str(generate.HERE.parent / "tools" / "list_models.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    words = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert words["model_b"][:7] == ["171.25", "M", "16.06", "G", "RELAY", "Model", "B"]
    assert words["auxnet-56-5"][4] == "MULTI_WAY"
    assert {model.replace("_relay", "") for model in generate.folders()} <= set(words)


def test_figure_2_flows_of_vgg19_overlap_in_segments_3_and_4():
    assert generate.load("vgg19").flows == {
        "loss": "conv4_1",
        "aux2_loss": "conv3_1",
        "aux1_loss": "conv1_1",
    }
    order = [layer.name for layer in read("vgg19", "train_val.prototxt").layer]
    assert order.index("pool3") < order.index("aux1_pool") < order.index("conv4_1")
    assert order.index("pool4") < order.index("aux2_pool") < order.index("conv5_1")


def test_inception_v3_trains_with_its_own_head():
    """torchvision's inception_v3 has 27,161,264 parameters with its auxiliary head."""
    rows = count.walk(read("inception_v3", "train_val.prototxt"), TRAIN)
    assert count.parameters(rows) == 27_161_264


AUXNETS = {
    "auxnet-56-2": [45],
    "auxnet-56-5": [15, 25, 35, 45],
    "auxnet-26-2-wide": [19],
    "auxnet-56-3": [35, 45],
    "auxnet-44-2-svhn": [39],
    "auxnet-20-3": [11, 15],
    "auxnet-44-2": [35],
    "auxnet-44-5": [11, 19, 27, 35],
}


@pytest.mark.parametrize("model", AUXNETS)
def test_an_auxnet_output_stands_after_the_layer_of_its_name(model):
    """Layers are convolutions without shortcuts; the net of an output also has its fc."""
    outputs = {loss for loss in generate.load(model).flows if loss != "loss"}
    assert outputs == {f"aux{layer}_loss" for layer in AUXNETS[model]}
    for layer in AUXNETS[model]:
        net = read(model, f"deploy_aux{layer}.prototxt")
        depth = sum(
            row.type == "Convolution" and not row.name.endswith("_shortcut")
            for row in count.walk(net, TEST)
        )
        assert depth == layer
        assert [row.name for row in count.walk(net, TEST)][-1] == "prob"


def test_auxnet_weights_fade_with_the_square_of_depth():
    layers = {layer.name: layer for layer in read("auxnet-56-5", "train_val.prototxt").layer}
    for output, weight in ((15, 0.11), (25, 0.31), (35, 0.60), (45, 1)):
        assert layers[f"aux{output}_loss"].loss_weight[0] == pytest.approx(weight, abs=0.006)
    assert layers["loss"].loss_weight == []


@pytest.mark.parametrize(
    "model, blocks, overlap", [("resnet200", 66, 5), ("resnet200_cifar", 99, 8)]
)
def test_very_deep_branches_leave_the_lowest_third_alone_and_overlap(model, blocks, overlap):
    net = read(model, "train_val.prototxt").layer
    order = [layer.name for layer in net if layer.type == "Eltwise"]
    assert len(order) == blocks
    hung = [
        order.index(layer.bottom[0]) + 1
        for layer in net
        if layer.name.startswith("aux") and layer.bottom[0] in order
    ]
    assert len(hung) == 4 and min(hung) >= blocks / 3
    flows = generate.load(model).flows
    reach = [order.index(flows[loss]) for loss in ("aux2_loss", "aux3_loss", "aux4_loss", "loss")]
    assert [end - start for end, start in zip(hung, reach, strict=True)] == [overlap] * 4
