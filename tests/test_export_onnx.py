"""Exported nets under onnxruntime give what the engine gives."""

from pathlib import Path

import numpy as np
import pytest

import caffe
import deploy_nets
from caffe.files.text import read_net

onnxruntime = pytest.importorskip("onnxruntime")

import test_export_forks  # noqa: E402
from relaybp.commands import export_onnx, onnx_layers  # noqa: E402

ROOT = Path(__file__).parent.parent


def run(model, inputs):
    """{output: array} of an ONNX model under onnxruntime."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def assert_same(net, model, inputs, rtol=1e-4):
    expected = {name: array.copy() for name, array in net.forward(**inputs).items()}
    found = run(model, inputs)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=rtol, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", deploy_nets.NETS)
def test_nets_compute_the_same(name):
    net = deploy_nets.fill(caffe.Net(deploy_nets.message(deploy_nets.NETS[name]), caffe.TEST))
    assert_same(net, export_onnx.to_onnx(net), {"data": deploy_nets.batch(net)})


def test_the_committed_resnet50_computes_the_same():
    """On small images; the weights are those of its own fillers, its statistics are seeded."""
    param = read_net(str(ROOT / "prototxt" / "resnet50_relay" / "deploy.prototxt"))
    param.layer[0].input_param.shape[0].dim[2:] = [64, 64]
    net = deploy_nets.fill(caffe.Net(param, caffe.TEST))
    for name, blobs in net.params.items():
        if name.startswith("scale") and name.endswith("branch2c"):
            blobs[0].data[...] *= 0.2  # else the values grow from block to block
    assert_same(net, export_onnx.to_onnx(net), {"data": deploy_nets.batch(net)}, rtol=1e-3)


def test_the_batch_is_free():
    net = deploy_nets.fill(caffe.Net(deploy_nets.message(deploy_nets.NETS["resnet"]), caffe.TEST))
    model = export_onnx.to_onnx(net)
    images = np.random.RandomState(3).randn(5, 3, 49, 49).astype(np.float32)
    net.blobs["data"].reshape(*images.shape)
    assert_same(net, model, {"data": images})


def test_the_batch_can_be_fixed():
    net = caffe.Net(deploy_nets.message(deploy_nets.NETS["lenet"]), caffe.TEST)
    model = export_onnx.to_onnx(net, fixed_batch=True)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, 1, 28, 28]


# One layer each, "type options", on bottoms of (2, 4, 7, 6).
CASES = [
    "Convolution convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 "
    "pad_h: 1 pad_w: 0 group: 2 }",
    "Convolution convolution_param { num_output: 3 kernel_size: 3 dilation: 2 bias_term: false }",
    "Deconvolution convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: 2 }",
    "Pooling pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }",
    "Pooling pooling_param { pool: MAX kernel_size: 3 stride: 4 }",
    "Pooling pooling_param { pool: AVE kernel_size: 3 stride: 2 }",
    "Pooling pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }",
    "Pooling pooling_param { pool: AVE kernel_h: 4 kernel_w: 2 stride: 3 pad: 1 }",
    "Pooling pooling_param { pool: MAX global_pooling: true }",
    "ReLU relu_param { negative_slope: 0.1 }",
    "PReLU",
    "PReLU prelu_param { channel_shared: true }",
    "ELU elu_param { alpha: 0.7 }",
    "Sigmoid",
    "TanH",
    "AbsVal",
    "BNLL",
    "Swish swish_param { beta: 1.5 }",
    "Power power_param { power: 2 scale: 3 shift: -1 }",
    "Power power_param { scale: -2 }",
    "Exp",
    "Exp exp_param { base: 2 scale: 0.5 shift: 0.1 }",
    "Log log_param { shift: 3 }",
    "Log log_param { base: 10 scale: 2 shift: 1 }",
    "Clip clip_param { min: -0.5 max: 0.25 }",
    "LRN lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }",
    "BatchNorm batch_norm_param { eps: 0.01 }",
    "BatchNorm",
    "Scale scale_param { bias_term: true }",
    "Scale scale_param { axis: 0 num_axes: 2 }",
    "Scale scale_param { num_axes: 0 }",
    "Bias",
    "Bias bias_param { axis: -1 }",
    "InnerProduct inner_product_param { num_output: 5 }",
    "InnerProduct inner_product_param { num_output: 5 transpose: true bias_term: false }",
    "Flatten",
    "Flatten flatten_param { axis: 2 }",
    "Reshape reshape_param { shape { dim: 0 dim: 2 dim: -1 } }",
    "Reshape reshape_param { shape { dim: 1 dim: -1 } }",
    "Softmax",
    "Softmax softmax_param { axis: -1 }",
    "Dropout",
]
PAIRS = [
    "Eltwise",
    "Eltwise eltwise_param { operation: PROD }",
    "Eltwise eltwise_param { operation: MAX }",
    "Eltwise eltwise_param { coeff: 1 coeff: -2 }",
    "Concat",
    "Concat concat_param { axis: -1 }",
    "Concat concat_param { concat_dim: 2 }",
    "Scale scale_param { axis: 0 }",
    "Crop crop_param { axis: 2 offset: 0 offset: 0 }",
]


def net_of(case, bottoms):
    kind, _, options = case.partition(" ")
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: 2 '
        "dim: 4 dim: 7 dim: 6 } } }"
        for name in bottoms
    )
    bottom = " ".join(f'bottom: "{name}"' for name in bottoms)
    text = f'{inputs} layer {{ name: "layer" type: "{kind}" {bottom} top: "top" {options} }}'
    return deploy_nets.fill(caffe.Net(deploy_nets.message(text), caffe.TEST))


@pytest.mark.parametrize(
    ("case", "bottoms"), [(case, ["a"]) for case in CASES] + [(case, ["a", "b"]) for case in PAIRS]
)
def test_layers_compute_the_same(case, bottoms):
    net = net_of(case, bottoms)
    random = np.random.RandomState(5)
    inputs = {name: random.randn(2, 4, 7, 6).astype(np.float32) for name in bottoms}
    if case.startswith("Log"):
        inputs = {name: np.abs(array) for name, array in inputs.items()}
    assert_same(net, export_onnx.to_onnx(net), inputs)


def test_slices_and_several_outputs():
    net = caffe.Net(
        deploy_nets.message("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 } } }
        layer { name: "slice" type: "Slice" bottom: "data" top: "a" top: "b" top: "c"
                slice_param { axis: 1 slice_point: 1 slice_point: 3 } }
        layer { name: "relu" type: "ReLU" bottom: "b" top: "b" }
        layer { name: "sum" type: "Eltwise" bottom: "b" bottom: "c" top: "sum" }
        layer { name: "silence" type: "Silence" bottom: "a" }
        layer { name: "tanh" type: "TanH" bottom: "sum" top: "tanh" }
        layer { name: "abs" type: "AbsVal" bottom: "sum" top: "abs" }"""),
        caffe.TEST,
    )
    data = np.random.RandomState(0).randn(2, 5).astype(np.float32)
    assert_same(net, export_onnx.to_onnx(net), {"data": data})


