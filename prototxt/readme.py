"""The readme of a model: prose from its net.py around figures counted from its nets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import count

if TYPE_CHECKING:
    from .model import Model

PAGE = """# {title}

{about}

## Methods, all from one train_val.prototxt

| `make train MODEL=` | method |
|---|---|
| `{base}` | standard BP: stage `standard`, no auxiliary output |
| `{base}_multiloss` | {joint} |
| `{base}_relay` | {schedule} |

## Size

| | deploy | training net |
|---|---|---|
| layers with weights | {deploy_depth} | {train_depth} |
| learned parameters | {deploy_parameters:,} | {train_parameters:,} |
| multiply-adds per image, forward | {deploy_macs:.3g} G | {train_macs:.3g} G |
| memory of parameters | {deploy_mb:.3g} MB | {train_mb:.3g} MB |
| memory of blobs per image | {deploy_blobs:.3g} MB | {train_blobs:.3g} MB |

Layers with weights are convolutions and fully connected layers, shortcuts included. Memory is
Caffe's in fp32: a parameter has data, and in training diff and momentum too; a blob has data and
diff. A training step costs about three times the forward pass.

{data}

## What to expect

{expected}
"""

LMDBS = """\
The nets look for `train_lmdb`, `val_lmdb` and `mean.binaryproto` in `data/`, or in the folder that
`DATA=` names."""

SCENES = """\
## Data

The nets look for `train_lmdb`, `val_lmdb`, `mean.binaryproto` and `color.txt` in `data/`, or in the
folder that `DATA=` names: images whose shorter side is {short_side}, the mean image of their
central {crop}x{crop}, and the components of their colours.
[data_prep/](../../data_prep/README.md#imagenet) makes them.

In training a `SceneData` layer

- takes {order};
- cuts {cut};
- mirrors half of the images;
- subtracts the mean pixel by pixel, and shifts the colours as AlexNet does (`SCENE=color_file=`
  leaves the shift out).

The TEST phase takes the images in their order and their central {crop}x{crop}.

With `FEED=data` Caffe's own `Data` layer reads, in the order of the database: random crops and
mirrors. It takes a mean image only of the size of its records, and therefore subtracts the mean
of each channel."""

SCHEDULES = {
    "RELAY": (
        "multi-loss + standard BP: every loss reaches the bottom",
        "Relay BP: each loss reaches the layer that `relay.prototxt` names",
    ),
    "MULTI_WAY": (
        "joint: one backward pass of the weighted sum of the losses",
        "the schedule of `relay.prototxt`, `MULTI_WAY` (or `PAIR_WISE`)",
    ),
}


def readme(model: Model, folder: str) -> str:
    """The text of the folder's README.md."""
    base = folder.replace("_relay", "")
    joint, schedule = SCHEDULES[model.schedule]
    return PAGE.format(
        title=model.title,
        about=model.about.strip(),
        base=base,
        joint=joint,
        schedule=schedule,
        data=LMDBS if model.scene is None else _scenes(model),
        expected=model.expected.strip(),
        **_figures("deploy", model.deploy(), 1, 1, 1),
        **_figures("train", model.train_val(), 0, model.batch_size, 3),
    )


def _scenes(model: Model) -> str:
    """What the SceneData layers of the model read, and what they do in training."""
    scene, crop = model.scene or {}, model.crop_size
    order = "every image once an epoch, in another order each time"
    if scene.get("class_aware"):
        order = (
            "the next class and of it the next image; `SCENE=class_aware=false` takes the\n"
            "  images in the order of the database"
        )
    cut = f"a random {crop}x{crop}"
    if "short_side_min" in scene:
        cut += " of the image resized to a shorter side of {short_side_min} to {short_side_max}"
    if "area_min" in scene:
        cut = (
            "a window of {area_min:.0%} to 100% of the area and of aspect 3/4 to 4/3, as\n"
            f"  GoogLeNet does, and resizes it to {crop}x{crop}"
        )
    return SCENES.format(
        short_side=round(crop * 256 / 224), crop=crop, order=order, cut=cut.format(**scene)
    )


def _figures(prefix: str, net: Any, phase: int, batch_size: int, copies: int) -> dict[str, float]:
    rows = count.walk(net, phase)
    parameters = count.parameters(rows)
    return {
        f"{prefix}_depth": sum(row.multiply_adds > 0 for row in rows),
        f"{prefix}_parameters": parameters,
        f"{prefix}_macs": count.multiply_adds(rows) / batch_size / 1e9,
        f"{prefix}_mb": 4 * copies * parameters / 1e6,
        f"{prefix}_blobs": count.blob_bytes(net, rows) / batch_size / 1e6,
    }
