"""Blocks that no message declares: `caffe.register_layer(Type, param="my_param")`."""

import re

import pytest
from google.protobuf import text_format

import caffe
from caffe.files import text
from caffe.proto import caffe_pb2, raw


@pytest.fixture(autouse=True)
def xyz():
    """A layer type Xyz that scales by its block's `a`; unknown again afterwards."""

    class Xyz(caffe.TensorLayer):
        def forward(self, x):
            return x * self.options.get("a", 1)

    caffe.register_layer(Xyz, param="xyz_param")
    yield Xyz
    raw._names.discard("xyz_param")
    caffe.layer._REGISTRY.pop("Xyz")


INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'


def net_with(tmp_path, block, kind="Xyz"):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + f'layer {{ name: "y" type: "{kind}" bottom: "x" top: "y" {block} }}')
    return path


def options(path):
    return caffe.Net(str(path), caffe.TEST).layers[1].options


@pytest.mark.parametrize(
    "block, expected",
    [
        (
            'xyz_param { a: 1 b: "c" sub { d: true } e: 1 e: 2 }',
            {"a": 1, "b": "c", "sub": {"d": True}, "e": [1, 2]},
        ),
        ("", {}),
        ("xyz_param { }", {}),
        ("xyz_param: < a: -1.5f; m: MAX, n: false >", {"a": -1.5, "m": "MAX", "n": False}),
        (
            "xyz_param { e: [1] e: 2 f: [] s: [{ a: 1 }, { }] }",
            {"e": [1, 2], "f": [], "s": [{"a": 1}, {}]},
        ),
        ("xyz_param # {\n{ # xyz_param { }\n b: 'x}' '\\n\\\"\\101' # }\n }", {"b": 'x}\n"A'}),
        ("xyz_param {\n s { t { u: 0x10 } }\n s { } }", {"s": [{"t": {"u": 16}}, {}]}),
        ("xyz_param { xyz_param { a: 1 } }", {"xyz_param": {"a": 1}}),
        ("xyz_param { inf: inf e: 1e3 w: e1 }", {"inf": float("inf"), "e": 1000.0, "w": "e1"}),
    ],
)
def test_a_block_comes_as_a_dict(tmp_path, block, expected):
    found = options(net_with(tmp_path, block))
    assert found == expected
    assert str(found) == str(expected)  # 1, 1.0 and True are three things
    layer = caffe_pb2.LayerParameter()
    raw.put(layer, "xyz_param", expected)
    assert raw.get(layer, "xyz_param") == expected


def test_a_name_in_a_text_or_comment_is_no_block(tmp_path):
    block = "# xyz_param { a: }\n param { name: 'xyz_param {' }"
    param = text.read_net(net_with(tmp_path, block))
    assert param.layer[1].param[0].name == "xyz_param {"
    assert not param.layer[1].raw_block


@pytest.mark.parametrize(
    "block, message",
    [
        ("xyz_param { a 1 }", r':2:66: Expected ":".*; a value is written as name: value'),
        ("xyz_param {\n a: }", r":3:5: Expected a value"),
        ("xyz_param {\n a: 1", r":3:9: .*; a closing } is missing"),
        ("xyz_param {\n a: 1 } nam: 2", r':3:11: .*no field named "nam"'),
        ("xyz_param { a: 1 } xyz_param { }", r"layer 'y': 2 blocks xyz_param; keep one"),
        ("xyz_param { a: 1 >", r":2:\d+: .*got >"),
        ("abc_param { a: 1 }", r':2:52: .*no field named "abc_param"'),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, block, message):
    with pytest.raises(caffe.ParseError, match=message):
        options(net_with(tmp_path, block))


def test_a_name_that_nobody_registered_is_the_error_it_was(tmp_path):
    raw._names.discard("xyz_param")
    with pytest.raises(caffe.ParseError, match=':2:52: .*no field named "xyz_param"'):
        text.read_net(net_with(tmp_path, "xyz_param { a: 1 }"))
    raw.declare("xyz_param")


def test_a_block_goes_through_every_file(tmp_path):
    n = caffe.NetSpec()
    n.x = caffe.layers.Input(shape={"dim": [2]})
    n.y = caffe.layers.Xyz(n.x, xyz_param={"a": 3, "sub": {"b": 'c"\\\né'}, "e": [1]})
    expected = {"a": 3, "sub": {"b": 'c"\\\né'}, "e": [1]}
    spec, written, weights = (
        tmp_path / name for name in ("s.prototxt", "w.prototxt", "w.caffemodel")
    )
    spec.write_text(str(n.to_proto()))
    text.write_text(written, text.read_net(spec))
    net = caffe.Net(str(written), caffe.TEST)
    assert net.layers[1].options == expected
    net.blobs["x"].data[...] = 2
    assert list(net.forward()["y"]) == [6, 6]
    net.save(str(weights))
    saved = text.read_binary(weights, caffe_pb2.NetParameter())
    assert raw.get(saved.layer[1], "xyz_param") == expected
    again = text_format.Parse(text_format.MessageToString(saved), caffe_pb2.NetParameter())
    assert again == saved


def test_errors_of_names_and_values():
    with pytest.raises(caffe.ParseError, match="'relu_param' is a field of LayerParameter"):
        caffe.register_layer(caffe.TensorLayer, param="relu_param")
    with pytest.raises(caffe.ParseError, match="'a b' cannot name a block"):
        caffe.register_layer(caffe.TensorLayer, param="a b")
    top = caffe.layers.Input()
    for value, message in (
        (7, "takes a dict"),
        ({"a": None}, "None is neither"),
        ({"a b": 1}, "'a b' cannot be a field's name"),
    ):
        with pytest.raises(TypeError, match=re.escape(message)):
            caffe.layers.Xyz(top, xyz_param=value).to_proto()
