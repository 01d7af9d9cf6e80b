"""pycaffe's Classifier: class scores of images, averaged over ten crops."""

import numpy as np

from . import io
from .net import Net
from .proto.caffe_pb2 import TEST


def make_transformer(net, mean, input_scale, raw_scale, channel_swap):
    """The Transformer of the net's first input, for images (H, W, K) in [0, 1]."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    for value, setting in (
        (mean, transformer.set_mean),
        (input_scale, transformer.set_input_scale),
        (raw_scale, transformer.set_raw_scale),
        (channel_swap, transformer.set_channel_swap),
    ):
        if value is not None:
            setting(name, value)
    return transformer


class Classifier(Net):
    """A net whose first input takes images and whose first output holds class scores.

    image_dims: (height, width) that images are resized to, by default the net's input size; for the
    rest see caffe.io.Transformer.
    """

    def __init__(
        self,
        model_file,
        pretrained_file,
        image_dims=None,
        mean=None,
        input_scale=None,
        raw_scale=None,
        channel_swap=None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.keep_blobs = False
        self.transformer = make_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = np.array(image_dims) if image_dims else self.crop_dims

    def predict(self, inputs, oversample=True):
        """(N, classes) scores of the images (H, W, K) in `inputs`.

        oversample: average over corners, centre and mirror images; otherwise only the centre crop.
        """
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            images = io.oversample(images, self.crop_dims)
        else:
            top, left = ((self.image_dims - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            images = images[:, top : top + height, left : left + width]  # (N, height, width, K)
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, image) for image in images])
        scores = self.forward_all(**{name: batch})[self.outputs[0]]
        if oversample:
            scores = scores.reshape(len(scores) // 10, 10, -1).mean(1)  # (N, classes)
        return scores
