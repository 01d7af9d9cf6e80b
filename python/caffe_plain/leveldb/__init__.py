"""LevelDB, the other format of Caffe's databases, in plain Python."""

from .database import Cursor, LevelDB
from .writer import write_leveldb
