"""A data layer as py-faster-rcnn's: an image, its size and its objects, drawn anew each time."""

import numpy as np

import caffe
from relaybp.data_prep.demo_detection import SHAPES, draw

SIZE = 96


def drawn(number):
    """The image (1, 3, H, W) and its objects (G, 5), rows (x1, y1, x2, y2, label)."""
    while True:
        image, objects = draw(np.random.RandomState(number), SIZE)
        if objects:
            break
        number += 1_000_000
    rows = [
        [*one.box[:2], one.box[2] - 1, one.box[3] - 1, SHAPES.index(one.name) + 1]
        for one in objects
    ]
    return (image.transpose(2, 0, 1)[None] - 110.0) / 60, np.array(rows)


class Drawn(caffe.Layer):
    """param_str: how many images there are."""

    def setup(self, bottom, top):
        self.count, self.next = int(self.param_str), 0
        self.forward(bottom, top)
        self.next = 0

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        image, rows = drawn(self.next % self.count)
        self.next += 1
        for blob, values in zip(top, (image, [[*image.shape[2:], 0.5]], rows), strict=True):
            values = np.asarray(values)
            blob.reshape(*values.shape)
            blob.data[...] = values

    def backward(self, top, propagate_down, bottom):
        pass
