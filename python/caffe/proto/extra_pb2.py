"""The messages of extra.proto: what this project adds to a solver."""

from pathlib import Path

from caffe_plain.messages import export

export(Path(__file__).with_name("extra.proto"), globals())
