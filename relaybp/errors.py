"""The driver's errors: each says what is wrong, in which file and layer, and how to mend it."""

from difflib import get_close_matches


class RelayError(ValueError):
    """A relay file, solver, model or option that cannot be used."""


def nearest(name, known):
    """A hint with the known names that come nearest to a mistyped one."""
    known = list(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    return "known are: " + ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
