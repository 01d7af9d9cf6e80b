"""Plain Python that the engine, the driver, the layers and the data tools share.

Needs neither torch nor caffe and runs on Python 3.9, so that it also serves a driver on an
original BVLC Caffe.
"""
