"""Whole nets of Caffe's forks: run here, in OpenCV where it can, and taken by every tool."""

import re
from functools import cache

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import fork_nets
import fork_region_nets  # noqa: F401 - which adds its nets
from caffe.command import draw_net, main, summarize
from caffe.files.text import write_text
from caffe.proto import caffe_pb2
from evaluation_cases import (
    CROP,
    STRIDE,
    draw_images,
    evaluate,
    make_data,
    make_run,
    net_param,
    save_weights,
)
from relaybp.commands import export_onnx
from relaybp.evaluation import dense
from relaybp.graph import Graph

SHAPES = {
    "mobilenet_ssd": {"detection_out": (1, 1, 50, 7)},
    "ssd300": {"detection_out": (1, 1, 50, 7)},
    "r_fcn": {"cls_prob": (8, 4, 1, 1), "bbox_ave": (8, 8, 1, 1)},
    "faster_rcnn": {"cls_prob": None, "bbox_pred": None},
    "pspnet": {"conv6_interp": (1, 5, 57, 57)},
    "segnet": {"prob": (1, 4, 45, 60)},
    "senet": {"prob": (1, 10)},
    "shufflenet": {"prob": (1, 10, 1, 1)},
    "yolo_v3": {"detection_out": None},
    "conv_lstm": {"next": (5, 3, 8, 8)},
    "text_boxes": {"detection_out": (1, 1, 50, 15)},
    "ms_cnn": {"cls_prob": (8, 2), "bbox_2nd": (8, 8)},
    "ctpn": {"rois": (3 * 5 * 10, 4), "scores": (3 * 5 * 10, 1)},
}
IN_OPENCV = ["mobilenet_ssd", "ssd300", "r_fcn", "pspnet", "senet", "shufflenet"]


@cache
def messages():
    return {name: make() for name, make in fork_nets.NETS.items()}


def filled(name):
    """The net of a generator with weights as if trained, and an input."""
    random = np.random.RandomState(0)
    net = caffe.Net(messages()[name], caffe.TEST)
    for node in net.nodes:
        kind, blobs = node.layer.type, node.layer.blobs
        values = [random.normal(0, 0.1, blob.shape) for blob in blobs]
        if kind == "BatchNorm":
            values = [values[0], random.uniform(0.5, 2, blobs[1].shape), np.ones(1)]
        elif kind in ("Scale", "BN"):
            values[0] = random.uniform(0.5, 1, blobs[0].shape)
        elif values:
            values[0] *= 10 * np.sqrt(2 / np.prod(blobs[0].shape[1:]))
        if len(values) == 4:
            values[3] = random.uniform(0.5, 2, blobs[3].shape)
        if kind == "Normalize":
            values[0] = np.full(blobs[0].shape, 5.0)
        for blob, value in zip(blobs, values, strict=True):
            blob.data[...] = value
    net.blobs["data"].data[...] = random.normal(size=net.blobs["data"].shape)
    if "im_info" in net.blobs:
        net.blobs["im_info"].data[...] = [*net.blobs["data"].shape[2:], 1]
    return net


@pytest.mark.parametrize("name", fork_nets.NETS)
def test_nets_run_and_give_every_blob_its_shape(name):
    net = filled(name)
    outputs = net.forward()
    for output, shape in SHAPES[name].items():
        assert shape is None or outputs[output].shape == shape
        assert np.isfinite(outputs[output]).all() and np.ptp(outputs[output]) > 1e-3


def for_opencv(name):
    """The net as OpenCV computes it: Axpy's summands change places, BN is BatchNorm and Scale."""
    net = caffe_pb2.NetParameter()
    for layer in messages()[name].layer:
        if layer.type == "Axpy":
            layer = type(layer).FromString(layer.SerializeToString())
            layer.bottom[1], layer.bottom[2] = layer.bottom[2], layer.bottom[1]
        if layer.type == "BN":
            (bottom,), (top,) = layer.bottom, layer.top
            net.layer.add(name=layer.name, type="BatchNorm", bottom=[bottom], top=[top])
            scale = net.layer.add(name=f"{layer.name}_s", type="Scale", bottom=[top], top=[top])
            scale.scale_param.bias_term = True
        else:
            net.layer.add().CopyFrom(layer)
    return net


def weights_for_opencv(net, message):
    """Give a net of `message` the parameters of `net`."""
    other = caffe.Net(message, caffe.TEST)
    for name, blobs in net.params.items():
        values = [blob.data.ravel() for blob in blobs]
        if f"{name}_s" in other.params:
            for blob, value in zip(other.params[f"{name}_s"], values[:2], strict=True):
                blob.data[...] = value
            values = [*values[2:], np.ones(1)]
        for blob, value in zip(other.params[name], values, strict=True):
            blob.data.flat = value
    return other


@pytest.mark.parametrize("name", IN_OPENCV)
def test_opencv_computes_the_same(tmp_path, name):
    net, message = filled(name), for_opencv(name)
    prototxt, weights = str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")
    write_text(prototxt, message)
    weights_for_opencv(net, message).save(weights)
    judge = cv2.dnn.readNetFromCaffe(prototxt, weights)
    for input_name in net.inputs:
        judge.setInput(net.blobs[input_name].data, input_name)
    expected = net.forward()
    for output in SHAPES[name]:
        found = judge.forward(output)
        if output == "detection_out":
            found, expected[output] = (sorted_rows(x) for x in (found, expected[output]))
        np.testing.assert_allclose(expected[output], found, rtol=1e-4, atol=1e-4)


