"""classification: the five likeliest classes of an image (the original's C++ example).

    classification deploy.prototxt network.caffemodel mean.binaryproto labels.txt image.jpg

The image is read as convert_imageset reads it (upright, 8 bits per channel) and resized to the
net's input; each channel's mean over mean.binaryproto is subtracted.
"""

import cv2
import numpy as np

from caffe_plain import images
from caffe_plain.class_names import read_class_names
from caffe_plain.errors import CaffeError

from ..files.weights import read_blob
from ..net import Net
from ..proto.caffe_pb2 import TEST
from .flags import net_program, run

_SHOWN = 5


def main(args=None):
    """Run the command line; return the exit status."""
    parser = net_program("classification", __doc__)
    for name in ("deploy", "weights", "mean", "labels", "image"):
        parser.add_argument(name)
    return run(parser, _classify, args)


def _classify(options):
    net = Net(options.deploy, TEST, weights=options.weights)
    scores = predict(net, options.image, options.mean)
    labels = read_class_names(options.labels)
    if len(labels) != len(scores):
        raise CaffeError(
            f"{options.labels}: {len(labels)} labels for {len(scores)} outputs of "
            "the net; expected one line for each"
        )
    print(f"---------- Prediction for {options.image} ----------")
    for index in np.argsort(-scores, kind="stable")[:_SHOWN]:
        print(f'{scores[index]:.4f} - "{labels[index]}"')


def predict(net, image_path, mean_path):
    """The first output of the net for an image."""
    if len(net.inputs) != 1 or len(net.outputs) != 1:
        raise CaffeError(
            f"classification: expected a net with one input and one output; found "
            f"{net.inputs} and {net.outputs}"
        )
    blob = net.blobs[net.inputs[0]]
    channels, height, width = blob.shape[1:]
    if channels not in (1, 3):
        raise CaffeError(
            f"classification: the net's input should have 1 or 3 channels; found {channels}"
        )
    image = images.load(image_path, color=channels == 3)
    image = cv2.resize(image, (width, height)).reshape(height, width, channels)
    planes = image.astype(np.float32) - _channel_means(mean_path, channels)
    blob.reshape(1, channels, height, width)
    blob.data[...] = planes.transpose(2, 0, 1)
    net._forward(0, len(net.nodes) - 1)
    return net.blobs[net.outputs[0]].data[0].ravel()


def _channel_means(path, channels):
    mean = read_blob(path)
    mean = mean.reshape(mean.shape[-3:])
    if len(mean) != channels:
        raise CaffeError(f"{path}: {len(mean)} channels; the net's input has {channels}")
    return mean.mean((1, 2))
