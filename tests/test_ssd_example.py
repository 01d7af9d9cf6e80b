"""The example of SSD: its nets, and that the small one learns to detect drawn shapes."""

import runpy
from pathlib import Path
from unittest import mock

import pytest

import caffe
from caffe.command import summarize
from caffe.files.text import parse_text, read_net
from caffe.proto import caffe_pb2
from relaybp.data_prep import convert_annoset, demo_detection

SSD = runpy.run_path(str(Path(__file__).parents[1] / "examples/ssd/ssd.py"))


def make(folder, images, iterations, tests=8):
    one_process = mock.patch.object(
        convert_annoset, "process_map", lambda f, paths, _: map(f, paths)
    )
    with one_process:
        demo_detection.make_demo(folder / "data", images, tests, 96)
    SSD["main"]([f"--iterations={iterations}", f"{folder}/data", f"{folder}/out"])
    return caffe.get_solver(f"{folder}/out/solver.prototxt")


def test_the_small_net_trains_and_is_tested(tmp_path, capsys):
    solver = make(tmp_path, 16, 2, 4)
    solver.param.test_interval = 99
    assert "small, 4 classes, 12 kinds of prior boxes" in capsys.readouterr().out
    solver.step(2)
    assert 0 < float(solver.net.blobs["mbox_loss"].data) < 30
    assert 0 <= float(solver.test()["detection_eval"]) <= 1
    deploy = caffe.Net(f"{tmp_path}/out/deploy.prototxt", caffe.TEST)
    assert set(deploy.params) == set(solver.net.params)
    assert deploy.forward()["detection_out"].shape[3] == 7


def test_ssd300_has_its_8732_prior_boxes(tmp_path):
    """38^2 x 4 + 19^2 x 6 + 10^2 x 6 + 5^2 x 6 + 3^2 x 4 + 1 x 4; the layers' names are SSD's."""
    trunk = SSD["TRUNKS"]["vgg16"]
    path = tmp_path / "deploy.prototxt"
    path.write_text(SSD["net"](trunk, 21, "deploy"))
    net = caffe.Net(read_net(path), caffe.TEST)
    assert net.blobs["mbox_priorbox"].shape == (1, 2, 4 * 8732)
    assert net.blobs["mbox_loc"].shape == (1, 4 * 8732)
    assert net.blobs["mbox_conf"].shape == (1, 21 * 8732)
    names = "conv1_1 conv5_3 fc6 fc7 conv6_2 conv9_2 conv4_3_norm fc7_mbox_conf"
    assert set(names.split()) <= set(net.params)


@pytest.mark.heavy
def test_the_small_net_learns(tmp_path):
    solver = make(tmp_path, 300, 800, 64)
    solver.step(800)
    assert float(solver.test()["detection_eval"]) > 0.4  # 0.55 in benchmarks/results/ssd.md


@pytest.mark.parametrize(
    "layer, shapes",
    [
        ('type: "AnnotatedData" top: "a" top: "b"', [[2, 3, 8, 9], [1, 1, 1, 8]]),
        ('type: "DenseImageData" top: "a" top: "b"', [[2, 3, 8, 9], [2, 1, 8, 9]]),
        (
            'type: "ImageSegData" top: "a" top: "b" top: "c"',
            [[2, 3, 8, 9], [2, 1, 8, 9], [2, 1, 1, 2]],
        ),
    ],
)
def test_a_summary_needs_no_data_of_forks(layer, shapes):
    param = parse_text(f"layer {{ {layer} }}", caffe_pb2.NetParameter())
    made = summarize.with_input(param, "2,3,8,9").layer[0]
    assert [list(shape.dim) for shape in made.input_param.shape] == shapes