def sorted_rows(rows):
    """By score: OpenCV's order among the classes is another."""
    rows = rows[0, 0][rows[0, 0, :, 2] > 0]
    return rows[np.argsort(-rows[:, 2], kind="stable")]


# ---- every tool takes them -------------------------------------------------------------------


@pytest.mark.parametrize("name", fork_nets.NETS)
def test_weights_go_into_files_and_back(tmp_path, name):
    net, path = filled(name), str(tmp_path / "w.caffemodel")
    net.save(path)
    other = caffe.Net(messages()[name], caffe.TEST)
    other.copy_from(path)
    for input_name in net.inputs:
        other.blobs[input_name].data[...] = net.blobs[input_name].data
    for output, values in net.forward().items():
        np.testing.assert_array_equal(other.forward()[output], values)


@pytest.mark.parametrize("name", fork_nets.NETS)
def test_prototxts_are_written_and_read(tmp_path, name):
    path = tmp_path / "net.prototxt"
    write_text(path, messages()[name])
    assert text_format.Parse(path.read_text(), caffe_pb2.NetParameter()) == messages()[name]


@pytest.mark.parametrize("name", fork_nets.NETS)
def test_summarize_draw_and_time(tmp_path, capfd, name):
    path, drawing = str(tmp_path / "net.prototxt"), tmp_path / "net.dot"
    write_text(path, messages()[name])
    assert summarize.main([path]) == 0
    types = {layer.type for layer in messages()[name].layer}
    printed = capfd.readouterr().out
    assert all(type in printed for type in types)
    assert draw_net.main([path, str(drawing)]) == 0
    assert all(f"({type})" in drawing.read_text() or type in drawing.read_text() for type in types)
    if name != "ssd300":  # which takes long
        assert main.main(["time", "-model", path, "-iterations", "1", "-phase", "TEST"]) == 0
    graph = Graph(caffe.Net(path, caffe.TEST))
    assert types <= set(graph.types)


EXPORTED = ["mobilenet_ssd", "ssd300", "pspnet", "senet", "shufflenet"]
UNEXPORTED = {
    "r_fcn": "Proposal has no ONNX form",
    "faster_rcnn": "Python has no ONNX form",
    "segnet": "pool1.*2 tops",
    "yolo_v3": "Yolov3DetectionOutput has no ONNX form",
    "conv_lstm": "ConvLSTM has no ONNX form",
    "text_boxes": "use_polygon",
    "ms_cnn": "BoxOutput has no ONNX form",
    "ctpn": "Transpose|Lstm has no ONNX form",
}


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_nets_compute_the_same(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = filled(name)
    model = export_onnx.to_onnx(net).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = SHAPES[name]
    found = session.run([output], {"data": net.blobs["data"].data})[0]
    np.testing.assert_allclose(net.forward()[output], found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", UNEXPORTED)
def test_what_cannot_be_exported_is_named(name):
    with pytest.raises(caffe.LayerError, match=UNEXPORTED[name]):
        export_onnx.to_onnx(filled(name))


LAYERS = """
layer { name: "dw" type: "ConvolutionDepthwise" bottom: "data" top: "dw" convolution_param {
        num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BN" bottom: "dw" top: "bn" bn_param { momentum: 0.9 } }
layer { name: "mixed" type: "ShuffleChannel" bottom: "bn" top: "mixed"
        shuffle_channel_param { group: 3 } }
"""
CONV = 'layer { name: "conv1" type: "Convolution" bottom: "'


def with_forks(text):
    """The net of a classifier with layers of forks below its first, and ReLU6 for ReLU."""
    assert f'{CONV}data"' in text
    return text.replace(f'{CONV}data"', f'{LAYERS}{CONV}mixed"').replace('"ReLU"', '"ReLU6"')


def test_a_classifier_is_evaluated_densely(tmp_path):
    """The scores are the mean over crops, each run through the plain net."""
    param = net_param("two", edit=with_forks)
    weights = save_weights(param, tmp_path / "a.caffemodel")
    images = 5 * np.random.RandomState(1).randn(1, 3, CROP + 2 * STRIDE, CROP).astype(np.float32)
    scores = dense.Dense(caffe, param, weights, (3, CROP, CROP)).scores
    crops = [images[:, :, i : i + CROP] for i in (0, STRIDE, 2 * STRIDE)]
    expected = np.mean([scores(crop) for crop in crops], 0)
    np.testing.assert_allclose(scores(images), expected, rtol=1e-5)


def test_a_classifier_is_tested_and_evaluated_by_the_commands(tmp_path, capfd):
    run = make_run(tmp_path / "run", make_data(tmp_path / "data", draw_images(8)), edit=with_forks)
    weights = ["-weights", f"{run}/a_iter_7.caffemodel"]
    test = ["test", "-model", f"{run}/train_val.prototxt", *weights, "-iterations", "2"]
    assert main.main(test) == 0
    accuracy = float(re.search(r"\baccuracy = ([0-9.]+)$", capfd.readouterr().err, re.M)[1])
    error = f"{run}: top-1 error {100 * (1 - accuracy):.2f} %"
    text = evaluate(run, f"{run}@14,18")
    assert f"{run}: top-1 error" in text and "ensemble of 2: " in text
    assert error in evaluate(run)
