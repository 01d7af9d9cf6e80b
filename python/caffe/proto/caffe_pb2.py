"""Caffe's protobuf messages: `from caffe.proto import caffe_pb2`, as in pycaffe."""

from pathlib import Path

from caffe_plain.messages import export

export(Path(__file__).with_name("caffe.proto"), globals())
