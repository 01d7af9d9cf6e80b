"""What the command lines of `relay` share: errors of one line, runs by name, ways of calling."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from caffe_plain.flags import HelpFormatter

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# options of `relay train` that are variables of `make train`
VARIABLES = {
    "--model": "MODEL",
    "--data": "DATA",
    "--feed": "FEED",
    "--scene": "SCENE",
    "--profile": "PROFILE",
    "--weights": "WEIGHTS",
    "--snapshot": "RESUME",
    "--set": "SET",
    "--gpu": "GPU",
    "--precision": "PRECISION",
    "--out": "RUN",
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, with status 2."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.formatter_class = HelpFormatter

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help lists the options\n")


class Runs(argparse.Action):
    """The action of an argument that names one run or more."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        try:
            runs = named_runs(values)
        except ValueError as error:  # of shlex
            parser.error(f"{' '.join(values)}: {error}")
        if not runs:
            parser.error("RUN is empty: name a run's folder, or several")
        setattr(namespace, self.dest, runs)


def named_runs(words: Sequence[str]) -> list[str]:
    """The runs that words of a command line name.

    make passes RUN on as one word, which is a path with blanks in it, or several paths with blanks
    between them; quotes hold together what belongs together, as in a shell.
    """
    found = []
    for word in words:
        is_path = os.path.exists(word) or os.path.exists(word.rpartition("@")[0])
        found += [word] if is_path else shlex.split(word)
    return found


def in_checkout() -> bool:
    """Whether `make` works in the current folder."""
    return os.path.isfile(os.path.join(_CHECKOUT, "Makefile")) and os.path.samefile(
        os.getcwd(), _CHECKOUT
    )


def spelled(option: str, value: str = "") -> str:
    """An option of `relay train` as it is typed here: for make, it is a variable."""
    if in_checkout():
        return f"{VARIABLES[option]}={shlex.quote(value) if value else ''}"
    return f"{option} {shlex.quote(value)}" if value else option


def more(words: str) -> str:
    """Options that no variable of make stands for, as they are typed here."""
    return f'ARGS="{words}"' if in_checkout() else words


def command(name: str, run: str, image: str = "") -> str:
    """`make NAME` or `relay NAME` for a run, and a photo."""
    words = [shlex.quote(word) for word in (run, image) if word]
    if in_checkout():
        words = [f"{name}={word}" for name, word in zip(("RUN", "IMAGE"), words)]
    return " ".join(["make" if in_checkout() else "relay", name, *words])


def train_again(words: Sequence[str], run: str) -> str:
    """The command that goes on with a run; words: those that `relay train` was called with."""
    options = dict.fromkeys(("--out",), [run])
    rest: list[str] = []
    for name, value in _pairs(words):
        if name == "--gpu" and value == "auto" or name in ("--snapshot", "--out"):
            continue
        if name in VARIABLES and value is not None:
            options.setdefault(name, []).append(value)
        else:
            rest += [name] if value is None else [name, value]
    if in_checkout() and "--model" in options:
        variables = [
            f"{VARIABLES[name]}={shlex.quote(' '.join(options[name]))}"
            for name in VARIABLES
            if name in options
        ]
        others = [f"ARGS={shlex.quote(shlex.join(rest))}"] if rest else []
        return " ".join(["make train", *variables, *others])
    flags = [word for name, values in options.items() for each in values for word in (name, each)]
    return shlex.join(["relay", "train", *rest, *flags])


def _pairs(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """[(option, its value or None)] of the words of a command line."""
    found: list[tuple[str, str | None]] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found.append((name, value if equals else None))
        elif found and found[-1][1] is None:
            found[-1] = (found[-1][0], word)
    return found


def next_steps(run: str, again: str | None = None) -> str:
    """Lines that say what can be done with a run; again: how to go on, where it has not ended.

    Each can be copied as a whole: what it is for is a comment.
    """
    steps = {
        command("evaluate", run): f"one crop; {more('--protocol vgg')} as the paper",
        command("report", run): "all about it in one HTML file",
        command("classify", run, "p.jpg"): "a photo",
    }
    if again:
        steps = {again: "go on"}
    return "\n".join(["Next:", *(f"  {call}  # {what}" for call, what in steps.items())])
