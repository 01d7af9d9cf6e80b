"""What a run is: on which data, which model, by which method and settings it was trained.

RUN/run.json holds it, with how far the run got. Results are only ever shown for what they were
measured on, so two runs are the same where their identities are, and `differences` says in words
where they are not. Where a run folder or a database lies is recorded beside the identity and is no
part of it: both may be moved, and named by any path.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import re
import subprocess
from contextlib import closing
from typing import Any

from caffe_plain.database import data_file, open_database
from caffe_plain.files import checksum, write_atomically
from caffe_plain.phases import TEST, TRAIN, layers_of, state_of
from caffe_plain.snapshots import RECORD
from caffe_plain.version import VERSION

from . import batch_change
from .cli import spelled
from .errors import RelayError
from .relay_file import schedule_name
from .run_folder import STANDARD_STAGE

RUNNING, INTERRUPTED, FINISHED = "running", "interrupted", "finished"
WHOLE_BYTES = 1 << 29  # databases up to this size are read whole
SAMPLES = 1000  # records that are read of larger ones
PLACES = ("net", "train_net", "test_net", "snapshot_prefix")  # fields of a solver that are paths
UNTOLD = ("solver_mode", "device_id", "random_seed", "display", "snapshot", "debug_info")
# a path in a layer's text, also within the quoted param_str of a Python layer
PATH = re.compile(r"\b(source|mean_file|color_file|root_folder)\s*:\s*(\\?[\"'])(.*?)\2")
OTHER = {  # where there is only a checksum to compare
    "model": "the net differs",
    "method": "the relay file differs",
    "start": "the weights that it starts from differ",
}
BATCH = re.compile(r"\bbatch_size\s*:\s*(\d+)")


def of_run(
    solver: Any,
    net: Any,
    relay: Any = None,
    extra: Any = None,
    *,
    processes: int = 1,
    precision: str = "fp32",
    start: list[str] | None = None,
) -> dict[str, Any]:
    """The identity of the run that these messages describe.

    solver: SolverParameter; net: NetParameter; relay: RelayParameter or None; extra:
    ExtraParameter or None; processes: how many train together; start: the files of weights or state
    that it starts from. Raises CaffeError where data that the net names is missing.
    """
    train = layers_of(net, state_of(net, TRAIN, stages=solver.train_state.stage))
    stages = solver.test_state[0].stage if solver.test_state else ()
    val = layers_of(net, state_of(net, TEST, stages=stages))
    method = schedule_name(relay) if relay is not None else "JOINT"
    return {
        "data": {"train": of_data(train), "val": of_data(val)},
        "model": {"name": net.name, "net": _digest(_without_places(net))},
        "method": {
            "schedule": "STANDARD" if STANDARD_STAGE in solver.train_state.stage else method,
            "relay": _digest(str(relay)) if relay is not None else None,
        },
        "settings": {**_settings(solver), **_settings(extra), "precision": precision},
        "seed": solver.random_seed if solver.HasField("random_seed") else None,
        "batch": {
            "images": of_batch(solver, net) * processes,
            "per_pass": of_batch(solver, net) // solver.iter_size,
            "processes": processes,
        },
        "start": [of_file(path) for path in start or []],
        "code": {"version": VERSION},
    }


def of_batch(solver: Any, net: Any) -> int:
    """The images of one update of one process, 0 where no data layer tells."""
    layers = layers_of(net, state_of(net, TRAIN, stages=solver.train_state.stage))
    sizes = [int(size) for layer in layers for size in BATCH.findall(str(layer))]
    return sum(sizes[:1]) * solver.iter_size


# ---- data ----------------------------------------------------------------------------------------


def of_data(layers: list[Any]) -> dict[str, Any]:
    """What the data layers among `layers` read: {field: a database or a file}, and the classes."""
    found: dict[str, Any] = {}
    for layer in layers:
        for field, _, path in PATH.findall(str(layer)):
            found[field] = _of_path(layer.name, path)
            classes = os.path.join(os.path.dirname(path), "classes.txt")
            if field == "source" and os.path.isfile(classes):
                found["classes"] = of_file(classes)
    return found


def _of_path(layer: str, path: str) -> Any:
    if os.path.isdir(path) and not os.path.isfile(data_file(path)) and os.listdir(path):
        return "folder"  # of images
    if os.path.isdir(path):
        return of_database(path)
    if os.path.isfile(path):
        return of_file(path)
    raise RelayError(f"layer {layer!r}: {path}: no such file or database")


def of_database(path: str) -> dict[str, Any]:
    """{"records": how many, "index": checksum} of an LMDB or LevelDB.

    The checksum is of all keys, and of the records: of every one in a database of up to 512 MB, of
    a thousand evenly spaced ones in a larger one, so that it takes seconds at most.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(data_file(path))
    stats = [os.stat(os.path.join(folder, name)) for name in os.listdir(folder)]
    size, changed_ns = sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)
    return dict(_of_database(path, size, changed_ns))


