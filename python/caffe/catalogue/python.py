"""Python: a layer that the user writes, in pycaffe's protocol."""

import importlib

from caffe_plain import python_layers
from caffe_plain.errors import PythonLayerError, nearest

from .. import device
from ..layer import Layer, TensorLayer, register
from .data.source import precision_of


@register
class Python(TensorLayer):
    """Runs the class `layer` of the importable module `module`, which derives from caffe.Layer.

    bottoms, tops: any number and shape. The class defines setup(bottom, top),
    reshape(bottom, top), forward(bottom, top) and backward(top, propagate_down, bottom) on blobs
    and finds `self.param_str`, `self.phase` and `self.blobs` (`self.blobs.add_blob(*shape)`).
    As in Caffe, reshape runs before every forward. Options: python_param. Caffe's PythonLayer.
    """

    bottom_count = (0, None)
    top_count = (0, None)
    param_name = "python_param"
    backward_is_whole = True
    replays = False
    makes_fresh_tops = False

    def __init__(self, param, phase):
        super().__init__(param, phase)
        self.user = self._call(self._user_class(), param, name="__init__")
        self.blobs = self.user.blobs
        self.user.param_str = self.options.param_str
        self.user.phase = phase

    @property
    def public(self):
        return self.user

    @property
    def position(self):
        """The `position` of a user's data layer, if it has one: a snapshot keeps it."""
        return self.user.position

    @position.setter
    def position(self, position):
        self.user.position = position

    def connect(self, bottoms, tops):
        self.bottoms, self.tops = bottoms, tops
        for blob in tops:
            # labels and losses must not be rounded to the activations' precision
            blob.master = True

    def setup(self, *shapes):
        self._call(self.user.setup, self.bottoms, self.tops)

    def reshape(self, *shapes):
        self._call(self.user.reshape, self.bottoms, self.tops)
        return [blob.shape for blob in self.tops]

    def forward(self, *bottoms):
        self._call(self.user.reshape, self.bottoms, self.tops)
        self._call(self.user.forward, self.bottoms, self.tops)
        return tuple(device.layout(blob.tensor.to(precision_of(blob.shape))) for blob in self.tops)

    def backward(self, diffs, bottoms, tops, wanted):
        for blob, diff in zip(self.tops, diffs, strict=True):
            if diff is None:
                blob.clear_diff()
            else:
                blob.diff_tensor = diff
        self._call(self.user.backward, self.tops, list(wanted), self.bottoms)
        return [
            blob.diff_tensor if want else None
            for blob, want in zip(self.bottoms, wanted, strict=True)
        ]

    def _user_class(self):
        module, name = self.options.module, self.options.layer
        python_layers.check(self.name, module, name)
        if found := python_layers.stand_in(module, name):
            return found
        try:
            found = importlib.import_module(module)
        except Exception as error:
            known = python_layers.STAND_INS.get((module, name))
            if known and isinstance(error, ModuleNotFoundError):
                return known  # that module needs one that is not there
            raise self.error(
                f"cannot import module {module!r}: {type(error).__name__}: {error}; put the "
                "folder that holds it on PYTHONPATH, or give it to a command as -python_layers"
            ) from error
        if not hasattr(found, name):
            raise self.error(
                f"module {module!r} ({found.__file__}) has no class {name!r}; "
                + nearest(name, vars(found))
            )
        cls = getattr(found, name)
        if not (isinstance(cls, type) and issubclass(cls, Layer)):
            raise self.error(
                f"{module}.{name} must be a class that derives from caffe.Layer; found {cls!r}"
            )
        return cls

    def _call(self, function, *args, name=None):
        try:
            return function(*args)
        except Exception as error:
            where = f"{self.options.module}.{self.options.layer}.{name or function.__name__}"
            raise PythonLayerError(
                f"layer {self.name!r} (Python): {where} raised {type(error).__name__}: {error}"
            ) from error
