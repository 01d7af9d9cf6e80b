"""The data layers of a net, Caffe's Data or the project's SceneData, behind one set of names.

Where a SceneData layer stands beside a Data layer, the stage "data" chooses the Data layer:

layer { ... type: "Python" include { phase: TRAIN not_stage: "data" } python_param { ... } }
layer { ... type: "Data"   include { phase: TRAIN stage: "data" } data_param { ... } }
"""

from __future__ import annotations

import copy
from typing import Any

from google.protobuf import text_format

from caffe_plain.phases import TEST, TRAIN, State, is_in_net
from caffe_plain.settings import apply_setting

from .cli import spelled
from .errors import RelayError
from .layers.scene_message import read_options

DATA_STAGE = "data"
TYPES = {"scene": "SceneData", "data": "Data"}  # of the feeds
SCENE_MODULE = "relaybp.layers.scene_data"
IN_DATA_PARAM = ("source", "batch_size")
SHARED = (*IN_DATA_PARAM, "crop_size", "mirror", "scale", "mean_file", "mean_value")
NO_MATTER = ("backend", "prefetch", "force_color")  # of a Data layer, to SceneData


class DataLayer:
    """A LayerParameter of type Data or SceneData; its settings have the names of SceneData's.

    `get` and `set` read and change the message itself.
    """

    def __init__(self, layer: Any):
        self.layer, self.name = layer, layer.name
        self.is_scene = feed_of(layer) == "scene"

    def get(self, field: str) -> Any:
        """The value of a setting; None if this type of layer has no such setting."""
        message = self._holder(field)
        return getattr(message, field) if field in message.DESCRIPTOR.fields_by_name else None

    def set(self, field: str, value: Any) -> None:
        """Change a setting; a list replaces what a repeated field holds."""
        message = self._holder(field)
        message.ClearField(field)
        if isinstance(value, list):
            getattr(message, field).extend(value)
        else:
            setattr(message, field, value)
        self._keep(message)

    def apply(self, setting: str, flag: str) -> None:
        """Set "field=value" in a SceneData layer; `flag` names the option in errors.

        A text may be empty: color_file= means none.
        """
        message = self._holder("")
        apply_setting(message, setting, flag, clears_text=True)
        self._keep(message)

    def clear(self, field: str) -> None:
        """Give a setting its default."""
        message = self._holder(field)
        message.ClearField(field)
        self._keep(message)

    def _holder(self, field: str) -> Any:
        """The message that has the field; for SceneData, what its param_str holds."""
        if self.is_scene:
            return read_options(self.layer.python_param.param_str)
        return self.layer.data_param if field in IN_DATA_PARAM else self.layer.transform_param

    def _keep(self, message: Any) -> None:
        if self.is_scene:
            text = text_format.MessageToString(message, as_one_line=True)
            self.layer.python_param.param_str = text.strip()


def feed_of(layer: Any) -> str | None:
    """The feed of a LayerParameter: "scene" of SceneData, "data" of Data, None of another type."""
    if layer.type == "Python" and layer.python_param.layer == "SceneData":
        return "scene"
    return "data" if layer.type == "Data" else None


def data_layers(layers: Any) -> list[DataLayer]:
    """A DataLayer for each of some LayerParameters that is one."""
    return [DataLayer(layer) for layer in layers if feed_of(layer)]


def choose_feed(net: Any, feed: str | None) -> None:
    """Leave in a NetParameter the data layers of one feed, "scene" or "data" (the stage "data").

    None: what stands there without a stage. The layers that stay lose their rule about the stage,
    so that the net needs none. Where a net has no SceneData layers, "scene" puts one with the same
    settings in the place of each Data layer that trains. Raises RelayError for a net without a
    layer of the feed.
    """
    stages = (DATA_STAGE,) if feed == "data" else ()
    states = [State(phase, stage=stages) for phase in (TRAIN, TEST)]
    for index in reversed(range(len(net.layer))):
        layer = net.layer[index]
        if feed_of(layer) and not any(is_in_net(layer, state) for state in states):
            del net.layer[index]
    if feed == "scene":
        _give_scenes(net)
    left = data_layers(net.layer)
    if feed and feed not in [feed_of(layer.layer) for layer in left]:
        raise RelayError(
            f"{spelled('--feed', feed)}: net {net.name!r} has no {TYPES[feed]} layer; leave "
            f"{spelled('--feed')} out"
        )
    for rule in (rule for layer in left for rule in layer.layer.include):
        for stages in (rule.stage, rule.not_stage):
            if DATA_STAGE in stages:
                stages.remove(DATA_STAGE)


def _give_scenes(net: Any) -> None:
    """Where no layer is SceneData, put one in the place of each Data layer that trains."""
    found = data_layers(net.layer)
    if any(layer.is_scene for layer in found):
        return
    for layer in found:
        if is_in_net(layer.layer, State(TRAIN)):
            as_scene(layer.layer)


def as_scene(layer: Any) -> None:
    """Make a SceneData layer of a Data layer, in place, with the same settings.

    Raises RelayError for a setting that SceneData has no equal of.
    """
    given = [
        field.name
        for message in (layer.data_param, layer.transform_param)
        for field, _ in message.ListFields()
    ]
    for name in given:
        if name not in (*SHARED, *NO_MATTER):
            raise RelayError(
                f"{spelled('--feed', 'scene')}: layer {layer.name!r} sets {name}, which SceneData "
                f"does not have; take it out, or leave {spelled('--feed')} out"
            )
    before = DataLayer(copy.deepcopy(layer))
    for name in ("data_param", "transform_param"):
        layer.ClearField(name)
    layer.type = "Python"
    layer.python_param.module, layer.python_param.layer = SCENE_MODULE, TYPES["scene"]
    scene = DataLayer(layer)
    for name in (name for name in SHARED if name in given):
        value = before.get(name)
        scene.set(name, [*value] if name == "mean_value" else value)
