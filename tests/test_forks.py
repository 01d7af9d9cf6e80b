"""What forks of Caffe add to its messages: read by name, told by whose they are."""

import re
import warnings
from functools import cache
from pathlib import Path

import pytest
from google.protobuf import text_format

import caffe
import catalogue_cases
from caffe import layer
from caffe.files import text
from caffe.files.upgrade import upgrade_net
from caffe.proto import caffe_pb2
from caffe.proto.forks import is_private, known_from
from caffe_plain.errors import LayerError, ParseError, UnknownNameError

ROOT = Path(__file__).parents[1]
FACTS = ROOT.parent / "shared" / "design" / "fork_schema.tsv"
PROTO = ROOT / "python/caffe/proto/forks.proto"

SSD = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "prior" type: "PriorBox" bottom: "data" bottom: "data" top: "prior" prior_box_param {
  min_size: 4 max_size: 6 aspect_ratio: 2 flip: true clip: false variance: 0.1 variance: 0.2 } }
layer { name: "out" type: "DetectionOutput" detection_output_param { num_classes: 3
  nms_param { nms_threshold: 0.45 top_k: 400 } code_type: CENTER_SIZE save_output_param {
  resize_param { resize_mode: WARP interp_mode: LINEAR interp_mode: AREA } } keep_top_k: 200 } }
