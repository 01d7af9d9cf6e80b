"""Nets written in Python, as pycaffe's NetSpec: attributes name blobs and layers.

    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 224, 224]))
    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=7, stride=2)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    print(n.to_proto())

Keyword arguments are fields of the layer's own parameter message if that has them, otherwise fields
of LayerParameter. Any other name is an error that gives the layer, the field and the fields that
may have been meant.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_plain.errors import CaffeError, UnknownNameError, nearest

from .proto import caffe_pb2, raw


class UnknownFieldError(CaffeError, AttributeError):
    """A field, parameter message or constant that Caffe's schema does not have."""


class FieldValueError(CaffeError, TypeError, ValueError):
    """A value that its field cannot hold."""


class UnknownTopError(UnknownNameError, AttributeError):
    """A name that was never assigned in a NetSpec."""


class SeveralTopsError(CaffeError, AttributeError):
    """One name for the several tops of a layer, where each needs its own."""


def param_name_dict() -> dict[str, str]:
    """From the stem of each parameter message to that of its field: {"ReLU": "relu", ...}."""
    fields = [
        f
        for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields
        if f.name.endswith("_param") and f.message_type
    ]
    return {
        f.message_type.name.removesuffix("Parameter"): f.name.removesuffix("_param") for f in fields
    }


def to_proto(*tops: Top) -> caffe_pb2.NetParameter:
    """The NetParameter of all layers that are needed to compute `tops`."""
    return _net({}, tops)


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set the field `name` of the message `proto` from plain Python values.

    A dict fills a message, a list a repeated field; a single value for a repeated field counts
    as a list of one. A dict also fills a registered layer's raw block.
    """
    if raw.is_declared(name) and proto.DESCRIPTOR.name == "LayerParameter":
        _assign_raw(proto, name, val)
        return
    if name not in proto.DESCRIPTOR.fields_by_name:
        raise UnknownFieldError(
            f"{proto.DESCRIPTOR.name} has no field '{name}': "
            + nearest(name, proto.DESCRIPTOR.fields_by_name)
        )
    current = getattr(proto, name)
    try:
        if hasattr(current, "extend"):
            _extend(current, val if isinstance(val, (list, tuple)) else [val])
        elif isinstance(val, dict) and hasattr(current, "DESCRIPTOR"):
            _fill(current, val)
        else:
            setattr(proto, name, val)
    except CaffeError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        field = proto.DESCRIPTOR.fields_by_name[name]
        raise FieldValueError(
            f"{proto.DESCRIPTOR.name}.{name} is {_kind(field, current)}, "
            f"but was given {val!r} ({error})"
        ) from error


def _assign_raw(layer, name, options):
    try:
        raw.put(layer, name, options)
    except TypeError as error:
        raise FieldValueError(f"{name}: {error}") from error


def _extend(repeated, values):
    for value in values:
        if isinstance(value, dict):
            _fill(repeated.add(), value)
        else:
            repeated.extend([value])


def _fill(message, values):
    for name, value in values.items():
        assign_proto(message, name, value)


_SCALARS = {
    FieldDescriptor.CPPTYPE_STRING: "str",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
}


def _kind(field, current):
    """What a field holds, in words: "a list of float", "one PoolMethod (one of MAX, AVE, ...)"."""
    if field.message_type:
        held = f"{field.message_type.name} (a dict)"
    elif field.enum_type:
        held = f"{field.enum_type.name} (one of {', '.join(field.enum_type.values_by_name)})"
    else:
        held = _SCALARS.get(field.cpp_type, "int")
    return ("a list of " if hasattr(current, "extend") else "one ") + held


class Top:
    """One output blob: number `n` of the layer `fn`."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The NetParameter of all layers that are needed to compute this top."""
        return to_proto(self)

    def _to_proto(self, layers, names, autonames):
        return self.fn._to_proto(layers, names, autonames)


