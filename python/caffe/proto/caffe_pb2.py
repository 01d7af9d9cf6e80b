"""Caffe's protobuf messages: `from caffe.proto import caffe_pb2`, as in pycaffe."""

from pathlib import Path

from caffe_plain.messages import read_messages

globals().update(read_messages(Path(__file__).with_name("caffe.proto")))
