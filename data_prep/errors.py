"""The one exception of the data tools, and how a script reports it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Callable, NoReturn

from caffe_plain.errors import CaffeError, reason
from caffe_plain.flags import print_any_text


class PrepError(CaffeError):
    """Something in the user's data or disk that stops a tool; the message names it and the cure."""


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call a script's main(); what a user can cause becomes one line and exit status 1.

    Ctrl-C is one line, too, with the status that a shell gives it, 130.
    """
    print_any_text()
    try:
        sys.exit(main())
    except (CaffeError, OSError, MemoryError) as error:
        sys.exit(f"{sys.argv[0]}: error: {reason(error)}")
    except KeyboardInterrupt:
        print(f"{sys.argv[0]}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def some(items: Sequence[object], limit: int = 5) -> str:
    """The first few of `items`, one indented line each, and how many more there are."""
    lines = [f"  {item}" for item in items[:limit]]
    if len(items) > limit:
        lines.append(f"  ... and {len(items) - limit} more")
    return "\n".join(lines)
