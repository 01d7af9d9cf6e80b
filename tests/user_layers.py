"""Python layers as users write them, for BVLC Caffe and for this engine."""

import json

import numpy as np

import caffe


class Times(caffe.Layer):
    """The bottom times the number in param_str."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str or 10)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.factor * top[0].diff


class Distance(caffe.Layer):
    """The Euclidean loss, and a second top with the differences."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise ValueError("Distance needs two bottoms")

    def reshape(self, bottom, top):
        self.difference = np.zeros_like(bottom[0].data)
        top[0].reshape(1)
        top[1].reshape(bottom[0].num, bottom[0].channels)

    def forward(self, bottom, top):
        self.difference[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.difference**2) / bottom[0].num / 2
        top[1].data[...] = self.difference

    def backward(self, top, propagate_down, bottom):
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * (
                    top[0].diff[0] * self.difference / bottom[i].num + top[1].diff
                )


class Affine(caffe.Layer):
    """A learned weight and bias for each column; the start of the bias stands in param_str."""

    def __init__(self, layer_param, *args):
        super(Affine, self).__init__(layer_param, *args)  # noqa: UP008 (as old code does)

    def setup(self, bottom, top):
        columns = bottom[0].data.shape[1]
        self.blobs.add_blob(columns)
        self.blobs.add_blob(1, columns)
        self.blobs[0].data[...] = 1
        self.blobs[1].data[...] = json.loads(self.param_str)["bias"] if self.param_str else 0

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data + self.blobs[1].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
        self.blobs[1].diff[...] += top[0].diff.sum(0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data


class Phase(caffe.Layer):
    """The phase, as a number."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class Counter(caffe.Layer):
    """A data layer that decides on the batch in reshape, and writes only a part of it."""

    def setup(self, bottom, top):
        self.batch = 0

    def reshape(self, bottom, top):
        self.batch += 1
        top[0].reshape(2 + self.batch % 2, 3, 2, 2)
        top[1].reshape(4)

    def forward(self, bottom, top):
        top[0].data[...] = np.arange(top[0].count).reshape(top[0].data.shape) + self.batch
        top[1].data[self.batch % 4] = 1000 + self.batch

    def backward(self, top, propagate_down, bottom):
        pass


class Failing(caffe.Layer):
    """Raises in the method that param_str names."""

    def _fail_in(self, method):
        if self.param_str == method:
            raise KeyError("the user's mistake")

    def setup(self, bottom, top):
        self._fail_in("setup")

    def reshape(self, bottom, top):
        self._fail_in("reshape")
        top[0].reshape(1)

    def forward(self, bottom, top):
        self._fail_in("forward")

    def backward(self, top, propagate_down, bottom):
        self._fail_in("backward")


class NoLayer:
    """Does not derive from caffe.Layer."""


class Flat(caffe.Layer):
    """Counts up in its top and sets its bottom's diff to 2, each through a flat view."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data.reshape(-1)[:] = np.arange(top[0].count)

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff.ravel()[:] = 2
