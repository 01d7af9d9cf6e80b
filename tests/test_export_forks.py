"""Exported layers of Caffe's forks under onnxruntime give what the engine gives."""

import numpy as np
import pytest

import caffe
import catalogue_cases

onnxruntime = pytest.importorskip("onnxruntime")

from catalogue_judge import make_net  # noqa: E402
from relaybp.commands import export_onnx  # noqa: E402

COMPARED = {
    "DepthwiseConvolution",
    "ConvolutionDepthwise",
    "Permute",
    "ReLU6",
    "ShuffleChannel",
    "Reorg",
    "Axpy",
    "Normalize",
    "PriorBox",
    "BN",
    "Interp",
    "Upsample",
    "ROIPooling",
    "ROIAlign",
    "DetectionOutput",
    "Reverse",
    "Transpose",
}
TYPES = {*COMPARED, "BatchNorm", "Dropout"}
ROWS = catalogue_cases.cases()
FAMILIES = ("forks", "fork_detection", "fork_training")
CASES = [case for family in FAMILIES for case in ROWS[family] if case.type in TYPES]
NO_FORM = {
    "DetectionOutput/refinedet": "RefineDet's bottoms",
    "DetectionOutput/polygons": "use_polygon",
    "ROIPooling/padded": "pad_ratio",
    "Dropout/bayesian": "sample_weights_test",
    "ReLU6/slope": "a negative_slope",
    "Normalize/l1": "normalize_type L1",
    "BN/segnet_learn": "each batch's own statistics",
    "Upsample/segnet": "the mask of SegNet's",
    "Upsample/segnet_pad": "the mask of SegNet's",
    "Upsample/segnet_size": "the mask of SegNet's",
}


def in_test_phase(case):
    case.phase, case.backward = "TEST", None
    net, random = make_net(case), catalogue_cases.random_state(case, 0)
    catalogue_cases.fill_params(net, case, random)
    inputs = {}
    for i, spec in enumerate(case.bottoms):
        shape = catalogue_cases.shape_of(spec)
        inputs[f"bottom{i}"] = catalogue_cases.draw(spec.partition(" ")[2], shape, random)
    return net, inputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_layers_compute_the_same(case):
    net, inputs = in_test_phase(case)
    if case.key in NO_FORM:
        with pytest.raises(caffe.LayerError, match=rf"\({case.type}\): .*{NO_FORM[case.key]}.*has"):
            export_onnx.to_onnx(net)
        return
    model = export_onnx.to_onnx(net)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    used = {put.name for put in session.get_inputs()}
    found = session.run(["top0"], {name: x for name, x in inputs.items() if name in used})[0]
    expected = net.forward(**inputs)["top0"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("type", ["Proposal", "PSROIPooling", "FlowWarp"])
def test_what_onnx_lacks_is_named(type):
    case = next(case for family in FAMILIES for case in ROWS[family] if case.type == type)
    with pytest.raises(caffe.LayerError, match=f"layer 'layer': {type} has no ONNX form here"):
        export_onnx.to_onnx(in_test_phase(case)[0])
