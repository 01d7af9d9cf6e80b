"""Import the package and a user's modules of the same names as its folders: neither hides one."""

import importlib
import os
import pkgutil
import sys

import numpy as np

import caffe
import caffe_plain
import data_prep
import layers
import relaybp
import relaybp.engines
import relaybp.layers.split
import tools

ENVIRONMENT = os.path.realpath(sys.prefix)
HERE = os.path.realpath(os.getcwd())
NEED_TRITON = ("caffe.kernels.gpu", "caffe.kernels.triton")

for module in (caffe, caffe_plain, relaybp, relaybp.layers):
    assert os.path.realpath(module.__file__).startswith(ENVIRONMENT), module.__file__
for module in (layers, tools, data_prep):
    assert os.path.realpath(module.__file__).startswith(HERE), module.__file__
assert caffe.__version__ == "1.0.0"

for package in (caffe, caffe_plain, relaybp):  # nothing that a module imports is missing
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        compiled = "-" in module.name  # a kernel, no module
        if not compiled and not module.name.startswith(NEED_TRITON):
            importlib.import_module(module.name)

path = list(sys.path)
relaybp.engines.load()
assert sys.path == path  # the user's modules stay in front of the packages

net = caffe.Net("python_layer.prototxt", caffe.TEST)
net.blobs["data"].data[...] = np.arange(6).reshape(2, 3)
assert net.forward()["twice"].tolist() == [[0, 2, 4], [6, 8, 10]]
print("caffe", caffe.__version__, "in", os.path.dirname(caffe.__file__))
