"""caffe.files.text: prototxts and binary messages, and what is said about bad ones."""

import os
import re
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest

from caffe.files import text
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError, DataError, ParseError
from tests.mutations import mutate

UPGRADE = Path(__file__).parent / "golden" / "upgrade"

# A net that cannot be read, and what its error says after the file's name.
BAD_NETS = [
    (
        "layer { nam: 'x' }",
        r':1:9: .*LayerParameter" has no field named "nam"; '
        r"did you mean 'name'",
    ),
    ("\nlayer {\n  num_output: 3 }", r":3:3: .*; it is a field of convolution_param, .*inner_pro"),
    ("layer { name: 'a' layer { name: 'b' } }", r":1:19: .*belongs to NetParameter.*} missing"),
    ("layer { pooling_param { pool: MX } }", r":1:31: .*no value named MX; did you mean .*MAX"),
    ("layers { type: 'ReLU' }", r":1:16: .*; write it without quotes; did you mean 'RELU'"),
    ("layer { type: RELU }", r":1:15: Expected string.*'RELU'; put text in quotes"),
    ("layer { pooling_param { pool: 7 } }", r":1:31: .*no value with number 7"),
    ("layer { name: 'a'", r":1:15: .*; a closing } is missing"),
    ("layer { } }", r":1:11: .*; there is one } too many"),
    ("layer: 1", r":1:8: .*; a message is written as name { ... }"),
    ("name 'x'", r":1:6: .*; a value is written as name: value"),
    ("name: 'x\n'", r":1:7: String missing ending quote.*; close the quote on the same line"),
    ("name: 'a'\nname: 'b'", r':2:\d+: .*multiple "name" fields; keep one of them'),
    ("input_dim: 1e5", r":1:12: Couldn't parse integer: 1e5; write a whole number"),
    ("input_dim: 99999999999", r":1:12: Value out of range: 99999999999; "),
    ("layer { convolution_param { pad: -1 } }", r":1:34: Value out of range: -1; .*non-negative"),
    ("layer { loss_weight: x }", r":1:22: Couldn't parse float: x; write a number"),
    ("force_backward: maybe", r":1:17: .*; write true or false"),
    ("layer { clip_param { min: 1 } }", r": required fields are missing: .*\.clip_param\.max"),
    ("input_dim: 1\ninput_dim: +2", r":2:12: Expected a value, found \+; .* without it"),
    ("input_dim: 1_0", r":1:12: Couldn't parse number: 1_0; write digits"),
    ("# \\z é\nname: '\\\\ \\z'", r":2:7: Invalid escape \\z in .*; write a backslash as \\\\$"),
    ("name:\u00a0'a'", r":1:6: Unexpected character '\\xa0'; text goes in quotes"),
    ("<!DOCTYPE html>", r":1:1: Expected identifier"),
    ("", r": empty; expected a NetParameter"),
    ("# nothing\n  \n", r": empty; expected a NetParameter"),
    (b"name: '\xe9'", r":1:8: not UTF-8 .*; save the file as UTF-8"),
    (b"# \xe9\nname: 'a#b' name: \xff", r":2:19: not UTF-8"),
    (b"\n\x0cResNet\xa2\x06\0", r": a binary file, where a text file \(prototxt\)"),
    ("input: 'x' input_dim: 1", r": 1 inputs need 4 input_dim, found 1; give 4 for each"),
    ("input: 'x' input: 'y' input_shape { }", r": 2 inputs need 2 input_shape, found 1"),
    ("layers { type: RELU } layers { layer { type: 'relu' } }", r": layer '': V1 and V0 .*mixed"),
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("content, message", BAD_NETS)
def test_a_bad_net_is_named_with_its_place_and_cure(tmp_path, content, message):
    path = write(tmp_path / "net.prototxt", content)
    with pytest.raises(ParseError, match="^" + re.escape(str(path)) + message):
        text.read_net(path)


@pytest.mark.parametrize(
    "read",
    [text.read_net, text.read_solver, lambda p: text.read_binary(p, caffe_pb2.NetParameter())],
)
def test_files_that_cannot_be_opened(tmp_path, read):
    with pytest.raises(ParseError, match=r"none.prototxt: cannot be read: No such file"):
        read(tmp_path / "none.prototxt")
    with pytest.raises(ParseError, match=r"cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(ParseError, match=r"not a file name"):
        read("a\0b")


def test_binary_message_round_trip_and_errors(tmp_path):
    message = caffe_pb2.Datum(channels=3, data=b"abc", float_data=[1.5])
    path = write(tmp_path / "datum", message.SerializeToString())
    assert text.read_binary(path, caffe_pb2.Datum()) == message
    with pytest.raises(ParseError, match="damaged or cut short"):
        text.read_binary(write(path, b"\x22\x05a\0"), caffe_pb2.Datum())
    with pytest.raises(ParseError, match=r"not a binary NetParameter .*a text file\?"):
        text.read_binary(write(path, "name: 'x'"), caffe_pb2.NetParameter())
    clip = b"\xa2\x06\x04\xa2\x09\x01\x00"
    with pytest.raises(ParseError):
        text.read_binary(write(path, clip), caffe_pb2.NetParameter())


def test_forms_of_text_that_caffe_takes(tmp_path):
    byte_order_mark = b"\xef\xbb\xbf"  # the one thing here that Caffe does not take
    net = text.read_net(
        write(
            tmp_path / "net",
            byte_order_mark + b"# in Latin-1: \xe9\nname: \"a#\" 'b'\n"
            b"input: 'x'; input_shape < dim: [1, 0x10], dim: 010 >\n"
            b"layer { loss_weight: 1.5f loss_weight: .5 loss_weight: 1. phase: 1 } # \xff",
        )
    )
    assert net.name == "a#b"
    assert list(net.layer[0].input_param.shape[0].dim) == [1, 16, 8]
    assert list(net.layer[1].loss_weight) == [1.5, 0.5, 1]
    assert net.layer[1].phase == caffe_pb2.TEST


@pytest.mark.parametrize(
    "what, spelled, value",
    [
        ("shift", "- 2", -2),
        ("shift", "-\n2", -2),
        ("shift", "- # {\n 2.5", -2.5),
        ("shift", "-  inf", -np.inf),
        ("shift", "-2", -2),
        ("bias_term", "01", True),
        ("bias_term", "0x1", True),
        ("bias_term", "0x0", False),
        ("bias_term", "00", False),
        ("operation", "01", caffe_pb2.EltwiseParameter.SUM),
        ("operation", "02", caffe_pb2.EltwiseParameter.MAX),
        ("name", r'"a\?b"', "a?b"),
        ("name", r"'\\? - 2 01'", r"\? - 2 01"),
        ("name", r'"\400\501"', "\0A"),
        ("name", r'"\ud83d\ude00" "\u00e9"', "\U0001f600é"),
    ],
)
def test_spellings_that_caffe_takes(what, spelled, value):
    """Each value is what BVLC Caffe 1.0 made of it."""
    homes = {
        "shift": "power_param",
        "bias_term": "inner_product_param",
        "operation": "eltwise_param",
    }
    field = f"{what}: {spelled} # - 1"
    block = f"{homes[what]} {{ {field}\n}}" if what in homes else field
    layer = text.parse_text(f"layer {{ {block}\n}}", caffe_pb2.NetParameter()).layer[0]
    assert getattr(getattr(layer, homes[what]) if what in homes else layer, what) == value


@pytest.mark.parametrize("spelled", ["010", "0x10", "08", "--2", "- -2", '-"a"', "1e"])
def test_spellings_of_a_float_that_caffe_refuses(spelled):
    with pytest.raises(ParseError):
        text.parse_text(f"layer {{ power_param {{ shift: {spelled} }} }}", caffe_pb2.NetParameter())


def test_read_net_leaves_a_message_as_it_is():
    old = caffe_pb2.NetParameter(input=["x"], input_dim=[1, 2, 3, 4])
    before = old.SerializeToString()
    new = text.read_net(old)
    assert new.layer[0].type == "Input"
    assert old.SerializeToString() == before


def test_write_text_is_whole_or_not_at_all(tmp_path):
    net = text.read_net(UPGRADE / "v1_all_types.old.prototxt")
    target, link = tmp_path / "real.prototxt", tmp_path / "link.prototxt"
    link.symlink_to(target)
    mask = os.umask(0o027)
    try:
        text.write_text(link, net)
    finally:
        os.umask(mask)
    assert text.read_net(target) == net
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    with pytest.raises(
        DataError,
        match=r"none/net: cannot write [\d,]+ bytes: No such file.*; "
        r"make the folder .*none first",
    ):
        text.write_text(tmp_path / "none" / "net", net)
    with pytest.raises(DataError, match=r"cannot write [\d,]+ bytes: this is a folder"):
        text.write_text(tmp_path, net)
    assert {path.name for path in tmp_path.iterdir()} == {"real.prototxt", "link.prototxt"}


def test_mutated_prototxts_give_only_the_projects_errors(tmp_path):
    rng = np.random.default_rng(0)
    sources = sorted(UPGRADE.glob("*.prototxt"))
    path, refused = tmp_path / "net", 0
    for _ in range(500):
        source = sources[rng.integers(len(sources))]
        read = text.read_solver if "solver" in source.name else text.read_net
        path.write_bytes(mutate(rng, source.read_bytes()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # misplaced fields of V0 layers
            try:
                read(path)
            except CaffeError as error:
                assert str(path) in str(error)
                refused += 1
    assert refused > 250
