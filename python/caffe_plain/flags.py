"""Command lines as Caffe's programs (gflags) read them, on top of argparse.

-flag=value, -flag value, --flag=value, --flag value; a boolean is -flag, -noflag or -flag=false.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

MOST_COLUMNS, LEAST_COLUMNS = 100, 20  # of text: in a wide terminal, and beside other text
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fits descriptions to the terminal: paragraphs are filled, indented lines stay lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        width, parts = min(width, MOST_COLUMNS), []
        for is_paragraph, group in itertools.groupby(text.splitlines(), _is_of_paragraph):
            lines = list(group)
            parts += [" ".join(lines)] if is_paragraph else lines
        return "\n".join(_wrapped(indent + part, width) for part in parts)


def _is_of_paragraph(line: str) -> bool:
    return line[:1].strip() != ""


def _wrapped(line: str, width: int) -> str:
    """A line as lines of this width, which go on in its last column where it has several."""
    text = line.lstrip()
    margin, gap = len(line) - len(text), text.rfind("  ")
    column = margin + gap + 2
    if gap < 0 or column > width - LEAST_COLUMNS:
        column = margin and margin + 4
    hanging = " " * column
    return textwrap.fill(
        line, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose flags take one dash or two; a mistake exits with status 1.

    doc: what --help says first; prog: the program's name, by default the script's.
    """

    def __init__(self, doc: str | None, prog: str | None = None):
        super().__init__(
            prog=prog, description=doc, allow_abbrev=False, formatter_class=HelpFormatter
        )
        self._booleans: set[str] = set()

    def flag(self, name: str, default: Any, help: str, **more: Any) -> None:
        """Add a flag of the type of `default`; `more` goes to argparse, as `type` for a None."""
        if isinstance(default, bool):
            self._booleans.add(name)
            more.update(type=_truth, metavar="true|false")
        elif default is not None:
            more["type"] = type(default)
        if default is not None and default is not False and default != "":
            help = f"{help} (default: {default!r})"
        self.add_argument(f"-{name}", f"--{name}", default=default, help=help, **more)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As argparse; a boolean may stand without a value."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._with_value(word) for word in words], namespace)

    def _with_value(self, word: str) -> str:
        """-flag as -flag=true, -noflag as -flag=false."""
        name = word.lstrip("-") if word.startswith("-") else ""
        if name in self._booleans:
            return f"-{name}=true"
        if name.startswith("no") and name[2:] in self._booleans:
            return f"-{name[2:]}=false"
        return word

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit with status 1, as gflags does."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")
        raise AssertionError  # exit does not return


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return text.lower() in _TRUE


def print_any_text() -> None:
    """From now on print what the terminal's encoding lacks as an escape, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not what a test or a notebook puts in its place
            stream.reconfigure(errors="backslashreplace")
