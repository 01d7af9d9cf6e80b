"""The messages of extra.proto: what this project adds to a solver."""

from pathlib import Path

from caffe_plain.messages import read_messages

globals().update(read_messages(Path(__file__).with_name("extra.proto")))
