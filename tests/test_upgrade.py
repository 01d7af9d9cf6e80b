"""Old nets and solvers against BVLC Caffe's own upgrade tools (tests/oracle/record_upgrades.py)."""

import json
import os
import re
from pathlib import Path

import pytest

from caffe.files import text
from caffe.files.upgrade import upgrade_net, upgrade_solver
from caffe.proto import caffe_pb2
from caffe_plain.errors import ParseError

UPGRADE = Path(__file__).parent / "golden" / "upgrade"
OLD = sorted(UPGRADE.glob("*.old.prototxt"))

# What Caffe ends the process for, and what is said here.
REFUSED = {
    "both_layer_and_layers": "both 'layer' (current) and 'layers' (old)",
    "padding_into_relu": "layer 'relu': padding layer 'pad' can feed only a conv or pool layer",
    "padding_into_two_bottoms": "found 'conv' with 2",
    "padding_with_two_tops": "layer 'pad': a padding layer has 1 bottom and 1 top, found 1 and 2",
    "solver_two_types": "both 'type' (current) and 'solver_type' (old)",
    "unknown_v0_bottom": "layer 'conv': unknown bottom 'X'; known are: x",
    "unknown_v0_type": "layer 'a': unknown V0 type 'convolution'; did you mean 'conv'?",
}


def read(path):
    if "solver" in path.name:
        return text.read_text(path, caffe_pb2.SolverParameter()), upgrade_solver
    return text.read_text(path, caffe_pb2.NetParameter()), upgrade_net


def test_every_kind_of_old_file_is_recorded():
    refused = {
        path.name.split(".")[0][len("refused_") :]
        for path in OLD
        if path.name.startswith("refused_")
    }
    assert refused == set(REFUSED)
    assert len(OLD) - len(refused) == len(list(UPGRADE.glob("*.new.prototxt")))


@pytest.mark.filterwarnings("ignore:layer .* a V0 layer of type")
@pytest.mark.parametrize(
    "path", [path for path in OLD if "refused_" not in path.name], ids=lambda path: path.name
)
def test_upgrade_is_caffes(path):
    old, upgrade = read(path)
    before = old.SerializeToString()
    new = upgrade(old)
    assert old.SerializeToString() == before
    golden, _ = read(path.with_name(path.name.replace(".old.", ".new.")))
    assert new == golden
    assert upgrade(new) == new


@pytest.mark.parametrize("name", REFUSED)
def test_what_caffe_refuses(name):
    old, upgrade = read(UPGRADE / f"refused_{name}.old.prototxt")
    with pytest.raises(ParseError, match=re.escape(REFUSED[name])):
        upgrade(old)


def test_every_old_type_is_covered():
    net = text.read_text(UPGRADE / "v1_all_types.old.prototxt", caffe_pb2.NetParameter())
    kinds = caffe_pb2.V1LayerParameter.LayerType
    assert {layer.type for layer in net.layers} == set(kinds.values())


def test_misplaced_v0_fields_are_left_out_with_a_warning():
    net = text.parse_text(
        'layers { layer { name: "r" type: "relu" pad: 1 } }', caffe_pb2.NetParameter()
    )
    with pytest.warns(UserWarning, match="layer 'r': a V0 layer of type 'relu' has no 'pad'"):
        upgraded = upgrade_net(net)
    assert str(upgraded) == 'layer {\n  name: "r"\n  type: "ReLU"\n}\n'


@pytest.mark.parametrize(
    "path, prefix, expected", json.loads((UPGRADE / "snapshot_prefix.json").read_text())
)
def test_where_snapshots_go(tmp_path, monkeypatch, path, prefix, expected):
    monkeypatch.chdir(tmp_path)
    os.mkdir("sub")
    os.mkdir("snaps")
    Path(path).write_text("net: 'x'" + (f" snapshot_prefix: '{prefix}'" if prefix else ""))
    assert text.read_solver(path).snapshot_prefix == expected
