"""The engine's exceptions. Nothing ends the process: whatever goes wrong is one of these.

Every message says what is wrong, where (file, layer, blob), what was expected, what was found
and how to fix it. Each class is also the builtin exception that a Python user would catch.
"""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches


class CaffeError(Exception):
    """The base of every error that this package raises on purpose."""


class ParseError(CaffeError, ValueError):
    """A prototxt or a binary message that cannot be read."""


class LayerError(CaffeError, ValueError):
    """A layer whose parameters, bottoms or tops make no sense."""


class ShapeError(LayerError):
    """Blobs whose shapes do not fit together."""


class OutOfMemoryError(LayerError, MemoryError):
    """A layer for whose values there is no more memory."""


class PythonLayerError(LayerError, RuntimeError):
    """The user's code in a Python layer raised; what it raised is the `__cause__`."""


class DataError(CaffeError, OSError):
    """A database, image or file that is missing, damaged or cannot be written."""


class WeightsError(CaffeError, ValueError):
    """Weights or a solver state that do not fit the net."""


class UnknownNameError(CaffeError, KeyError, ValueError):
    """A layer, blob, type or field that does not exist.

    pycaffe looks some of them up in a dict and some in a list, so that scripts catch either.
    """

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class LostProcessError(CaffeError, ConnectionError):
    """Another of the processes that train together has ended."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that lists the known names, nearest first: "did you mean 'a' or 'b'?"."""
    known = list(known)
    if not known:
        return "there is none"
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    shown = ", ".join(sorted(known)[:20])
    return f"known are: {shown}" + (", ..." if len(known) > 20 else "")


def reason(error: BaseException) -> str:
    """What an error says to a user: never empty, and without a system error's number."""
    if isinstance(error, OSError) and not isinstance(error, CaffeError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        return f"{where}{error.strerror}" + ("; check your rights there" if denied else "")
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; end what else uses it, or raise the limit (ulimit -v)"
    return str(error) or type(error).__name__