"""


def net_of(content):
    return upgrade_net(text.parse_text(content, caffe_pb2.NetParameter()))


def test_names_nested_messages_and_enums_of_forks_are_read_and_written():
    net = net_of(SSD)
    assert net.layer[1].prior_box_param.min_size == [4]
    output = net.layer[2].detection_output_param
    assert output.code_type == caffe_pb2.PriorBoxParameter.CENTER_SIZE
    assert output.nms_param.top_k == 400 and output.nms_param.eta == 1
    assert text_format.Parse(text_format.MessageToString(net), caffe_pb2.NetParameter()) == net


def test_a_forks_binary_gives_name_type_and_blobs_only():
    """prior_box_param is field 203 of SSD, bn_param 137 of NVCaffe: embed_param of Caffe."""
    layer = caffe_pb2.LayerParameter(name="bn", type="BN", bottom=["x"])
    layer.blobs.add(shape=caffe_pb2.BlobShape(dim=[1]), data=[2])
    blob = layer.SerializeToString()
    foreign = blob + b"\xda\x0c\x05\x0d\x00\x00\x80\x40" + b"\xca\x08\x05\x1d\x00\x00\x00\x3f"
    found = caffe_pb2.LayerParameter.FromString(foreign)
    assert (found.name, found.type, list(found.blobs[0].data)) == ("bn", "BN", [2])
    assert not found.HasField("prior_box_param") and not found.HasField("bn_param")


def test_a_forks_number_is_not_read_as_a_field_of_caffe(tmp_path):
    """psroi_pooling_param = 148 of R-FCN, spatial_scale 0.5 and output_dim 2, is no clip_param."""
    psroi = caffe_pb2.LayerParameter(name="p", type="PSROIPooling", top=["y"]).SerializeToString()
    psroi += b"\xa2\x09\x07\x0d\x00\x00\x00\x3f\x10\x02"
    clip = caffe_pb2.LayerParameter(name="c", type="Clip", clip_param={"min": 0, "max": 1})
    path = tmp_path / "net.caffemodel"
    layers = [psroi, clip.SerializeToString()]
    path.write_bytes(b"".join(b"\xa2\x06" + bytes([len(x)]) + x for x in layers))
    net = text.read_binary(path, caffe_pb2.NetParameter())
    assert (net.layer[0].type, list(net.layer[0].top)) == ("PSROIPooling", ["y"])
    assert not net.layer[0].HasField("clip_param") and net.layer[1] == clip


@pytest.mark.parametrize(
    "written, plain",
    [
        ("pooling_param { ceil_mode: false }", "pooling_param { round_mode: FLOOR }"),
        ("pooling_param { ceil_mode: true }", "pooling_param { round_mode: CEIL }"),
        ("convolution_param { hole: 2 }", "convolution_param { dilation: 2 }"),
        ("convolution_param { hole_h: 2 }", "convolution_param { dilation: 2 dilation: 1 }"),
    ],
)
def test_what_caffe_spells_otherwise_is_respelled(written, plain):
    assert net_of(f"layer {{ {written} }}") == net_of(f"layer {{ {plain} }}")


@pytest.mark.parametrize(
    "written, names",
    [
        ("default_forward_type: FLOAT16", "NetParameter.default_forward_type"),
        ("layer { forward_math: FLOAT }", "LayerParameter.forward_math"),
        (
            "layer { data_param { cache: true shuffle: false threads: 2 } }",
            "DataParameter.cache, DataP.*shuffle, DataP.*threads",
        ),
        ("layer { convolution_param { engine: MKLDNN } }", "ConvolutionParameter.engine"),
        ("layer { relu_param { fuse: true } }", "ReLUParameter.fuse"),
        ("layer { deletetop: true }", "LayerParameter.deletetop"),
    ],
)
def test_what_concerns_speed_only_is_named_once(written, names):
    with pytest.warns(UserWarning, match=f"^{names}: accepted without effect"):
        net = net_of(written)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upgrade_net(net) == net


def test_a_shuffle_that_is_not_done_is_said():
    with pytest.warns(UserWarning, match="shuffle: true }: not supported; .* -shuffle"):
        net = net_of("layer { data_param { shuffle: true } }")
    assert not net.layer[0].data_param.HasField("shuffle")


REFUSED = {
    'type: "ReLU" bottom: "data" top: "r" transform_param { resize_param { height: 3 } }': (
        "TransformationParameter.resize_param changes .* known from .*SSD"
    ),
    'type: "Accum" bottom: "data" top: "p"': "type 'Accum'; Accum is known from .*flownet2",
}


@pytest.mark.parametrize("layer", REFUSED)
def test_what_changes_results_and_is_not_done_is_refused(layer):
    net = text.parse_text(SSD.partition('layer { name: "prior"')[0], caffe_pb2.NetParameter())
    text_format.Merge(f'layer {{ name: "l" {layer} }}', net)
    with pytest.raises((LayerError, UnknownNameError), match=f"layer 'l'.*{REFUSED[layer]}"):
        caffe.Net(net, caffe.TEST)


def test_an_unknown_field_names_the_fork(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("layer { upsample_param { fast: true } data_param { is_augmented: true } }")
    with pytest.raises(ParseError, match='UpsampleParameter" has no field named "fast"'):
        text.read_net(path)
    path.write_text("layer { name: 'l' type: 'Silence' accum_param { a: [1] } }")
    with pytest.raises(LayerError, match="'l' .Silence.: accum_param is known from .*flownet2, "):
        caffe.Net(str(path), caffe.TEST)


def test_what_the_phase_leaves_out_refuses_no_net(tmp_path):
    """As in test nets that hold the losses they were trained with."""
    path = tmp_path / "net.prototxt"
    path.write_text(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "loss" type: "MMDLoss" bottom: "x" top: "loss" include { phase: TRAIN }
          mmd_param { kernel_mul: 2.0 kernels { sigma: 1 } } }
        layer { name: "y" type: "ReLU" bottom: "x" top: "y" }"""
    )
    assert list(caffe.Net(str(path), caffe.TEST).blobs) == ["x", "y"]
    read = text.read_net(path)
    assert text_format.Parse(text_format.MessageToString(read), caffe_pb2.NetParameter()) == read
    with pytest.raises(UnknownNameError, match="layer 'loss': unknown layer type 'MMDLoss'"):
        caffe.Net(str(path), caffe.TRAIN)


def test_pre_fixed_divides_by_its_number():
    scores = 'layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param {\
        shape { dim: 4 dim: 3 } shape { dim: 4 } } }'
    loss = 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "l" loss_param {\
        normalization: %s } }'
    found = [
        float(caffe.Net(net_of(scores + loss % mode), caffe.TRAIN).forward()["l"])
        for mode in ("NONE", "PRE_FIXED pre_fixed_normalizer: 128")
    ]
    assert found[1] == pytest.approx(found[0] / 128)


