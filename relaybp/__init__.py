"""Relay Backpropagation: which loss trains which layers, and the driver that trains so.

Runs on any pycaffe: this repository's engine or an original BVLC Caffe, Python 3.9 or newer.
"""
