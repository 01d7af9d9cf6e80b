"""What a result depends on: the protocol, the weights, the net and the data, by their checksums."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from typing import Any

from caffe_plain.class_names import read_class_names
from caffe_plain.files import checksum
from caffe_plain.phases import TEST, layers_of, state_of

from .. import run_folder
from ..errors import RelayError
from .protocol import Protocol
from .validation_set import Feed, contents, test_feed

VERSION = 2  # of how results are measured and kept


def identify(pb: Any, net_param: Any, weights: str, protocol: Protocol) -> dict[str, Any]:
    """What a result depends on: protocol, weights, net, data."""
    feed = test_feed(net_param)
    found = contents(feed.source)
    records = len(found.names)
    protocol = protocol.of(records)
    return {
        "protocol": protocol.name,
        "weights": {"file": os.path.basename(weights), "sha256": checksum(weights)},
        "net": _net_checksum(net_param),
        "data": {
            "source": feed.source,
            "records": records,
            "sha256": found.sha256,
            "mean": checksum(feed.mean_file) if feed.mean_file else "",
            "classes": hashlib.sha256("\n".join(class_names(feed)).encode()).hexdigest(),
        },
        "images": protocol.limit or records,
        "whole": protocol.limit is None,
        "members": [],
    }


def newest_snapshot(run: str) -> str:
    """The weights of the highest iteration in a run's folder."""
    names = os.path.join(glob.escape(run), "*_iter_*.caffemodel")
    found = glob.glob(names) + glob.glob(names + ".h5")
    if not found:
        raise RelayError(f"{run}: no snapshot (*_iter_N.caffemodel) there; give --weights")
    return max(found, key=lambda path: int(re.findall(r"_iter_(\d+)", path)[-1]))


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
        + [part["data"][name] for name in ("records", "sha256", "mean", "classes")]
        for part in (identity, *identity["members"])
    ]
    digest = hashlib.sha256(json.dumps([VERSION, key]).encode()).hexdigest()
    return f"{identity['protocol']}-{digest[:12]}.json"