@cache
def fork_types():
    """The types that the catalogue of forks registers."""
    found = {name: layer.class_of(name) for name in caffe.layer_type_list()}
    return {name for name, cls in found.items() if ".forks." in cls.__module__}


def test_every_type_has_rows_in_the_catalogue_tests():
    rows = {case.type for cases in catalogue_cases.cases().values() for case in cases}
    rows |= {row[0] for table in catalogue_cases.cases("DATA").values() for row in table}
    assert len(fork_types()) >= 35 and not fork_types() - rows


def test_every_type_refuses_something_in_the_catalogue_tests():
    refused = {row[0] for table in catalogue_cases.cases("REFUSED").values() for row in table}
    assert fork_types() - refused == {"ReLU6"}  # which takes anything


def test_every_type_has_its_line_in_the_docs():
    text = (ROOT / "python/caffe/catalogue/forks/README.md").read_text()
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for line in lines for name in re.findall(r"`(\w+)`", line)}
    assert not fork_types() - named


# ---- the schema's own files ------------------------------------------------------------------


def facts():
    if not FACTS.exists():
        pytest.skip("no ../shared")
    return [line.split("\t") for line in FACTS.read_text().splitlines() if line[0] != "#"]


def test_no_fork_has_a_number_in_the_private_range():
    numbers = {int(n) for row in facts() for n in re.findall(r"(\d+)(?:\(x\d+\))?", row[3])}
    assert numbers and not any(70001 <= number < 71001 for number in numbers)


def test_every_message_has_the_fields_of_all_forks():
    """Of the messages that are known; in types, and in defaults where all forks agree."""
    rows, missing = facts(), []
    for message, label, name, _, _, default, _ in rows:
        known = getattr(caffe_pb2, message, None)
        if message == "LayerParameter" or known is None or label == "enum":
            continue
        field = known.DESCRIPTOR.fields_by_name.get(name)
        agree = len({row[5] for row in rows if row[0] == message and row[2] == name}) == 1
        if field is None:
            missing.append(f"{message}.{name}")
        elif default and agree and not field.enum_type and field.has_default_value:
            read = {"true": True, "false": False}.get(default, default.strip('"'))
            kind = type(field.default_value)
            assert field.default_value == pytest.approx(kind(read))
    assert set(missing) == LEFT_OUT


# of databases of oriented boxes and lanes, and the noise layer of caffe-windows
LEFT_OUT = {
    "AnnotatedDatum.record_id",
    "Annotation.oriented_bbox",
    "Annotation.rbox",
    "Annotation.lanes",
    "Annotation.polygon",
    "NoiseParameter.gaussian_std",
    "NoiseParameter.uniform_range",
    "NoiseParameter.bias",
}


def test_records_of_databases_have_the_forks_own_numbers():
    for message, _, name, number, _, _, _ in facts():
        if message in ("AnnotatedDatum", "AnnotationGroup", "Annotation", "NormalizedBBox"):
            field = getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name.get(name)
            assert field is None or field.number == int(number)


def test_every_field_of_forks_is_known_by_its_fork():
    for row in facts():
        if row[0] == "LayerParameter" and row[2] not in ("layer", "type", "lstm_param"):
            assert row[2] == "blob_share_mode" or known_from(row[2])


def test_bvlc_messages_keep_their_numbers():
    """forks.proto adds to them only in its own range."""
    for name, message in caffe_pb2.DESCRIPTOR.message_types_by_name.items():
        in_caffe = re.search(rf"^message {name} ", (PROTO.parent / "caffe.proto").read_text(), re.M)
        if in_caffe:
            continued = PROTO.read_text().partition(f"\nmessage {name} {{")[2].partition("\n}")[0]
            added = re.findall(r"(\w+) = (\d+)", continued)
            mine = {f.name for f in message.fields if is_private(f)}
            assert mine == {n for n, number in added if n in message.fields_by_name}, name
