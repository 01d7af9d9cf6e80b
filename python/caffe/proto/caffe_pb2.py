"""Caffe's protobuf messages: `from caffe.proto import caffe_pb2`, as in pycaffe.

The messages live in a descriptor pool of their own, so another package that also registers a
file called caffe.proto does not collide with this one.
"""

from pathlib import Path

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from .protofile import parse


def _export(namespace):
    """Define every message, enum and top-level enum value of caffe.proto in `namespace`."""
    source = Path(__file__).with_name("caffe.proto").read_text()
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(parse(source, "caffe/proto/caffe.proto").SerializeToString())
    file = pool.FindFileByName("caffe/proto/caffe.proto")
    namespace["DESCRIPTOR"] = file
    for name, message in file.message_types_by_name.items():
        namespace[name] = message_factory.GetMessageClass(message)
    for name, enum in file.enum_types_by_name.items():
        namespace[name] = EnumTypeWrapper(enum)
        namespace.update({value.name: value.number for value in enum.values})


_export(globals())
