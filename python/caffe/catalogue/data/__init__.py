"""Data layers: they have no bottoms and never back-propagate."""

from . import datums, hdf5, image, memory, source, window
