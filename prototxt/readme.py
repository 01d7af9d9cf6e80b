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

The nets look for `train_lmdb`, `val_lmdb` and `mean.binaryproto` in `data/`, or in the folder that
`DATA=` names.

## What to expect

{expected}
"""

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
        expected=model.expected.strip(),
        **_figures("deploy", model.deploy(), 1, 1, 1),
        **_figures("train", model.train_val(), 0, model.batch_size, 3),
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
