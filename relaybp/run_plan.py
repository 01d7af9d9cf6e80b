"""From the arguments of `relay train` to the solver, net and relay file of a run."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from dataclasses import dataclass
from typing import Any

from caffe_plain.extra import ExtraParameter
from caffe_plain.phases import layers_of, state_of

from . import identity, models, relay_file, run_folder
from .cli import spelled
from .data_layers import choose_feed
from .errors import RelayError
from .image_data import data_folder, make_by

DEMO = os.path.join("data", "demo")
SHORT = [
    "max_iter=120",
    "base_lr=0.002",
    "lr_policy=fixed",
    "iter_size=1",
    "display=5",
    "test_interval=60",
    "test_initialization=false",
    "snapshot=60",
]
SHORT_BATCH, SHORT_CROP = 16, 112
OF_MODELS = ("data", "feed", "scene", "profile", "batch", "crop", "set")  # options
LEAST_CROP = {"inception_v3": 267}  # whose auxiliary head asks for more than SHORT_CROP
DEMO_SIZE = 128


@dataclass
class Plan:
    """A run before it starts; nothing of it is written yet.

    name: for people; run: its folder; solver, net, extra, relay: messages, relay may be None; path,
    extra_path, relay_path: the files that will hold them; of_model: whether `save` has to write
    these files; notes: lines to print.
    """

    name: str
    run: str
    solver: Any
    net: Any
    extra: Any
    relay: Any
    path: str
    extra_path: str | None
    relay_path: str | None
    of_model: bool
    notes: tuple[str, ...] = ()

    def save(self) -> None:
        """Make the run's folder, with the files of a model."""
        os.makedirs(self.run, exist_ok=True)
        if self.of_model:
            run_folder.save(self.run, self.solver, self.net, self.extra, self.relay)

    def identity(self, args: argparse.Namespace, processes: int = 1) -> dict[str, Any]:
        """What the run is; args: those of `relay train` that the plan was made from."""
        start = args.weights.split(",") if args.weights else []
        if args.snapshot and not self.has_made(args.snapshot):
            start.append(args.snapshot)
        for path in start:
            if not os.path.exists(path):
                raise RelayError(f"{path}: no such file to start from")
        return identity.of_run(
            self.solver,
            self.net,
            self.relay,
            self.extra,
            processes=processes,
            precision=args.precision,
            start=start,
        )

    def has_made(self, state: str) -> bool:
        """Whether a .solverstate is a snapshot of this very run."""
        return os.path.realpath(state).startswith(
            os.path.realpath(self.solver.snapshot_prefix) + "_iter_"
        )


def make_plan(pb: Any, args: argparse.Namespace, draws: bool = True) -> Plan:
    """The plan of a run; draws: whether the demo scenes may be drawn where no data is named.

    Raises RelayError where the model, a setting or the data cannot be used.
    """
    name, run = name_of(args), args.out or default_folder(args)
    if args.solver:
        _refuse_unused(args)
    elif args.extra:
        raise RelayError(
            f"--extra {args.extra}: for a --solver; a --model takes --set lr_policy=..."
        )
    return (_of_solver if args.solver else _of_model)(pb, args, name, run, draws)


def name_of(args: argparse.Namespace) -> str:
    """What a run is called: as its model or its solver's file."""
    return args.model or os.path.splitext(os.path.basename(args.solver))[0]


def default_folder(args: argparse.Namespace) -> str:
    """The folder of a run that is given none."""
    return os.path.join("runs", f"{name_of(args)}-{time.strftime('%Y%m%d-%H%M%S')}")


def own_folder(run: str) -> str:
    """Make a folder of this name, or of the next one that nobody has; return its name."""
    names = itertools.chain([run], (f"{run}-{number}" for number in itertools.count(2)))
    return next(name for name in names if _is_new(name))


def _is_new(folder: str) -> bool:
    try:
        os.makedirs(folder)
    except FileExistsError:
        return False
    return True


def _refuse_unused(args: argparse.Namespace) -> None:
    """Refuse options that only change a model's files; those of --solver are the user's own."""
    for name in OF_MODELS:
        if getattr(args, name):
            raise RelayError(
                f"--{name}: it changes the files of a --model, and {args.solver} and the net "
                f"that it names are used as they are; write it there"
            )


def _of_solver(pb: Any, args: argparse.Namespace, name: str, run: str, draws: bool) -> Plan:
    """The user's own files, which stay where they are; snapshots go to the run's folder."""
    solver = run_folder.read(args.solver, pb.SolverParameter())
    stem = os.path.basename(solver.snapshot_prefix) or name
    solver.snapshot_prefix = os.path.join(run, stem)
    net = _net_of(pb, solver, args.solver)
    relay = relay_file.read_relay(args.relay) if args.relay else None
    extra = run_folder.read_extra(args.extra)
    return Plan(
        name, run, solver, net, extra, relay, args.solver, args.extra, args.relay, of_model=False
    )


