"""The driver's errors: each says what is wrong, in which file and layer, and how to mend it."""

from caffe_plain.errors import CaffeError


class RelayError(CaffeError, ValueError):
    """A relay file, solver, model or option that cannot be used."""
