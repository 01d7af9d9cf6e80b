"""The messages of caffe_plain/extra.proto: what this project adds to a solver."""

from caffe_plain.extra import MESSAGES

globals().update(MESSAGES)
