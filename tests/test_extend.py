"""A user's own layers and messages: caffe.TensorLayer, caffe.proto.extend, the .proto reader."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_plain.errors import ParseError
from caffe_plain.proto_file import parse

ROOT = Path(__file__).parents[1]
SCHEMA = (ROOT / "python/caffe/proto/caffe.proto").read_text()

EXAMPLE = """
import sys, numpy as np, torch
sys.path.insert(0, sys.argv[1])
import own_layer, caffe
from google.protobuf import text_format
from caffe.proto import caffe_pb2

x = np.random.RandomState(0).randn(2, 3, 4, 4).astype(np.float32)
param = caffe_pb2.NetParameter()
text_format.Parse(open(sys.argv[1] + "/net.prototxt").read(), param)
param.force_backward = True
net = caffe.Net(param, caffe.TRAIN)
net.blobs["x"].data[...] = x
loss = float(net.forward()["loss"])
net.backward()
tx, bias = torch.tensor(x, requires_grad=True), torch.full((3,), 0.5, requires_grad=True)
expected = (tx * torch.sigmoid(2 * tx + bias.view(1, 3, 1, 1))).sum()
expected.backward()
assert abs(loss - float(expected)) < 1e-3
np.testing.assert_allclose(net.blobs["x"].diff, tx.grad, atol=1e-5)
np.testing.assert_allclose(net.params["gate"][0].diff, bias.grad, atol=1e-4)

net.params["gate"][0].data[...] = [1, 2, 3]
net.save(sys.argv[2])
saved = caffe_pb2.NetParameter.FromString(open(sys.argv[2], "rb").read())
assert saved.layer[1].gate_param.slope == 2
again = caffe.Net(param, caffe.TEST, weights=sys.argv[2])
assert list(again.params["gate"][0].data) == [1, 2, 3]

n = caffe.NetSpec()
n.x = caffe.layers.Input(shape=dict(dim=[1, 3]))
n.y = caffe.layers.Gate(n.x, gate_param=dict(slope=4))
n.z = caffe.layers.Gate(n.y, slope=3)
assert [layer.gate_param.slope for layer in n.to_proto().layer[1:]] == [4, 3]

caffe.proto.extend(sys.argv[1] + "/gate.proto")  # the same again changes nothing
for text, hint in (
    ("message GateParameter { optional float other = 1; }", "gate.proto"),
    ("message P {} extend LayerParameter { optional P p_param = 5000; }", "gate_param"),
    ("message P {} extend LayerParameter { optional P relu_param = 5001; }", "caffe.proto"),
):
    open(sys.argv[2] + ".proto", "w").write(text)
    try:
        caffe.proto.extend(sys.argv[2] + ".proto")
    except caffe.ParseError as error:
        assert hint in str(error), error
    else:
        raise AssertionError(text)
own_layer.main()

open(sys.argv[2] + ".proto", "w").write(
    "message PermuteParameter { optional float tilt = 1; }"
    "extend LayerParameter { optional PermuteParameter permute_param = 5002; }"
)
caffe.proto.extend(sys.argv[2] + ".proto")  # in the place of SSD's
text_format.Parse("layer { permute_param { tilt: 2 } }", caffe_pb2.NetParameter())
caffe.register_layer(type("Reorg", (caffe.TensorLayer,), {}), param="reorg_param")
print("all well")
"""


def test_the_example_of_a_layer_of_ones_own(tmp_path):
    """In its own process, because `extend` changes the schema. Compared with autograd."""
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE, ROOT / "examples/own_layer", tmp_path / "w.caffemodel"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "all well" in done.stdout, done.stderr[-2000:]
    backward, quotient = re.findall(r"  by .* (\d+\.\d+)$", done.stdout, re.M)
    assert float(backward) == pytest.approx(float(quotient), rel=1e-3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("message A {\n optional int32 a = 1\n}", "x.proto:3: expected ';'"),
        ("message A {\n optional Missing a = 1;\n}", "x.proto:2: .*unknown type 'Missing'"),
        ("message A {\n optional int32 a = 1;\n optional int32 b = 1;\n}", "x.proto:3: .*collides"),
        ("message A {\n", "x.proto:2: .*end of the file"),
        ("message A {}\nmessage A {}", "x.proto:2: 'A' is defined twice"),
        ("\nservice S {}", "x.proto:2: 'service' is not supported"),
        ("message A {\n map<int32, int32> a = 1;\n}", "x.proto:2: 'map' is not supported"),
        ("message A {\n optional group B = 1 {}\n}", "x.proto:2: 'group' is not supported"),
        ('syntax = "proto3";', "x.proto:1: expected '\"proto2\"'"),
        ("message A { optional int32 a = x; }", "x.proto:1: expected a number"),
        ("message A { optional int32 a = 0; }", "x.proto:1: the number 0 is outside"),
        ("enum E {\n}", "x.proto:2: the enum 'E' has no values"),
        ("message A {\n ?", "x.proto:2: unexpected '\\?'"),
    ],
)
def test_what_the_reader_cannot_read_is_an_error_with_its_line(text, message):
    with pytest.raises(ParseError, match=message):
        parse(text, "x.proto")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_schema_is_read_or_refused(seed):
    draw = random.Random(seed)
    text = SCHEMA
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(text))
        end = start + draw.choice((0, 1, 1, 5, 200))
        text = text[:start] + draw.choice(("", "{", "}", ";", "=", '"', "[", "7", "é")) + text[end:]
    try:
        parse(text, "damaged.proto")
    except ParseError as error:
        assert str(error).startswith("damaged.proto:")
