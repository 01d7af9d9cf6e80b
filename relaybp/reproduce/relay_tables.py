"""The tables of Relay Backpropagation (Shen, Lin and Huang, ECCV 2016)."""

from __future__ import annotations

from .data import TAILS
from .scales import CIFAR, PAPER, SMOKE, Networks, networks
from .spec import Block, Key, Row, Table, Test, Training, single

METHODS = (("standard BP", ""), ("multi-loss + standard BP", "_multiloss"), ("Relay BP", "_relay"))
NAMES = {suffix: method for method, suffix in METHODS}
IMAGENET, PLACES2 = "ImageNet 2012", "Places2 challenge"
TEAMS = ("Ntu_rose", "Trimps-Soushen", "Qualcomm research", "SIAT_MMLAB", "WM (model A)")
TEST_SERVER = (
    "The test sets' labels are not public: for these rows, write the challenge's submission file "
    "with `relay evaluate` and send it to its server."
)
PROBED = ("--probe", "20%")  # for Figure 1
CLASS_AWARE = ("--scene", "shuffle=false", "--scene", "class_aware=true")
PLAIN_SAMPLING = ("--scene", "class_aware=false", "--scene", "shuffle=true")
SAMPLED = {  # model, data, arguments for both ways of sampling
    PAPER: (("model_a", "places2", ()),),
    CIFAR: tuple(("resnet20", data, ()) for data in TAILS),
    SMOKE: (("resnet50", "drawn", ("--crop", "36")),),
}


def table1(scale: str) -> Table:
    """Deeper plain networks by standard BP; CIFAR-sized ones by Relay BP, too."""
    net = networks(scale)
    blocks = tuple(
        Block(
            "plain networks" if scale == PAPER else f"plain networks, for {paper}",
            data,
            tuple(
                _plain(model, name, suffix, data, paper, net)
                for suffix in net.plain_methods
                for model, name in depths
            ),
        )
        for (data, depths), paper in zip(net.plain, (IMAGENET, PLACES2))
    )
    return Table("Table 1: deeper plain networks, single model", blocks)


def _plain(model: str, name: str, suffix: str, data: str, paper: str, net: Networks) -> Row:
    tested = single(Training(model + suffix, data, words=PROBED), net.dense)
    if suffix:
        return Row(f"{model}, {NAMES[suffix]}", tested, over=_for(model, name))
    reported = Key("1", name, "standard BP", paper, "val", "single model") if name else None
    return Row(_for(model, name), tested, reported)


def table2(scale: str) -> Table:
    """The layers of models A and B, and which loss trains them; nothing is trained."""
    net = networks(scale)
    listed = tuple((model, _for(model, f"Model {x}")) for model, x in ((net.a, "A"), (net.b, "B")))
    return Table("Table 2: the networks", listed=listed)


def table3(scale: str) -> Table:
    """Three methods on models A and B, a single centre crop."""
    return Table("Table 3: a single crop", _models(networks(scale), "3", "single crop", "crop"))


def table4(scale: str) -> Table:
    """Three methods on models A and B, tested at all positions and several scales."""
    net = networks(scale)
    return Table("Table 4: single models", _models(net, "4", "single model", net.dense))


def _models(net: Networks, table: str, protocol: str, tested: str) -> tuple[Block, ...]:
    return tuple(
        Block(
            _for(model, name),
            net.places,
            tuple(
                Row(
                    method,
                    single(Training(model + suffix, net.places), tested),
                    Key(table, name, method, PLACES2, "val", protocol),
                    over=METHODS[0][0] if suffix else "",
                )
                for method, suffix in METHODS
            ),
        )
        for model, name in ((net.a, "Model A"), (net.b, "Model B"))
    )


def table5(scale: str) -> Table:
    """The ensemble of five models, beside the teams of the challenge."""
    net = networks(scale)
    members = tuple(
        (Training(f"{model}_relay", net.places), protocol) for model, protocol in net.members
    )
    reported = [Key("4", f"Model {x}", "Relay BP", PLACES2, "val", "single model") for x in "AB"]
    rows = [
        Row(f"{model} ({protocol})", single(training, protocol), key)
        for (model, _), (training, protocol), key in zip(
            net.members, members, [*reported, None, None, None]
        )
    ]
    five = Key("5", "WM (model ensemble)", "Relay BP", PLACES2, "val", "ensemble of 5")
    rows.append(Row("ensemble of these five", Test(members), five))
    server = tuple(
        Row(team, None, Key("5", team, "", PLACES2, "test", "test server"))
        for team in (*TEAMS, "WM (model B)", "WM (model ensemble)")
    )
    blocks = Block("Relay BP, single models and all together", net.places, tuple(rows))
    return Table(
        "Table 5: five models and their ensemble",
        (blocks, Block("teams, test server", "", server, ks=(5,))),
        (TEST_SERVER,),
    )


def table6(scale: str) -> Table:
    """Residual and Inception networks with Relay BP, single model."""
    blocks = tuple(_deep(*network) for network in networks(scale).deep)
    return Table("Table 6: very deep networks, single model", blocks, (TEST_SERVER,))


def _deep(model: str, name: str, protocol: str, data: str) -> Block:
    def key(method: str, split: str = "val") -> Key:
        return Key("6", name, method, IMAGENET, split, "single model")

    again, relay = Training(model, data), Training(f"{model}_relay", data)
    base = "standard BP (re-implemented)"
    rows = (
        Row("standard BP (reported)", None, key("standard BP (reported)")),
        Row(base, single(again, protocol), key(base)),
        Row("Relay BP", single(relay, protocol), key("Relay BP"), over=base),
        Row("Relay BP, test set", None, key("Relay BP", "test")),
    )
    return Block(_for(model, name), data, rows)


def sampling(scale: str) -> Table:
    """Class-aware sampling against plain shuffling, standard BP."""
    blocks = tuple(_sampling(*chosen) for chosen in SAMPLED[scale])
    note = "Shen et al. report no table; they put class-aware sampling at about 0.6 points."
    return Table("Sampling: class-aware against plain", blocks, (note,))


def _sampling(model: str, data: str, words: tuple[str, ...]) -> Block:
    rows = (
        Row("plain", single(Training(model, data, "plain", (*words, *PLAIN_SAMPLING)))),
        Row(
            "class-aware",
            single(Training(model, data, "class-aware", (*words, *CLASS_AWARE))),
            over="plain",
        ),
    )
    return Block(model, data, rows)


def _for(model: str, name: str) -> str:
    """The paper's name of a network, or what stands in its place, if it does."""
    own = name.lower().replace("-", "").replace(" ", "_")
    same = model.replace("_", "").replace("-", "") == own.replace("_", "")
    return name if same else f"{model}, in place of {name}" if name else model


TABLES = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "sampling": sampling,
}
