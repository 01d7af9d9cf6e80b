"""The error of the project's layers: it says what is wrong, in which record, and how to fix it."""

from caffe_plain.errors import CaffeError


class SceneError(CaffeError, ValueError):
    """Options, a database, a record or a worker with which a data layer cannot go on."""
