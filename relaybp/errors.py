"""The driver's errors: each says what is wrong, in which file and layer, and what to do."""

from caffe_plain.errors import CaffeError


class RelayError(CaffeError, ValueError):
    """A relay file, solver, model or option that cannot be used."""


class NotFiniteError(RelayError):
    """A loss, a gradient or a weight that is NaN or infinite."""
