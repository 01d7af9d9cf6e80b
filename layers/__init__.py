"""The project's own layers, which Caffe lacks. `register()` makes the engine use them."""

from types import ModuleType


def register(caffe: ModuleType) -> None:
    """Register the layers with this repository's engine, for nets that are built from now on."""
    from .split import Split

    caffe.register_layer(Split)
