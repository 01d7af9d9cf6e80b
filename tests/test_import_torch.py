"""torchvision's state dicts in Caffe nets: against plain torch modules with torchvision's names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import caffe
from caffe.files.text import read_net
from relaybp.commands import import_torch

ROOT = Path(__file__).parent.parent
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Bottleneck(nn.Module):
    """conv1 1x1, conv2 3x3 with the stride, conv3 1x1, each with its batch norm."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        if stride > 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        side = self.downsample(x) if hasattr(self, "downsample") else x
        return torch.relu(self.bn3(self.conv3(y)) + side)


class ResNet50(nn.Module):
    """He et al.'s ResNet-50 as torchvision names and computes it."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            layers = []
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                layers.append(Bottleneck(channels, width, stride))
                channels = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.softmax(self.fc(x.mean((2, 3))), 1)


class Vgg(nn.Module):
    """VGG-16 as torchvision names it, with the channels of `widths`."""

    def __init__(self, widths, blocks, fc, classes, norm):
        super().__init__()
        layers, channels = [], 3
        for width, count in zip(widths, blocks, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1)]
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers += [nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels, fc),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(fc, fc),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(fc, classes),
        )

    def forward(self, x):
        return torch.softmax(self.classifier(self.features(x).flatten(1)), 1)


def seeded(module):
    """The module with seeded weights and statistics, for testing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.dim() > 1:
                fan_in = value[0].numel()
                gain = 0.5 if name.endswith(("conv3.weight", "downsample.0.weight")) else 2
                value.copy_(torch.randn(value.shape, generator=generator) * (gain / fan_in) ** 0.5)
            elif value.dim() == 1:
                value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
    return module.eval()


def images(size):
    """(bytes-like RGB images (N, 3, H, W), as torchvision takes them)."""
    pixels = np.random.RandomState(0).uniform(0, 255, (2, 3, size, size))
    normalised = (pixels / 255 - MEAN[:, None, None]) / STD[:, None, None]
    return pixels, torch.tensor(normalised, dtype=torch.float32)


def caffe_input(pixels):
    """BGR of 0 to 255 minus the mean."""
    return (pixels - 255 * MEAN[:, None, None])[:, ::-1]


def deploy(model, size):
    param = read_net(str(ROOT / "prototxt" / model / "deploy.prototxt"))
    param.layer[0].input_param.shape[0].dim[:] = [2, 3, size, size]
    return param


def test_resnet50_predicts_what_the_torch_module_predicts():
    module = seeded(ResNet50(1000))
    pixels, normalised = images(64)
    net = import_torch.convert(module.state_dict(), deploy("resnet50_relay", 64))
    with torch.no_grad():
        expected = module(normalised).numpy()
    assert np.ptp(expected) > 1e-4
    found = net.forward(data=caffe_input(pixels))["prob"]
    np.testing.assert_allclose(found.reshape(2, -1), expected, rtol=2e-3, atol=1e-6)


def narrow(param, widths, fc, classes):
    """The committed VGG-16 with fewer channels, for speed."""
    for layer in param.layer:
        if layer.type == "Convolution":
            layer.convolution_param.num_output = widths[int(layer.name[4]) - 1]
        elif layer.type == "InnerProduct":
            layer.inner_product_param.num_output = classes if layer.name == "fc8" else fc
    return param


@pytest.mark.parametrize("norm", [False, True], ids=["vgg16", "vgg16_bn"])
@pytest.mark.parametrize("keep_colors", [False, True])
def test_vgg16_predicts_what_the_torch_module_predicts(norm, keep_colors):
    widths, fc, classes = (8, 12, 16, 16, 16), 24, 10
    module = seeded(Vgg(widths, (2, 2, 3, 3, 3), fc, classes, norm))
    param = narrow(deploy("vgg16", 32), widths, fc, classes)
    pixels, normalised = images(32)
    net = import_torch.convert(module.state_dict(), param, keep_colors)
    with torch.no_grad():
        expected = module(normalised).numpy()
    data = normalised.numpy() if keep_colors else caffe_input(pixels)
    found = net.forward(data=data)["prob"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def small_vgg():
    widths, fc, classes = (2, 2, 2, 2, 2), 4, 3
    module = Vgg(widths, (2, 2, 3, 3, 3), fc, classes, False)
    return module, narrow(deploy("vgg16", 32), widths, fc, classes)


def test_the_command_writes_model_and_net(tmp_path, capsys):
    module, param = small_vgg()
    caffe.files.text.write_text(str(tmp_path / "deploy.prototxt"), param)
    torch.save(
        {"state_dict": {"module." + key: value for key, value in module.state_dict().items()}},
        tmp_path / "a.pth",
    )
    import_torch.main(
        [str(tmp_path / "a.pth"), str(tmp_path / "deploy.prototxt"), str(tmp_path / "out")]
    )
    count = sum(value.numel() for value in module.state_dict().values())
    assert f"out.caffemodel: 16 layers, {count:,} parameters" in capsys.readouterr().out
    net = caffe.Net(
        str(tmp_path / "out.prototxt"), caffe.TEST, weights=str(tmp_path / "out.caffemodel")
    )
    np.testing.assert_array_equal(
        net.params["fc8"][0].data, module.classifier[6].weight.detach().numpy()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("classifier.6.bias"), "'fc8' has 2 blobs; the state dict has 1"),
        (lambda d: d.pop("classifier.6.weight"), "3 InnerProduct layers; the state dict has 2"),
        (lambda d: d.update(more=torch.zeros(1)), "no place for more: it is of another"),
        (
            lambda d: d.update({"classifier.6.bias": torch.zeros(4)}),
            "'fc8': the state dict has shape",
        ),
        (
            lambda d: d.update({"layer1.0.conv1.weight": torch.zeros(1)}),
            "no 'conv1.weight'; it has",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    module, param = small_vgg()
    entries = dict(module.state_dict())
    change(entries)
    with pytest.raises(caffe.WeightsError, match=message):
        import_torch.convert(entries, param)


MODEL = {"layer1.0.conv1.weight": torch.zeros(1)}
WRONG = {  # what torch.save was given, or the bytes of the file: what is said of it
    "text": (b"name: 'a net'", "not a state dict of PyTorch .*the order is WEIGHTS.pth DEPLOY"),
    "photo": (b"\xff\xd8\xff\xe0" * 9, "not a state dict of PyTorch"),
    "whole model": (torch.nn.Linear(1, 1), "holds more than weights.*model.state_dict"),
    "checkpoint": ({"model": MODEL, "epoch": 3}, "entry 'model' is no array of weights but dict"),
    "tensor": (torch.zeros(1), "expected a state dict, found Tensor"),
    "other": ({"linear.weight": torch.zeros(1)}, "neither of a ResNet nor of a VGG.*linear.weight"),
    "nothing": (None, "a.pth: No such file or directory"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_one_line(tmp_path, kind):
    made, message = WRONG[kind]
    path = tmp_path / "a.pth"
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None:
        torch.save(made, path)
    (tmp_path / "deploy.prototxt").write_text(str(small_vgg()[1]))
    with pytest.raises(SystemExit, match=f"^import_torch: .*{message}") as end:
        import_torch.main([str(path), str(tmp_path / "deploy.prototxt"), "out"])
    assert "\n" not in str(end.value)
