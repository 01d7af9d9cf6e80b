"""The error of the project's layers: it says what is wrong, in which record, and how to mend it."""


class SceneError(ValueError):
    """Options, a database, a record or a worker with which a data layer cannot go on."""
