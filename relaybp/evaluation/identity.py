"""What a result depends on: the protocol, the weights, the net and the data, by their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from caffe_plain.class_names import read_class_names
from caffe_plain.files import checksum
from caffe_plain.phases import TEST, layers_of, state_of

from .. import run_folder
from ..data_layers import data_layers
from ..data_prep.colour_order import check_colour_orders
from ..identity import of_database
from .protocol import Protocol
from .validation_set import Feed, test_feed

FP32 = "fp32"
VERSION = 2  # of how results are measured and kept


def identify(
    pb: Any, net_param: Any, weights: str, protocol: Protocol, precision: str = FP32
) -> dict[str, Any]:
    """What a result depends on: protocol, precision, weights, net, data.

    Raises CaffeError where the net was trained on another order of colours than it is tested on.
    """
    feed = test_feed(net_param)
    sources = [layer.get("source") for layer in data_layers(net_param.layer)]
    check_colour_orders(source for source in sources if os.path.exists(source))
    database = of_database(feed.source)
    records = database["records"]
    protocol = protocol.of(records)
    return {
        "protocol": protocol.name,
        "precision": precision,
        "weights": {"file": os.path.basename(weights), "sha256": checksum(weights)},
        "net": _net_checksum(net_param),
        "data": {
            "source": feed.source,
            **database,
            "mean": checksum(feed.mean_file) if feed.mean_file else "",
            "classes": _text_checksum("\n".join(class_names(feed))),
        },
        "images": protocol.limit or records,
        "whole": protocol.limit is None,
        "members": [],
    }


def net_of_run(pb: Any, run: str) -> Any:
    """The NetParameter that a run's solver names, with the stages of the solver's tests."""
    solver = run_folder.read(os.path.join(run, "solver.prototxt"), pb.SolverParameter())
    net_param = run_folder.read(solver.net, pb.NetParameter())
    if solver.test_state:
        net_param.state.stage.extend(solver.test_state[0].stage)
    return net_param


def class_names(feed: Feed) -> list[str]:
    """The lines of the classes.txt beside a database, none without that file."""
    path = os.path.join(os.path.dirname(feed.source), "classes.txt")
    if not os.path.exists(path):
        return []
    return read_class_names(path)


def _text_checksum(text: str) -> str:
    """Names of classes are those of folders, so their bytes need not be UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _net_checksum(net_param: Any) -> str:
    """Of the layers of the TEST phase; of the data layer only what it does to the images."""
    feed, digest = test_feed(net_param), hashlib.sha256()
    for layer in layers_of(net_param, state_of(net_param, TEST)):
        normalised = repr((feed.crop, feed.mean_values, feed.scale))
        digest.update((normalised if layer == feed.layer else str(layer)).encode())
    return digest.hexdigest()


def file_name(identity: dict[str, Any]) -> str:
    """The file that keeps a result of that identity; where things lie does not count."""
    key = [
        [part["protocol"], part["weights"].get("sha256"), part.get("net")]
        + [part["data"][name] for name in ("records", "index", "mean", "classes")]
        + [name for name in (part.get("precision", FP32),) if name != FP32]
        for part in (identity, *identity["members"])
    ]
    digest = hashlib.sha256(json.dumps([VERSION, key]).encode()).hexdigest()
    return f"{identity['protocol']}-{digest[:12]}.json"
