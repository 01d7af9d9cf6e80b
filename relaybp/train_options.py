"""The options of `relay train`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence

from .cli import Parser
from .data_layers import TYPES
from .recovery import POLICIES, STOP

DESCRIPTION = "Train a model by name, or any solver, with or without a relay file."


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of `relay train`; words: those of the command line."""
    parser = Parser("relay train", description=DESCRIPTION)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a name below prototxt/, as `make models` lists")
    what.add_argument("--solver", help="a solver.prototxt of your own")
    parser.add_argument(
        "--relay",
        help="a relay.prototxt for --solver; with --model MODEL_relay, in place of the model's own",
    )
    parser.add_argument(
        "--extra",
        help="an extra.prototxt for --solver: plateau, cosine, warm-up, early "
        "stopping, averaged weights, label smoothing",
    )
    parser.add_argument(
        "--data", help="folder with train_lmdb, val_lmdb, mean.binaryproto, color.txt"
    )
    parser.add_argument(
        "--feed",
        choices=tuple(TYPES),
        help="data: Caffe's own Data layer, without class-aware sampling and colour shift; scene: "
        "the training's Data layer becomes a SceneData layer, for --scene class_aware=true",
    )
    parser.add_argument(
        "--scene",
        action="append",
        type=setting,
        default=[],
        metavar="FIELD=VALUE",
        help="another value for a field of the SceneData layers: class_aware=false, color_file=",
    )
    parser.add_argument(
        "--profile", choices=("short", "full"), help="short without --data, else full"
    )
    parser.add_argument("--batch", type=positive, help="images per forward pass")
    parser.add_argument(
        "--crop",
        type=positive,
        help="pixels a side of the crop; a mean image of another size gives its channels' means",
    )
    parser.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="FIELD=VALUE",
        help="another value for a field of the solver, or of extra.prototxt: lr_policy=plateau",
    )
    parser.add_argument("--weights", help="start from these .caffemodel files (comma-separated)")
    parser.add_argument(
        "--snapshot",
        metavar="auto|FOLDER|FILE",
        help="continue from a .solverstate, or from the newest whole snapshot of a run's folder; "
        "auto: of --out, from the beginning where there is none",
    )
    parser.add_argument("--gpu", default="auto", help="auto, none, a GPU's number, or several: 0,1")
    parser.add_argument("--precision", default="fp32", help="fp32, tf32 or bf16")
    parser.add_argument(
        "--fixed-ways",
        action="store_true",
        help="the same bits on machines of one kind, instead of the fastest ways on each",
    )
    parser.add_argument(
        "--probe",
        metavar="N",
        help="every N iterations, or every N%% of max_iter (20%%), measure every flow's gradients "
        "(tools/plot.py)",
    )
    parser.add_argument("--no-fuse", action="store_true", help="one BackwardFromTo per range")
    parser.add_argument(
        "--default-allocator",
        action="store_true",
        help="leave the C library's memory allocator as it is",
    )
    parser.add_argument("--out", help="the folder of the run")
    parser.add_argument(
        "--no-next", action="store_true", help="leave out, in the end, what to type next"
    )
    add_unwatched(parser)
    args = parser.parse_args(words)
    if args.model == "":
        parser.error("--model is empty: name one that `make models` or `relay models` lists")
    if args.gpu == "":
        parser.error("--gpu is empty: auto, none (the CPU), a GPU's number, or several")
    if args.probe and not re.fullmatch(r"[1-9][0-9]*%?", args.probe):
        parser.error(f"--probe {args.probe}: expected a number of iterations, as in 500, or 20%")
    return args


def add_unwatched(parser: argparse.ArgumentParser) -> None:
    """The options for a run that nobody watches."""
    parser.add_argument(
        "--on-nan",
        choices=POLICIES,
        default=STOP,
        help="where a loss or gradient is not finite: stop, skip the batch, or roll back to the "
        "newest snapshot and go on with other records",
    )
    parser.add_argument("--keep", type=positive, metavar="N", help="delete all but N snapshots")
    parser.add_argument(
        "--keep-best", action="store_true", help="with --keep: and the one that tested best"
    )
    parser.add_argument(
        "--keep-every", type=positive, metavar="N", help="with --keep: and every N iterations'"
    )
    parser.add_argument(
        "--time-limit",
        type=seconds,
        default=math.inf,
        metavar="[D-]H:MM:SS",
        help="take a snapshot and stop then, with status 152",
    )


def setting(text: str) -> str:
    """A FIELD=VALUE."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIELD=VALUE, as in base_lr=0.1")
    return text


def positive(text: str) -> int:
    """A number of at least 1."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """The seconds of [days-]hours:minutes:seconds."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected [days-]hours:minutes:seconds")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + rest