@functools.cache
def _of_database(path: str, size: int, changed_ns: int) -> dict[str, Any]:
    keys, values = hashlib.sha256(), hashlib.sha256()
    with closing(open_database(path)) as environment, environment.begin(buffers=True) as read:
        records = environment.stat()["entries"]
        every = 1 if size <= WHOLE_BYTES else max(1, records // SAMPLES)
        with read.cursor() as cursor:
            for number, key in enumerate(cursor.iternext(values=False)):
                keys.update(b"%d " % len(key))
                keys.update(key)
                if number % every == 0:
                    values.update(cursor.value())
    return {"records": records, "index": f"{keys.hexdigest()[:16]}-{values.hexdigest()[:16]}"}


def of_file(path: str) -> str:
    """The checksum of a file's bytes, short."""
    return checksum(path)[:16]


# ---- model, settings, code -----------------------------------------------------------------------


def _without_places(net: Any) -> str:
    """The net's text without paths, and without batch sizes, which stand by themselves."""
    return BATCH.sub("batch_size", PATH.sub(r"\1", str(net)))


def _settings(message: Any) -> dict[str, str]:
    """{field: value as text} of what decides about the training; None has none."""
    found = {}
    for field, value in message.ListFields() if message is not None else ():
        if field.name in PLACES or field.name in UNTOLD:
            continue
        many = hasattr(value, "__len__") and not isinstance(value, str)
        found[field.name] = ",".join(map(_plain, value)) if many else _plain(value)
    return found


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def commit() -> str | None:
    """The git commit of this checkout, with "-dirty" where files differ; None outside of one."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(os.path.join(root, ".git")):
        return None
    command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# ---- differences ---------------------------------------------------------------------------------


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """One line for each thing in which the run that was found is not the one that is wanted."""
    mine, other = flat(found), flat(wanted)
    lines = []
    for name in sorted({*mine, *other}):
        one, two = mine.get(name), other.get(name)
        if one != two and not _follows(name, mine, other):
            lines.append(_line(name, one, two))
    return lines


def flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    """{"part.field": value} of an identity, or of any dicts in dicts."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{path}{name}."))
        else:
            found[f"{path}{name}"] = value
    return found


def _follows(name: str, mine: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether another number of records already says that the index differs."""
    records = name.replace(".index", ".records")
    return name != records and mine.get(records) != other.get(records)


def _line(name: str, found: Any, wanted: Any) -> str:
    part, *rest = name.split(".")
    if part == "data":
        phase, kind = {"train": "training", "val": "validation"}[rest[0]], rest[-1]
        if kind == "records":
            return f"data: {_number(found)} {phase} records instead of {_number(wanted)}"
        if kind == "index":
            return f"data: as many {phase} records, but other ones"
        return f"data: not the same {kind.replace('_', ' ')} of the {phase} images"
    if name in ("model.net", "method.relay", "start"):
        return f"{part}: {OTHER[part]}"
    return f"{part}: {' '.join([*rest[-1:], _number(found)])} instead of {_number(wanted)}"


def _number(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


# ---- run.json ------------------------------------------------------------------------------------


def read(run: str) -> dict[str, Any] | None:
    """What RUN/run.json holds: identity, places, commit, state, iteration; None without one."""
    path = os.path.join(run, RECORD)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        record["identity"], record["state"], record["iteration"]
    except (ValueError, KeyError, TypeError) as error:
        raise RelayError(f"{path}: not the record of a run ({error!r}); move {run} away") from None
    return record


def checksum_of(run: str) -> str:
    """Eight digits that stand for the identity of the run in a folder; "" where there is none."""
    record = read(run)
    return _digest(json.dumps(record["identity"], sort_keys=True))[:8] if record else ""


def write(run: str, record: dict[str, Any]) -> None:
    """Write RUN/run.json whole or not at all."""
    write_atomically(os.path.join(run, RECORD), json.dumps(record, indent=1) + "\n")


def begin(
    run: str,
    identity: dict[str, Any],
    net: Any,
    iteration: int,
    images: dict[str, Any] | None = None,
) -> None:
    """Record that a run of this identity trains from `iteration` on.

    images: how the images were prepared that it is tested on, see evaluation/preparation.py.
    """
    before = read(run)
    if before:
        batch = batch_change.record(before["identity"]["batch"], identity["batch"], iteration)
        identity = {**identity, "batch": batch}
    places = {path for layer in net.layer for _, _, path in PATH.findall(str(layer))}
    record = {
        "identity": identity,
        "data": sorted(os.path.abspath(path) for path in places),
        "images": images,
        "commit": commit(),
        "state": RUNNING,
        "iteration": iteration,
    }
    write(run, record)


def end(run: str, state: str, iteration: int) -> None:
    """Record how a run ended: FINISHED or INTERRUPTED, after `iteration` iterations."""
    record = read(run)
    if record is not None:
        write(run, {**record, "state": state, "iteration": iteration})


def check(run: str, wanted: dict[str, Any], goes_on: bool = False) -> dict[str, Any] | None:
    """The record of the run in folder `run`, None where there is none.

    goes_on: whether the run may go on in another number of processes, see batch_change. Raises
    RelayError where the run there is another one than `wanted`, with every difference, and where
    there are snapshots of which nothing says what they were trained on.
    """
    record = read(run)
    if record is None:
        if os.path.isdir(run) and any("_iter_" in name for name in os.listdir(run)):
            raise RelayError(
                f"{run}: there are snapshots, but no {RECORD} that says what they were trained on; "
                "move the folder away, or choose another"
            )
        return None
    mine = record["identity"]
    if goes_on and batch_change.is_allowed(mine["batch"], wanted["batch"]):
        wanted = {**wanted, "batch": mine["batch"]}
    found = differences(mine, wanted)
    if found:
        raise RelayError(
            f"{run} holds another run: what it has, instead of what is asked for, is\n  "
            + "\n  ".join(found)
            + f"\nmove the folder away, or choose another{_going_on_from(run, record)}"
        )
    return record


def _going_on_from(run: str, record: dict[str, Any]) -> str:
    """How to train on from a run's last snapshot with other settings; "" where there is none."""
    name = f"*_iter_{record['iteration']}.solverstate"
    states = sorted(glob.glob(os.path.join(glob.escape(run), name)))
    if not states:
        return ""
    words = f"{spelled('--snapshot', states[-1])} {spelled('--out', 'runs/new')}"
    return f"; {words} goes on from it in a folder of its own"
