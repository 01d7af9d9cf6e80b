"""The `relay` command, also `python -m relaybp`: each subcommand is a module in commands/."""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from types import ModuleType

from caffe_plain import python_layers
from caffe_plain.errors import CaffeError, nearest, reason
from caffe_plain.version import CAFFE_VERSION, VERSION

from . import streams

COMMANDS = {
    "train": "train a model by name, or any solver",
    "evaluate": "test runs by the papers' protocols, alone and as ensembles",
    "classify": "say what is on photos, by the newest net of a run",
    "plan": "show what each loss trains and costs, or propose losses",
    "plot": "plot the losses, errors and probes of runs",
    "report": "write all that is known of runs as one HTML file",
    "models": "list the models that --model can name",
    "reproduce": "train, test and tabulate what a table of the papers compares",
    "figure": "train and test what a figure of the papers shows, and draw it",
    "build-info": "say which devices and libraries the engine sees",
    "export-onnx": "export a deploy net with its weights as ONNX",
    "import-torch": "turn a torchvision state dict into a Caffe model",
}
EXTRAS = {"matplotlib": "plot", "onnx": "onnx"}  # packages that only some subcommands need


def usage() -> str:
    """What `relay --help` prints."""
    lines = [f"  {name:<13} {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: relay COMMAND ...",
            "",
            "Caffe models with Relay Backpropagation.",
            "",
            *lines,
            "",
            "`relay COMMAND --help` lists its arguments, `relay --version` says the versions.",
            "With --python-layers=FOLDERS, separated as in PYTHONPATH, a prototxt's Python",
            "layers may also come from there, and not only from its own folder.",
        ]
    )


def main(args: list[str] | None = None) -> None:
    """Run one subcommand with the arguments that follow its name."""
    words = sys.argv[1:] if args is None else args
    if not words or words[0] in ("-h", "--help"):
        print(usage())
    elif words[0] == "--version":
        print(f"relay {VERSION} (caffe {CAFFE_VERSION})")
    elif words[0] not in COMMANDS:
        sys.exit(f"relay: no command {words[0]!r}: {nearest(words[0], COMMANDS)}")
    else:
        run(words[0], words[1:])


def run(name: str, words: list[str]) -> None:
    """Run commands/NAME, as its script in tools/ does, on the arguments `words`.

    The command reads them from sys.argv, except --python-layers. What a user can cause becomes one
    line and exit status 1; Ctrl-C one line and 130.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--python-layers", "-python_layers", default="")
    options, words = parser.parse_known_args(words)
    sys.argv[:] = [f"relay {name}", *words]
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # not where it may keep its cache
    try:
        command = _command(name)
        with python_layers.restricted(options.python_layers), streams.readers_may_leave():
            command.main()
    except (CaffeError, OSError, MemoryError) as error:
        sys.exit(f"{name}: {reason(error)}")
    except KeyboardInterrupt as error:
        print(": ".join(filter(None, (name, "interrupted", str(error)))), file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _command(name: str) -> ModuleType:
    """The module of a subcommand; ends the program where a package that it needs is not there."""
    try:
        return importlib.import_module(f"relaybp.commands.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        sys.exit(
            f"relay {name}: needs the package {error.name}: "
            f"pip install 'caffe-relay[{EXTRAS[error.name]}]'"
        )


if __name__ == "__main__":
    main()
