"""A data layer in Python: images of shapes, and which of them are there."""

import ast

import cv2
import numpy as np

import caffe

SIDE = 32  # pixels
SHAPES = ("disc", "square", "triangle", "cross")


class ShapesDataLayer(caffe.Layer):
    """top[0]: images (N, 1, 32, 32) in [0, 1]; top[1]: labels (N, 4), 1 where the shape is there.

    param_str: a dict with batch_size and seed.
    """

    def setup(self, bottom, top):
        options = ast.literal_eval(self.param_str)
        unknown = set(options) - {"batch_size", "seed"}
        if unknown or bottom:
            raise ValueError(f"ShapesDataLayer: unknown options {sorted(unknown)}, or a bottom")
        self.rng = np.random.RandomState(options["seed"])
        top[0].reshape(options["batch_size"], 1, SIDE, SIDE)
        top[1].reshape(options["batch_size"], len(SHAPES))

    def reshape(self, bottom, top):
        """The shapes never change after setup."""

    def forward(self, bottom, top):
        for image, label in zip(top[0].data[:, 0], top[1].data, strict=True):
            label[:] = self.rng.rand(len(SHAPES)) < 0.4
            image[:] = draw(np.flatnonzero(label), self.rng) / 255

    def backward(self, top, propagate_down, bottom):
        """Data have no gradient."""


def draw(indices, rng):
    """A picture (SIDE, SIDE) uint8 with these of the SHAPES, each in a quarter of its own."""
    image = rng.randint(0, 60, (SIDE, SIDE)).astype(np.uint8)
    quarters = rng.permutation(4)[: len(indices)]
    for index, quarter in zip(indices, quarters, strict=True):
        x, y = (int(v) for v in np.array(divmod(quarter, 2)) * 16 + 7 + rng.randint(0, 3, 2))
        r, light = int(rng.randint(4, 7)), int(rng.randint(150, 256))
        if SHAPES[index] == "disc":
            cv2.circle(image, (x, y), r, light, -1)
        elif SHAPES[index] == "square":
            cv2.rectangle(image, (x - r, y - r), (x + r, y + r), light, -1)
        elif SHAPES[index] == "triangle":
            corners = np.array([(x, y - r), (x - r, y + r), (x + r, y + r)])
            cv2.fillPoly(image, [corners], light)
        else:
            cv2.line(image, (x - r, y - r), (x + r, y + r), light, 2)
            cv2.line(image, (x - r, y + r), (x + r, y - r), light, 2)
    return image