class Function:
    """A layer: its type, its inputs (Tops of other layers) and its parameters.

    `ntop` (1) says how many tops it has; `in_place` gives it its bottoms as tops.
    """

    def __init__(self, type_name, inputs, params):
        for index, given in enumerate(inputs):
            if not isinstance(given, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(given)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = params
        self.ntop = params.pop("ntop", 1)
        self.in_place = params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _name_of(self, item, names, autonames):
        """The name given to `item` (a top, or a layer without tops), else the next free one."""
        if item not in names:
            autonames[self.type_name] += 1
            names[item] = f"{self.type_name}{autonames[self.type_name]}"
        return names[item]

    def _to_proto(self, layers, names, autonames):
        """Add to `layers` the layers that lead here, then this one."""
        if self in layers:
            return
        for top in self.inputs:
            top._to_proto(layers, names, autonames)
        layer = caffe_pb2.LayerParameter(type=self.type_name)
        layer.bottom.extend(layers[top.fn].top[top.n] for top in self.inputs)
        layer.top.extend(
            layer.bottom
            if self.in_place
            else [self._name_of(top, names, autonames) for top in self.tops]
        )
        layer.name = self._name_of(self.tops[0] if self.tops else self, names, autonames)
        for key, value in self.params.items():
            try:
                assign_proto(self._message_with(key, layer), key, value)
            except CaffeError as error:
                raise type(error)(f"layer '{layer.name}' (type {layer.type}): {error}") from error
        layers[self] = layer

    def _message_with(self, key, layer):
        """The message that the argument `key` belongs to: `layer`, or its own parameters."""
        own = param_name_dict().get(self.type_name)
        if raw.is_declared(key):
            return layer
        if key.endswith("param") or own is None:
            candidates = [layer]
        else:
            candidates = [getattr(layer, f"{own}_param"), layer]
        for message in candidates:
            if key in message.DESCRIPTOR.fields_by_name:
                return message
        known = [field.name for message in candidates for field in message.DESCRIPTOR.fields]
        where = " or ".join(message.DESCRIPTOR.name for message in candidates)
        hint = (
            ""
            if own
            else (
                f" (type '{self.type_name}' has no parameters of its own: "
                f"{nearest(self.type_name, param_name_dict())})"
            )
        )
        raise UnknownFieldError(f"no field '{key}' in {where}: {nearest(key, known)}{hint}")


class NetSpec:
    """A net under construction: each attribute assigned to names a top and its layer.

    The tops of a layer with several may be kept together (`n.pair = L.Data(ntop=2)`) until each
    is given its name (`n.data, n.label = n.pair`).
    """

    def __init__(self):
        super().__setattr__("tops", {})

    def __setattr__(self, name, value):
        tops = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(top, (Top, Function)) for top in tops):
            raise TypeError(f"NetSpec.{name} must be what a layer returned, not {type(value)}")
        self.tops[name] = value

    def __getattr__(self, name):
        if name.startswith("__") or name == "tops":
            raise AttributeError(name)
        if name not in self.tops:
            raise UnknownTopError(f"no top '{name}' in this NetSpec: {nearest(name, self.tops)}")
        return self.tops[name]

    __setitem__ = __setattr__
    __getitem__ = __getattr__

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The NetParameter of all layers that are needed to compute the assigned tops.

        SeveralTopsError where a name still holds several tops.
        """
        for name, top in self.tops.items():
            if isinstance(top, tuple):
                raise SeveralTopsError(
                    f"NetSpec.{name} holds {len(top)} tops: give each a name of its own, as in "
                    f"n.{name}, n.label = n.{name}"
                )
        return _net({top: name for name, top in self.tops.items()}, self.tops.values())


def _net(names, tops):
    """The NetParameter of the layers that lead to `tops`; `names` holds the chosen names."""
    layers, autonames = {}, Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    return caffe_pb2.NetParameter(layer=layers.values())


class Layers:
    """`layers.TYPE(*bottoms, **parameters)` makes a layer of any type and returns its top(s)."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def layer_fn(*args, **kwargs):
            fn = Function(name, args, kwargs)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer_fn


class Parameters:
    """`params.TYPE.CONSTANT` is an enum value of a layer's parameters: `params.Pooling.MAX`."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if not hasattr(caffe_pb2, f"{name}Parameter"):
            stems = [
                m.removesuffix("Parameter")
                for m in caffe_pb2.DESCRIPTOR.message_types_by_name
                if m.endswith("Parameter")
            ]
            raise UnknownFieldError(
                f"params.{name}: no {name}Parameter in Caffe's schema: " + nearest(name, stems)
            )
        return _Constants(name)


class _Constants:
    """The constants of one parameter message."""

    def __init__(self, stem):
        self._stem = stem
        self._message = getattr(caffe_pb2, f"{stem}Parameter")

    def __getattr__(self, name):
        constants = [
            value for enum in self._message.DESCRIPTOR.enum_types for value in enum.values_by_name
        ]
        if not hasattr(self._message, name):
            raise UnknownFieldError(
                f"params.{self._stem} has no constant '{name}': " + nearest(name, constants)
            )
        return getattr(self._message, name)


layers = Layers()
params = Parameters()
