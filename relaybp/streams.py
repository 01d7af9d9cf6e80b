"""Terminals and pipes that fail: a line that cannot be shown never ends a training."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unfailing:
    """A text stream whose writes never raise: what cannot be written is left out.

    A character that the encoding lacks is written as "?". Everything else is the stream's own.
    errors: those that do not come through; by default all that a write can raise.
    """

    def __init__(self, stream: Any, *errors: type[Exception]):
        self._stream, self._errors = stream, errors or (OSError, ValueError)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            return self.write(text.encode(error.encoding, "replace").decode(error.encoding))
        except self._errors as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except self._errors as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Where a pipe or terminal is gone for good, send what waits and what comes nowhere.

        Python would try again at its end. A full disk may have room again.
        """
        if isinstance(error, OSError) and error.errno in FULL:
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def protect() -> None:
    """Let what is printed never end this process."""
    sys.stdout, sys.stderr = Unfailing(sys.stdout), Unfailing(sys.stderr)


@contextlib.contextmanager
def readers_may_leave() -> Iterator[None]:
    """A context in which nothing fails because `| head` has read enough of what is printed."""
    stdout = sys.stdout
    sys.stdout = Unfailing(stdout, BrokenPipeError)
    try:
        yield
    finally:
        sys.stdout.flush()  # not only when Python ends
        sys.stdout = stdout
