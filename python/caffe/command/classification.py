"""classification: the five likeliest classes of an image (the original's C++ example).

    classification deploy.prototxt network.caffemodel mean.binaryproto labels.txt image.jpg
    classification FOLDER image.jpg

FOLDER is one that a training left: its deploy.prototxt, newest weights, mean, classes and order of
colours (run.json; without it BGR) count.
The image is read as convert_imageset reads it (upright, 8 bits per channel) and resized to the
net's input; each channel's mean over mean.binaryproto is subtracted.
"""

import cv2
import numpy as np

from caffe_plain import images
from caffe_plain.class_names import read_class_names
from caffe_plain.errors import CaffeError
from caffe_plain.trained import Trained, files_of

from ..files.weights import read_blob
from ..net import Net
from ..proto.caffe_pb2 import TEST
from .flags import net_program, run

_SHOWN = 5


def main(args=None):
    """Run the command line; return the exit status."""
    parser = net_program("classification", __doc__)
    parser.add_argument("deploy", help="or a FOLDER, and then only the image")
    for name in ("weights", "mean", "labels"):
        parser.add_argument(name, nargs="?")
    parser.add_argument("image")
    return run(parser, _classify, args)


def _classify(options):
    files = _files(options)
    net = Net(files.deploy, TEST, weights=files.weights)
    scores = predict(net, options.image, files.mean, files.rgb)
    labels = read_class_names(files.classes)
    if len(labels) != len(scores):
        raise CaffeError(
            f"{files.classes}: {len(labels)} labels for {len(scores)} outputs of "
            "the net; expected one line for each"
        )
    print(f"---------- Prediction for {options.image} ----------")
    for index in np.argsort(-scores, kind="stable")[:_SHOWN]:
        print(f'{scores[index]:.4f} - "{labels[index]}"')


def _files(options):
    """The Trained that the command line names, by its folder or one by one."""
    if options.weights is None:
        found = files_of(options.deploy)
        if not found.mean:
            raise CaffeError(
                f"{options.deploy}: no mean.binaryproto there, which a training writes even where "
                "nothing is subtracted; copy the mean that the net was trained with there"
            )
        return found
    if options.labels is None:
        raise CaffeError(
            "classification: expected a folder and an image, or DEPLOY WEIGHTS MEAN LABELS IMAGE"
        )
    return Trained(options.deploy, options.weights, options.mean, options.labels)


def predict(net: Net, image_path: str, mean_path: str, rgb: bool = False) -> np.ndarray:
    """The first output of the net for an image; without a mean file nothing is subtracted.

    rgb: the order of the channels that the net and the mean have; else BGR.
    """
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
    planes = image[..., :: -1 if rgb else 1].astype(np.float32)
    if mean_path:
        planes -= _channel_means(mean_path, channels)
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
