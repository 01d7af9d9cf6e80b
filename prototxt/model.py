"""From the parts of a model to the text of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable

from google.protobuf import text_format

from caffe.net_spec import NetSpec, Top
from caffe.net_spec import layers as L
from caffe.proto import caffe_pb2
from relaybp.data_layers import DATA_STAGE

from . import parts, settings
from .readme import readme

WRITTEN = "Written by net.py beside this file (make prototxts)."
STAGE_NOTE = 'The stage "standard" leaves out the auxiliary branch: the baseline "standard BP".'
FEED_NOTE = 'The stage "data" reads by Caffe\'s own Data layer, in place of SceneData.'


# adds the trunk to a NetSpec, above the top `data`, hangs the branches on it, returns its scores
Trunk = Callable[[NetSpec, Top, parts.Branches], Top]


@dataclass
class Model:
    """A network, its data, its auxiliary outputs, the reach of its losses and its solver."""

    title: str  # the net's name
    about: str  # the readme's first part: what it is, and each choice made
    expected: str  # the readme's last part: what a run should give, and who says so
    scores: Trunk
    crop_size: int
    batch_size: int  # images per forward pass
    solver: dict[str, Any]  # fields of SolverParameter
    flows: dict[str, str]  # loss: the lowest layer that it trains
    branches: parts.Branches = field(default_factory=dict)
    schedule: str = "RELAY"
    relay_options: str = ""  # further lines of relay.prototxt
    depths: dict[str, int] = field(default_factory=dict)  # loss: how many layers lead to it
    test_branches: bool = False  # whether the branches are outputs too, and tested
    test_batch_size: int = 50
    scale: float = 1  # of the pixels, after the mean is subtracted
    scene: dict[str, Any] | None = None  # SceneData's fields in training; None: Data layers alone
    extra: str = ""  # the text of extra.prototxt, if it is to be there

    def files(self, folder: str) -> dict[str, str]:
        """The text of each file of the model's folder, by file name."""
        return {
            "train_val.prototxt": _text(self.train_val(), WRITTEN, *self._stage_notes()),
            "deploy.prototxt": _text(self.deploy(), WRITTEN),
            **{
                f"deploy_{loss[: -len('_loss')]}.prototxt": _text(self.deploy(loss), WRITTEN)
                for loss in self.flows
                if self.test_branches and loss != "loss"
            },
            "solver.prototxt": self._solver(folder),
            "relay.prototxt": self._relay(),
            **({"extra.prototxt": f"# {WRITTEN}\n{self.extra}"} if self.extra else {}),
            "README.md": readme(self, folder),
        }

    def train_val(self) -> Any:
        """The NetParameter of training and testing, with branches only where they are needed."""
        n, net = NetSpec(), caffe_pb2.NetParameter(name=self.title)
        *others, (n.data, n.label) = self._data_layers()
        parts.loss_and_accuracy(n, self.scores(n, n.data, self.branches))
        for data, label in others:
            one = NetSpec()
            one.data, one.label = data, label
            net.MergeFrom(one.to_proto())
        net.MergeFrom(n.to_proto())
        for layer in net.layer:
            if layer.name.startswith("aux"):
                if not layer.include:
                    layer.include.add(**{} if self.test_branches else parts.TRAIN)
                layer.include[0].not_stage.append("standard")
        return net

    def _data_layers(self) -> list[tuple[Top, Top]]:
        """The tops (data, label) of each data layer: of both phases, of each feed."""
        train, val = ("data/train_lmdb", self.batch_size), ("data/val_lmdb", self.test_batch_size)
        pixels = {"crop_size": self.crop_size, **({} if self.scale == 1 else {"scale": self.scale})}
        mean = {**pixels, "mean_file": "data/mean.binaryproto"}
        if self.scene is None:
            return [
                parts.data(*train, parts.TRAIN, mirror=True, **mean),
                parts.data(*val, parts.TEST, **mean),
            ]
        drawn = {"mirror": True, "color_file": "data/color.txt", **self.scene}
        # NOTE: of raw records, as CIFAR's are, BVLC Caffe would log an error each
        means = {**pixels, "mean_value": settings.MEAN_VALUE, "force_color": True}
        scene, data = {"not_stage": [DATA_STAGE]}, {"stage": [DATA_STAGE]}
        return [
            parts.scene_data(*train, {**parts.TRAIN, **scene}, **mean, **drawn),
            parts.scene_data(*val, {**parts.TEST, **scene}, **mean),
            parts.data(*train, {**parts.TRAIN, **data}, mirror=True, **means),
            parts.data(*val, {**parts.TEST, **data}, **means),
        ]

    def deploy(self, loss: str = "loss") -> Any:
        """The NetParameter of prediction with the scores that go into `loss`.

        It holds what leads to those scores, and nothing that only training needs.
        """
        train_val = self.train_val()
        needed = {layer.bottom[0] for layer in train_val.layer if layer.name == loss}
        n = NetSpec()
        n.data = L.Input(shape={"dim": [1, 3, self.crop_size, self.crop_size]})
        layers = [caffe_pb2.LayerParameter(name="prob", type="Softmax", bottom=needed)]
        layers[0].top.append("prob")
        for layer in reversed(train_val.layer):
            if layer.bottom and needed.intersection(layer.top):
                needed.update(layer.bottom)
                layers.append(_for_prediction(layer))
        layers.extend(n.to_proto().layer)
        return caffe_pb2.NetParameter(name=self.title, layer=reversed(layers))

    def _stage_notes(self) -> list[str]:
        return [STAGE_NOTE] if self.scene is None else [STAGE_NOTE, FEED_NOTE]

    def _solver(self, folder: str) -> str:
        solver = caffe_pb2.SolverParameter(
            net=f"prototxt/{folder}/train_val.prototxt",
            snapshot_prefix=f"runs/{folder}",
            **self.solver,
        )
        return _text(
            solver,
            WRITTEN,
            f"A mini-batch: {self.batch_size} images x iter_size "
            f"{solver.iter_size} = {self.batch_size * solver.iter_size}.",
        )

    def _relay(self) -> str:
        depths = {loss: f" depth: {depth}" for loss, depth in self.depths.items()}
        flows = [
            f'flow {{ loss: "{loss}" to: "{to}"{depths.get(loss, "")} }}\n'
            for loss, to in self.flows.items()
        ]
        return (
            f"# {WRITTEN}\n# to: the lowest layer, or block of layers, that the loss trains.\n"
            f"schedule: {self.schedule}\n" + "".join(flows) + self.relay_options
        )


def _for_prediction(layer: Any) -> Any:
    """A copy of the layer without learning rates, fillers and rules of inclusion."""
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    for name in ("param", "include"):
        copy.ClearField(name)
    for name in ("convolution_param", "inner_product_param"):
        if copy.HasField(name):
            getattr(copy, name).ClearField("weight_filler")
            getattr(copy, name).ClearField("bias_filler")
    return copy


def _text(message: Any, *notes: str) -> str:
    """The message in text format below its notes, fields in the order of Caffe's own schema."""
    head = "".join(f"# {note}\n" for note in notes)
    text = text_format.MessageToString(message, use_index_order=True)
    return head + re.sub(r'( *param_str: )"(.*)"', _readable, text)


def _readable(match: re.Match[str]) -> str:
    """A param_str in single quotes, three fields a line."""
    name, text = match[1], match[2].replace('\\"', '"')
    fields = re.findall(r"\S+: \S+", text)
    rows = [" ".join(fields[index : index + 3]) for index in range(0, len(fields), 3)]
    between = " '\n" + " " * len(name) + "'"
    return f"{name}'{between.join(rows)}'"
