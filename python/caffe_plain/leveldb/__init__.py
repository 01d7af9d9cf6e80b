"""LevelDB, the other format of Caffe's databases, in plain Python."""

from .database import LevelDB
from .writer import write_leveldb
