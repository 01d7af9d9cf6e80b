"""The comparisons of AuxNet (Guo et al., "The Shallow End", 2016), all of them on small images."""

from __future__ import annotations

from .scales import PAPER, SMOKE
from .spec import Block, Key, Row, Table, Training, single

LAW = "weight_law {{ gamma: {} floor: 0.01 reference: DEEPEST_AUXILIARY spare_scores: true }}"
GAMMAS = ("0", "0.5", "1", "2", "4")
RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
AUXNETS = ("auxnet-44-5", "auxnet-56-2", "auxnet-56-5", "auxnet-26-2-wide")
NOT_REPORTED = ("AuxNet-44-5",)  # the figure of the headline is not at hand
DAGGER = " (dagger)"
NETWORKS_OF_SVHN = (
    ("ResNet-56", "resnet56", True),
    ("AuxNet-44-2", "auxnet-44-2-svhn_relay", True),
    ("AuxNet-56-2", "auxnet-56-2_relay", True),
    ("AuxNet-56-3", "auxnet-56-3_relay", False),
)


def _compared(scale: str) -> tuple[str, str]:
    """The network in which ways of training are compared, and its data."""
    net = "auxnet-56-5" if scale == PAPER else "auxnet-20-3"
    return net, "drawn" if scale == SMOKE else "cifar10"


def methods(scale: str) -> Table:
    """Standard, joint, pair-wise and multi-way back-propagation of one network."""
    net, data = _compared(scale)
    trainings = {
        "standard BP, one output": Training(net, data),
        "joint": Training(f"{net}_relay", data, "joint", relay="schedule: JOINT step { }"),
        "joint, normalised step": Training(
            f"{net}_relay",
            data,
            "joint-normalised",
            relay="schedule: JOINT step { normalize: true }",
        ),
        "pair-wise": Training(f"{net}_relay", data, "pair-wise", relay="schedule: PAIR_WISE"),
        "multi-way": Training(f"{net}_relay", data),
    }
    base, reported = next(iter(trainings)), {}
    if scale == PAPER:
        reported["multi-way"] = _key("AuxNet-56-5", "CIFAR-10")
    rows = tuple(
        Row(label, single(training), reported.get(label), over=base if label != base else "")
        for label, training in trainings.items()
    )
    return Table("AuxNet: ways of training one network", (Block(net, data, rows, ks=(1,)),))


def outputs(scale: str) -> Table:
    """How many outputs: more help at first, too many over-fit."""
    data = "drawn" if scale == SMOKE else "cifar10"
    rows = [Row("1", single(Training("auxnet-44-2", data)))]
    rows += [
        Row(str(count), single(Training(f"auxnet-44-{count}_relay", data)), over="1")
        for count in (2, 3, 4, 5)
    ]
    block = Block("AuxNet-44, number of outputs", data, tuple(rows), ks=(1,))
    return Table("AuxNet: the number of outputs", (block,))


def gamma(scale: str) -> Table:
    """The exponent of the weights of auxiliary losses."""
    net, data = _compared(scale)
    rows = tuple(
        Row(f"gamma {value}", single(_with_gamma(f"{net}_relay", data, value))) for value in GAMMAS
    )
    return Table("AuxNet: the weights' exponent gamma", (Block(net, data, rows, ks=(1,)),))


def _with_gamma(model: str, data: str, value: str) -> Training:
    if value == "2":  # the model's own
        return Training(model, data)
    return Training(model, data, f"gamma{value}", relay=LAW.format(value))


def cifar10(scale: str) -> Table:
    """Networks of several depths, and AuxNets, on CIFAR-10."""
    return _depths(scale, "CIFAR-10", "cifar10")


def cifar100(scale: str) -> Table:
    """Networks of several depths, and AuxNets, on CIFAR-100."""
    return _depths(scale, "CIFAR-100", "cifar100")


def _depths(scale: str, name: str, data: str) -> Table:
    data = "drawn" if scale == SMOKE else data
    rows = [
        Row(
            _paper_name(model),
            single(Training(model, data)),
            _key(_paper_name(model), name, "standard BP") if name == "CIFAR-10" else None,
        )
        for model in RESNETS
    ]
    for model in AUXNETS:
        paper = _paper_name(model)
        key = None if paper in NOT_REPORTED else _key(paper, name)
        rows.append(Row(paper, single(Training(f"{model}_relay", data)), key))
    block = Block("networks, AuxNets by multi-way back-propagation", data, tuple(rows), ks=(1,))
    return Table(f"AuxNet: networks for {name}", (block,))


def svhn(scale: str) -> Table:
    """ResNet-56 and AuxNets on SVHN."""
    data, rows = "drawn" if scale == SMOKE else "svhn", []
    for name, model, plain in NETWORKS_OF_SVHN:
        method = "multi-way" if name.startswith("AuxNet") else "standard BP"
        key = _key(name, "SVHN", method) if plain else None
        rows.append(Row(name, single(Training(model, data)), key))
    for name, _, _ in NETWORKS_OF_SVHN:
        method = "multi-way" if name.startswith("AuxNet") else "standard BP"
        rows.append(Row(name + DAGGER, None, _key(name + DAGGER, "SVHN", method)))
    block = Block("networks, AuxNets by multi-way back-propagation", data, tuple(rows), ks=(1,))
    note = "A dagger marks a variant of the authors that their table does not describe further."
    return Table("AuxNet: networks for SVHN", (block,), (note,))


def selection(scale: str) -> Table:
    """Every output of one run as a model of its own depth."""
    net, data = _compared(scale)
    layers = (15, 25, 35, 45) if scale == PAPER else (11, 15)
    training = Training(f"{net}_relay", data)
    rows = [
        Row(
            f"after layer {layer}",
            single(training, loss=f"aux{layer}_loss"),
            deploy=f"{net}/deploy_aux{layer}.prototxt",
        )
        for layer in layers
    ]
    rows.append(Row("the last", single(training), deploy=f"{net}/deploy.prototxt"))
    block = Block(f"outputs of {net}, multi-way", data, tuple(rows), ks=(1,))
    return Table("AuxNet: model selection", (block,))


def _key(network: str, data: str, method: str = "multi-way") -> Key:
    return Key("auxnet", network, method, data, "test", "whole image")


def _paper_name(model: str) -> str:
    """resnet20: ResNet-20; auxnet-26-2-wide: AuxNet-26-2-wide."""
    return model.replace("resnet", "ResNet-").replace("auxnet", "AuxNet")


TABLES = {
    "auxnet_methods": methods,
    "auxnet_outputs": outputs,
    "auxnet_gamma": gamma,
    "auxnet_cifar10": cifar10,
    "auxnet_cifar100": cifar100,
    "auxnet_svhn": svhn,
    "auxnet_selection": selection,
}
