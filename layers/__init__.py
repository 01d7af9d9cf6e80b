"""The project's own layers, which Caffe lacks. `register()` makes the engine use them."""


def register(caffe):
    """Register the layers with an engine that allows it; an original Caffe does not."""
    if hasattr(caffe, "register_layer"):
        from .split import Split

        caffe.register_layer(Split)
