"""What pycaffe's helpers compute, under either Caffe: coordinate maps, Classifier, Detector, ...

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19), where
tests/oracle/record_pycaffe.py records the results.
"""

import os

import numpy as np
from google.protobuf import text_format

import caffe
from caffe import coord_map
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2

# ---- coordinate maps -----------------------------------------------------------------------------


def fcn(conv_pad=1, deconv=None, extra=None):
    """A small fully-convolutional net: (data, score at the data's scale)."""
    data = L.Input()
    conv = L.Convolution(data, num_output=4, kernel_size=3, pad=conv_pad, stride=2)
    relu = L.ReLU(conv, in_place=True)
    pool = L.Pooling(relu, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    score = L.Convolution(pool, convolution_param={"num_output": 2, "kernel_size": 1})
    up = L.Deconvolution(
        score, convolution_param=deconv or {"num_output": 2, "kernel_size": 8, "stride": 4}
    )
    return data, extra(up) if extra else up


TOPS = {
    "window": lambda: fcn(),
    "pad": lambda: fcn(conv_pad=40),
    "half": lambda: fcn(deconv={"num_output": 2, "kernel_size": 4, "stride": 2}),
    "cropped": lambda: fcn(extra=lambda up: L.Crop(up, L.Input(), axis=2, offset=3)),
    "dilated": lambda: fcn(
        extra=lambda up: L.Convolution(up, num_output=1, kernel_size=3, dilation=2, pad=0)
    ),
    "product": lambda: fcn(extra=lambda up: L.Eltwise(up, L.Sigmoid(up))),
}


def coordinate_maps():
    """{name: [axis, a, b]} of the map from the score to the data."""
    found = {}
    for name, make in TOPS.items():
        data, score = make()
        axis, a, b = coord_map.coord_map_from_to(score, data)
        found[name] = [axis, float(np.ravel(a)[0]), float(np.ravel(b)[0])]
    return found


def crop_text():
    """The net that `crop` makes of a padded one."""
    data, score = fcn(conv_pad=40, deconv={"num_output": 2, "kernel_size": 7, "stride": 4})
    return text_format.MessageToString(coord_map.crop(score, data).to_proto())


# ---- drawing -------------------------------------------------------------------------------------

LAYERS = [
    'name: "c" type: "Convolution" convolution_param { num_output: 3 kernel_size: 3 stride: 2 '
    "pad: 1 } param { lr_mult: 1 } param { lr_mult: 2 }",
    'name: "d" type: "Deconvolution" convolution_param { num_output: 5 kernel_size: 4 } '
    "param { lr_mult: 0 }",
    'name: "p" type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
    'name: "i" type: "InnerProduct" inner_product_param { num_output: 10 } param { lr_mult: 0 } '
    "param { lr_mult: 0 }",
    'name: "data" type: "Data" data_param { batch_size: 32 }',
    'name: "r" type: "ReLU"',
]


def labels(draw):
    """The labels, colours and multipliers of LAYERS."""
    found = []
    for text in LAYERS:
        layer = text_format.Merge(text, caffe_pb2.LayerParameter())
        found.append(
            [
                draw.get_layer_label(layer, rankdir, lrm)
                for rankdir in ("LR", "TB")
                for lrm in (False, True)
            ]
        )
        found[-1].append(draw.choose_color_by_layertype(layer.type))
    for text in LAYERS[:2] + LAYERS[3:5]:
        layer = text_format.Merge(text, caffe_pb2.LayerParameter())
        found.append(draw.get_edge_label(layer))
    return found


# ---- images --------------------------------------------------------------------------------------

DEPLOY = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
MEAN = np.array([100.0, 110.0, 120.0])
WINDOWS = [(2, 3, 10, 12), (0, 0, 20, 24), (5, 1, 9, 23), (10, 10, 20, 24)]


class AnyIndex(np.ndarray):
    """An array whose slices may be floats, as numpy allowed when pycaffe's Detector was written."""

    def __getitem__(self, key):
        return super().__getitem__(_whole(key))

    def __setitem__(self, key, value):
        super().__setitem__(_whole(key), value)


def _whole(key):
    if isinstance(key, tuple):
        return tuple(_whole(part) for part in key)
    if isinstance(key, slice):
        return slice(*(None if end is None else int(end) for end in (key.start, key.stop)))
    return key


def image(seed=0, height=20, width=24):
    """A seeded smooth image (H, W, 3) in [0, 1]."""
    y, x = np.mgrid[0:height, 0:width] / 10.0
    phases = np.random.RandomState(seed).uniform(0, 6, (3, 2))
    planes = [np.sin(x + a) * np.cos(y + b) for a, b in phases]
    return (np.stack(planes, 2) * 0.4 + 0.5).astype(np.float32)


def stored_image():
    """The image that the Detector reads from a file, as bytes (H, W, 3)."""
    return (image(3) * 255).astype(np.uint8)


def write_model(folder):
    """(deploy prototxt, caffemodel) with seeded weights."""
    deploy, weights = os.path.join(folder, "deploy.prototxt"), os.path.join(folder, "a.caffemodel")
    with open(deploy, "w") as file:
        file.write(DEPLOY)
    net = caffe.Net(deploy, caffe.TEST)
    random = np.random.RandomState(1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.shape) * 0.02
    net.save(weights)
    return deploy, weights


def classify(folder):
    """{case: scores} of a Classifier."""
    settings = {"mean": MEAN, "raw_scale": 255, "channel_swap": (2, 1, 0), "input_scale": 0.1}
    model = write_model(folder)
    plain = caffe.Classifier(*model)
    scaled = caffe.Classifier(*model, image_dims=(12, 14), **settings)
    images = [image(0), image(1, 30, 16), image(2, 12, 14)]
    return {
        "plain": plain.predict(images, oversample=False),
        "ten_crops": scaled.predict(images),
        "centre": scaled.predict(images, False),
    }


def detect(folder):
    """{case: array} of a Detector's crops and scores."""
    settings = {"mean": MEAN, "raw_scale": 255.0, "channel_swap": (2, 1, 0)}
    model = write_model(folder)
    path = os.path.join(folder, "image.png")
    write_png(path, stored_image())
    plain = caffe.Detector(*model, **settings)
    found = plain.detect_windows([(path, WINDOWS[:3]), (path, WINDOWS[3:])])
    assert [item["window"] for item in found] == WINDOWS
    result = {"scores": np.stack([item["prediction"] for item in found])}
    padded = caffe.Detector(*model, context_pad=1, **settings)
    padded.crop_mean = np.asarray(padded.crop_mean).view(AnyIndex)
    for index, window in enumerate(WINDOWS):
        crop = padded.crop(image(3).view(AnyIndex), np.array(window, float))
        result["crop%d" % index] = np.asarray(crop, np.float32)
    return result


def write_png(path, pixels):
    """An RGB image (H, W, 3) of bytes as a PNG file, without any image library."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    with open(path, "wb") as file:
        file.write(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b"")
        )


# ---- batches -------------------------------------------------------------------------------------

SPLIT = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 2 } }
layer { name: "square" type: "Power" bottom: "fc" top: "square" power_param { power: 2 } }
"""


def batched(folder):
    """{case: array} of forward_all and forward_backward_all over five items in batches of two."""
    path = os.path.join(folder, "split.prototxt")
    with open(path, "w") as file:
        file.write(SPLIT)
    net = caffe.Net(path, caffe.TRAIN)
    net.params["fc"][0].data[...] = [[1, 2, 3], [-1, 0, 1]]
    data = np.arange(15.0).reshape(5, 3)
    forward = net.forward_all(blobs=["fc"], data=data)
    outs, diffs = net.forward_backward_all(
        blobs=["fc"], diffs=["fc"], data=data, square=np.arange(10.0).reshape(5, 2)
    )
    found = {}
    for kind, arrays in (("forward", forward), ("outs", outs), ("diffs", diffs)):
        found.update(("%s/%s" % (kind, name), array) for name, array in arrays.items())
    return found


# ---- debug_info ----------------------------------------------------------------------------------

DEBUG = """
debug_info: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { name: "w" }
        param { lr_mult: 0 } inner_product_param { num_output: 2 } }
layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 0.5 }
"""


def debug(folder):
    """One forward and backward pass of a net with debug_info."""
    path = os.path.join(folder, "debug.prototxt")
    with open(path, "w") as file:
        file.write(DEBUG)
    net = caffe.Net(path, caffe.TRAIN)
    net.params["fc"][0].data[...] = [[1, 2, 3], [-1, 0.5, 0.25]]
    net.blobs["data"].data[...] = [[1, 2, 3], [-4, 5, 6.5]]
    net.forward()
    net.backward()
