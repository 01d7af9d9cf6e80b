"""Data layers: they have no bottoms and never back-propagate."""

from . import hdf5, image, lmdb, memory, source, window
