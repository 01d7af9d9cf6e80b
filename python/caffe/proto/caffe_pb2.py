"""Caffe's protobuf messages: `from caffe.proto import caffe_pb2`, as in pycaffe.

caffe.proto is BVLC Caffe 1.0's schema; forks.proto adds what forks of Caffe have.
"""

from pathlib import Path

from .continued import read_continued

_FOLDER = Path(__file__).parent
globals().update(read_continued(_FOLDER / "caffe.proto", _FOLDER / "forks.proto"))
