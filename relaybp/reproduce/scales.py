"""SCALE=: on which data, with which networks and how long a table's comparison is run."""

from __future__ import annotations

from dataclasses import dataclass

PAPER, CIFAR, SMOKE = "paper", "cifar", "smoke"
SCALES = {
    PAPER: "the papers' own networks and data: days to weeks of a GPU for each training",
    CIFAR: "the same comparison with CIFAR-sized networks: an hour or two of a GPU, or a day or "
    "more of a CPU, for each training",
    SMOKE: "the CIFAR-sized networks for some iterations on drawn scenes: seconds a training",
}


@dataclass(frozen=True)
class Networks:
    """Which networks and tests stand for a paper's.

    plain: for each data set, networks of growing depth with the paper's name of each;
    plain_methods: how they are trained, as the endings of models' names; a, b: models A and B;
    members: of the ensemble, each with the protocol it is tested by; deep: networks of
    Table 6, each with the paper's name and its protocol; dense: the protocol of a "single model".
    """

    plain: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    plain_methods: tuple[str, ...]
    a: str
    b: str
    places: str  # the data of models A and B
    members: tuple[tuple[str, str], ...]
    deep: tuple[tuple[str, str, str, str], ...]
    dense: str


def networks(scale: str) -> Networks:
    """The networks of a scale."""
    return OF_PAPER if scale == PAPER else OF_CIFAR if scale == CIFAR else OF_SMOKE


VGGS = (
    (("vgg13", "VGG-13"), ("vgg16", "VGG-16"), ("vgg19", "VGG-19")),
    (("vgg19", "VGG-19"), ("vgg22", "VGG-22"), ("vgg25", "VGG-25")),
)
PLAINS = (("plain10", "VGG-13"), ("plain16", "VGG-16"), ("plain22", "VGG-19"), ("plain28", ""))
OF_PAPER = Networks(
    plain=(("imagenet", VGGS[0]), ("places2", VGGS[1])),
    plain_methods=("",),
    a="model_a",
    b="model_b",
    places="places2",
    members=(
        ("model_a", "vgg"),
        ("model_b", "vgg"),
        ("vgg19", "dense:256,320,384"),
        ("vgg22", "dense:224,256,320"),
        ("vgg25", "dense:320,384,448"),
    ),
    deep=(
        ("resnet50", "ResNet-50", "resnet", "imagenet"),
        ("inception_v3", "Inception-v3", "inception-multi", "imagenet"),
    ),
    dense="vgg",
)
OF_CIFAR = Networks(
    plain=(("cifar10", PLAINS),),
    plain_methods=("", "_relay"),
    a="plain16",
    b="inception_cifar",
    places="cifar10",
    members=(
        ("plain16", "dense:32,40,48"),
        ("inception_cifar", "dense:32,40,48"),
        ("plain13", "dense:32,40"),
        ("plain19", "dense:32,36"),
        ("plain22", "dense:40,48"),
    ),
    deep=(
        ("resnet56", "ResNet-50", "dense:32,40,48", "cifar10"),
        ("resnet110", "Inception-v3", "dense:32,40,48", "cifar10"),
    ),
    dense="dense:32,40,48",
)
OF_SMOKE = Networks(
    plain=(("drawn", (PLAINS[0], PLAINS[-1])),),
    plain_methods=("", "_relay"),
    a="plain16",
    b="inception_cifar",
    places="drawn",
    members=tuple((model, "dense:32,36") for model, _ in OF_CIFAR.members),
    deep=(
        ("resnet20", "ResNet-50", "dense:32,36", "drawn"),
        ("resnet32", "Inception-v3", "dense:32,36", "drawn"),
    ),
    dense="dense:32,36",
)
