"""The versions that the commands name."""

VERSION = "0.1.0"  # this project's; pyproject.toml reads it here
CAFFE_VERSION = "1.0.0"  # of the Caffe whose behaviour, files and flags these are
