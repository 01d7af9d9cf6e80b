"""Weights in every form that protobuf allows, and in forms that nothing allows."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe.files import weights, wire
from caffe_plain.errors import CaffeError, DataError, ParseError, WeightsError
from tests.mutations import mutate
from tests.wire_bytes import PAIR, doubles, field, floats, model, shape, unpacked, varint

FILES = Path(__file__).parent / "golden" / "files"

LEGAL_BLOBS = {
    "shape before data": (shape(2) + PAIR, [1, 2]),
    "shape after data": (PAIR + shape(1, 2), [[1, 2]]),
    "shape of unpacked dims": (PAIR + field(7, b"\x08\x02\x08\x01"), [[1], [2]]),
    "shape in two parts": (shape(2) + PAIR + shape(1), [[1], [2]]),
    "four axes": (b"\x08\x01\x10\x01\x18\x01\x20\x02" + PAIR, [[[[1, 2]]]]),
    "four axes and shape": (b"\x08\x01\x10\x01\x18\x02\x20\x01" + PAIR + shape(2), [[[[1], [2]]]]),
    "scalar": (field(5, floats(7)), 7),
    "unpacked": (unpacked(1, 2, 3) + shape(3), [1, 2, 3]),
    "in two spans": (PAIR + shape(4) + field(5, floats(3, 4)), [1, 2, 3, 4]),
    "packed, unpacked, packed": (PAIR + unpacked(3) + field(5, floats(4)) + shape(4), [1, 2, 3, 4]),
    "unpacked, then packed": (shape(3) + unpacked(0) + PAIR, [0, 1, 2]),
    "doubles": (field(8, doubles(1e300, 0.5)) + shape(2), [np.inf, 0.5]),
    "doubles win": (PAIR + field(8, doubles(3, 4)) + shape(2), [3, 4]),
    "unpacked double": (b"\x41" + doubles(3) + shape(1), [3]),
    "unknown fields": (
        b"\x98\x06\x05" + PAIR + b"\xad\x06abcd" + field(200, b"x") + shape(2),
        [1, 2],
    ),
    "no values": (shape(2, 0), np.empty((2, 0))),
    "not a number": (field(5, floats(np.nan)) + shape(1), [np.nan]),
    "empty span first": (field(5, b"") + PAIR + shape(2), [1, 2]),
}


@pytest.mark.parametrize("name", LEGAL_BLOBS)
def test_every_legal_form_of_a_blob(tmp_path, name):
    data, expected = LEGAL_BLOBS[name]
    layer = field(7, data) + field(1, b"after the blob") + b"\x50\x01"
    path = tmp_path / "model"
    path.write_bytes(field(1, b"net") + field(100, layer) + field(100, b""))
    (layer_name, (array,)), empty = weights.read_weights(path)
    assert layer_name == "after the blob"
    assert empty == ("", [])
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array(expected, np.float32))
    before = path.read_bytes()
    array += 1
    assert path.read_bytes() == before


# ---- hostile and damaged files -----------------------------------------------------------------

HOSTILE = {
    "cut varint": (b"\xa2", "a number is cut off, at byte 1 of 1"),
    "endless varint": (b"\xa2\x06" + b"\xff" * 11, "more than 10 bytes, at byte 2"),
    "length past the end": (
        b"\xa2\x06\x7f" + b"x" * 9,
        "field 100 is 127 bytes long, 9 are left, at byte 0 of 12",
    ),
    "length of 2^63": (b"\xa2\x06" + varint(1 << 63) + b"x", "is 9,223,372,036,854,775,808 bytes"),
    "group": (b"\xa3\x06", "wire type 3"),
    "field 0": (b"\x00\x00", "field number 0"),
    "layer is a number": (b"\xa0\x06\x05", "wire type 0 where a message"),
    "blob is a number": (field(100, field(1, b"conv") + b"\x38\x05"), "layer 'conv': wire type 0"),
    "inside the layer": (
        field(100, field(1, b"conv") + b"\x3a\x09"),
        "layer 'conv': field 7 is 9 bytes long, 0 are left, at byte 9 of 11",
    ),
    "too few values": (
        model(PAIR + shape(2), PAIR + shape(3)),
        r"layer 'conv', blob 1: shape \(3,\) has 3 .*, 2 are there, at byte 28 ",
    ),
    "too many values": (model(PAIR), r"shape \(\) has 1 values, 2 are there"),
    "no data": (model(shape(2)), r"shape \(2,\), but no data"),
    "negative": (model(PAIR + shape(-1, -2)), r"shape \(-1, -2\) has a negative dimension"),
    "negative num": (model(b"\x08" + varint(-2) + PAIR), "negative dimension"),
    "2^60": (model(PAIR + shape(1 << 60)), "has 1,152,921,504,606,846,976 values, 2 are there"),
    "2^60 twice": (model(PAIR + shape(1 << 60, 1 << 60)), "values, 2 are there"),
    "0 times 2^60": (model(shape(0, 1 << 60, 1 << 60)), "array is too big"),
    "33 axes": (model(PAIR + shape(*[1] * 33)), "33 axes, more than 32"),
    "half a float": (model(field(5, b"abc") + shape(1)), "data of 3 bytes, not a multiple of 4"),
    "half a double": (model(field(8, b"abc") + shape(1)), "double_data of 3 bytes.* of 8"),
    "shape is no message": (model(PAIR + field(7, b"\x0a\x7f")), "layer 'conv', blob 0: "),
    "data is a number": (model(b"\x28\x01" + shape(1)), "but no data"),
    "no layer": (field(1, b"net"), "no layer in it"),
    "text": (b"layer { name: 'conv' }\n", "this is a text file"),
    "text file of a large file store": (b"version https://git-lfs", "this is a text file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights(tmp_path, name):
    data, message = HOSTILE[name]
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=message) as caught:
        weights.read_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "expected weights (.caffemodel)" in str(caught.value)


@pytest.mark.parametrize(
    "data, message",
    [
        (field(1, b"a net"), "no iteration in it.*expected a solver state"),
        (
            b"\x08\x01" + field(3, PAIR),
            r"history 0: shape \(\) has 1 values, 2 are there, at byte 4 ",
        ),
        (b"\x08\x01\x18\x01", "wire type 0 where a message"),
    ],
)
def test_hostile_states(tmp_path, data, message):
    path = tmp_path / "state"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        weights.read_state(path)


def test_a_path_in_another_encoding_is_still_a_path(tmp_path):
    (tmp_path / "state").write_bytes(b"\x08\x01" + field(2, b"mod\xe8le"))
    assert os.fsencode(weights.read_state(tmp_path / "state").learned_net) == b"mod\xe8le"


def test_hostile_means(tmp_path):
    path = tmp_path / "mean"
    path.write_bytes(b"\x08\x05")
    with pytest.raises(ParseError, match=r"shape \(5, 0, 0, 0\), which has no values"):
        weights.read_blob(path)


@pytest.mark.parametrize("read", [weights.read_weights, weights.read_state, weights.read_blob])
def test_files_that_cannot_be_opened(tmp_path, read):
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="none: cannot be read: No such file.*current folder is"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read(tmp_path)
    with pytest.raises(DataError, match="the file is empty"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match="cannot be read"):
        read("a\0b")


def hdf5_file(path, **items):
    with h5py.File(path, "w") as file:
        for name, value in items.items():
            file[name.replace("__", "/")] = value
    return path


@pytest.mark.parametrize(
    "items, message",
    [
        ({"other": 1}, "'data' doesn't exist"),
        ({"data__conv__weight": [1.0]}, "dataset /data/conv/weight: blobs are called 0, 1, 2"),
        ({"data__conv__99999999999": [1.0]}, "blobs are called 0, 1, 2"),
        ({"data__conv__0": "text"}, "dataset /data/conv/0: object, expected numbers"),
        ({"data__0": h5py.Empty("f4")}, "dataset /data/0: float32, expected numbers"),
    ],
)
def test_hostile_hdf5_weights(tmp_path, items, message):
    with pytest.raises(WeightsError, match=message):
        weights.read_weights(hdf5_file(tmp_path / "model.h5", **items))


@pytest.mark.parametrize(
    "items, message",
    [
        ({"iter": [1, 2], "current_step": 0, "history__0": [1.0]}, "/iter: 2 values, expected 1"),
        ({"iter": 1, "current_step": 0, "history__1": [1.0]}, "history has 1 of 2 blobs"),
        ({"iter": 1, "current_step": 0, "history__0": [1.0], "learned_net": 3}, "expected text"),
        ({"iter": 1, "history__0": [1.0]}, "'current_step' doesn't exist"),
    ],
)
def test_hostile_hdf5_states(tmp_path, items, message):
    with pytest.raises(WeightsError, match=message):
        weights.read_state(hdf5_file(tmp_path / "state.h5", **items))


@pytest.mark.parametrize(
    "name, read",
    [
        ("model.bin", weights.read_weights),
        ("state.bin", weights.read_state),
        ("mean.bin", weights.read_blob),
        ("model.h5", weights.read_weights),
        ("state.h5", weights.read_state),
    ],
)
def test_mutated_files_give_only_the_projects_errors(tmp_path, name, read):
    rng = np.random.default_rng(0)
    source, path, refused = (FILES / name).read_bytes(), tmp_path / "file", 0
    for _ in range(200):
        path.write_bytes(mutate(rng, source))
        try:
            read(path)
        except CaffeError as error:
            assert str(path) in str(error)
            refused += 1
    assert 0 < refused < 200


# ---- beyond 2 GiB ------------------------------------------------------------------------------


def test_reads_beyond_2_gib(tmp_path):
    """A file of 5 GiB, nearly all of it a hole that belongs to a field that is skipped."""
    hole_bytes = 5 << 30
    path = tmp_path / "model"
    with path.open("wb") as file:
        file.write(varint(200 << 3 | 2) + varint(hole_bytes))
        file.seek(hole_bytes, os.SEEK_CUR)
        file.write(model(PAIR + shape(2)))
    ((name, (array,)),) = weights.read_weights(path)
    assert name == "conv"
    assert array.tolist() == [1, 2]


def test_frames_beyond_2_gib():
    """The lengths around an array of 3 GiB, which is never made."""
    array = np.broadcast_to(np.float32(0), (3, 1 << 28))
    pieces = wire.delimited(100, wire.delimited(7, wire.blob_pieces(array)))
    head = b"".join(piece for piece in pieces[:-2] if isinstance(piece, bytes))
    tail = shape(3, 1 << 28)
    inner = varint(5 << 3 | 2) + varint(3 << 30)
    blob_bytes = len(inner) + (3 << 30) + len(tail)
    middle = varint(7 << 3 | 2) + varint(blob_bytes)
    assert head == varint(100 << 3 | 2) + varint(len(middle) + blob_bytes) + middle + inner
    assert pieces[-2] is array
    assert pieces[-1] == tail
    assert wire.size_bytes(pieces) == len(head) + (3 << 30) + len(tail)