def test_every_writer_is_compared():
    compared = {case.partition(" ")[0] for case in CASES + PAIRS}
    elsewhere = {"Slice", "Silence", "Input", "Split", *test_export_forks.COMPARED}
    assert set(onnx_layers.LAYERS) - compared == elsewhere


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("MVN", "layer 'layer': MVN has no ONNX form here; known are: AbsVal"),
        ("LRN lrn_param { norm_region: WITHIN_CHANNEL }", r"\(LRN\): norm_region WITHIN_CHANNEL"),
        ("Pooling pooling_param { pool: STOCHASTIC kernel_size: 2 }", "STOCHASTIC pooling"),
        ("Pooling pooling_param { kernel_size: 2 stride: 3 }", "a window beyond the bottom"),
        ("InnerProduct inner_product_param { num_output: 2 axis: 2 }", "only axis 1"),
    ],
)
def test_what_onnx_lacks_is_named(case, message):
    with pytest.raises(caffe.LayerError, match=message):
        export_onnx.to_onnx(net_of(case, ["a"]))


def test_the_command_writes_a_file(tmp_path, capsys):
    deploy, weights = tmp_path / "deploy.prototxt", tmp_path / "a.caffemodel"
    deploy.write_text(deploy_nets.NETS["lenet"])
    net = deploy_nets.fill(caffe.Net(str(deploy), caffe.TEST))
    net.save(str(weights))
    export_onnx.main([str(deploy), str(weights), str(tmp_path / "net.onnx")])
    assert "inputs ['data'], outputs ['prob']" in capsys.readouterr().out
    model = export_onnx.onnx.load(str(tmp_path / "net.onnx"))
    assert_same(net, model, {"data": deploy_nets.batch(net)})
    with pytest.raises(SystemExit, match="export_onnx: .*none.prototxt: cannot be read"):
        export_onnx.main([str(tmp_path / "none.prototxt"), str(weights), "x.onnx"])