def _net_of(pb: Any, solver: Any, path: str) -> Any:
    """The NetParameter that a solver trains and tests; of two nets one, with a phase each."""
    if solver.net:
        return run_folder.read(solver.net, pb.NetParameter())
    if solver.HasField("net_param"):
        return solver.net_param
    if not (solver.train_net or solver.HasField("train_net_param")):
        raise RelayError(f"{path}: names no net to train: expected net: or train_net:")
    train, tests = solver.train_net_param, solver.test_net_param
    if solver.train_net:
        train = run_folder.read(solver.train_net, pb.NetParameter())
    test = next(iter(tests), None)
    if test is None and solver.test_net:
        test = run_folder.read(solver.test_net[0], pb.NetParameter())
    return train if test is None else joined(pb, train, test)


def joined(pb: Any, train: Any, test: Any) -> Any:
    """One NetParameter with the layers of two, which their phases tell apart."""
    net = pb.NetParameter(name=train.name)
    for phase, source in ((pb.TEST, test), (pb.TRAIN, train)):  # what is said of a name: training's
        for layer in layers_of(source, state_of(source, phase)):
            copy = net.layer.add()
            copy.CopyFrom(layer)
            copy.ClearField("include")
            copy.ClearField("exclude")
            copy.include.add(phase=phase)
    return net


def _of_model(pb: Any, args: argparse.Namespace, name: str, run: str, draws: bool) -> Plan:
    """A model's files, on the given data and with the given settings."""
    folder, method = models.find(name)
    if args.relay and method != "RELAY":
        raise RelayError(f"--relay {args.relay}: model {name} has no flows; name it with _relay")
    relay, relay_path = None, None
    if method == "RELAY":
        relay_path = os.path.join(run, "relay.prototxt")
        relay = relay_file.read_relay(args.relay or os.path.join(folder, "relay.prototxt"))
    settings, batch, crop, notes = list(args.set), args.batch, args.crop, []
    if (args.profile or ("full" if args.data else "short")) == "short":
        settings = SHORT + settings
        batch, crop = batch or SHORT_BATCH, crop or _short_crop(folder, args)
        notes = [_short_note(settings, batch, crop, args.data)]
    for setting in settings:  # a wrong one is said before any image is drawn or converted
        run_folder.set_solver(pb.SolverParameter(), ExtraParameter(), setting)
    data = _data_folder(pb, folder, args, crop, draws) if args.data else _demo(draws)
    solver, net, extra, more = run_folder.compose(
        pb, folder, method, run, data, settings, batch, crop, args.feed, args.scene
    )
    path = os.path.join(run, "solver.prototxt")
    extra_path = os.path.join(run, run_folder.EXTRA) if extra.ListFields() else None
    return Plan(
        name, run, solver, net, extra, relay, path, extra_path, relay_path, True, (*notes, *more)
    )


def _data_folder(
    pb: Any, model: str, args: argparse.Namespace, crop: int | None, makes: bool
) -> str:
    """The data folder that --data names, made of its images where it is none."""
    net = run_folder.read(os.path.join(model, "train_val.prototxt"), pb.NetParameter())
    choose_feed(net, args.feed)
    return data_folder(args.data, net, crop, makes)


def _short_crop(folder: str, args: argparse.Namespace) -> int:
    least = LEAST_CROP.get(os.path.basename(folder), SHORT_CROP)
    if not args.data and least > DEMO_SIZE:
        raise RelayError(
            f"{args.model} needs images of {least} pixels and more, and the demo scenes have "
            f"{DEMO_SIZE}; give {spelled('--data', '/path/to/lmdbs')}"
        )
    return least


def _short_note(settings: list[str], batch: int, crop: int, data: str | None) -> str:
    """One line that says what the short profile is and how to leave it."""
    iterations = dict(setting.split("=", 1) for setting in settings)["max_iter"]
    return (
        f"Short profile: {iterations} iterations of {batch} images at {crop}x{crop} on "
        f"{data or 'the demo scenes'}; {spelled('--profile', 'full')} runs the whole schedule"
        + ("." if data else f", {spelled('--data', 'folder')} your images.")
    )


def _demo(draws: bool) -> str:
    """The folder of the demo scenes, drawn unless they exist."""
    if draws and not os.path.exists(os.path.join(DEMO, "color.txt")):
        print(f"Drawing the demo scenes into {DEMO}", flush=True)
        make_by("demo_scenes", DEMO)
    return DEMO
