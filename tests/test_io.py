"""caffe.io and caffe.files.datum against the original's caffe.io (tests/oracle/record_io.py)."""

import sys
import types
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe import io
from caffe.files.datum import decode_datum, parse_datum
from caffe.proto import caffe_pb2
from caffe_plain.errors import DataError
from tests.oracle import record_io as cases

GOLDEN = Path(__file__).parent / "golden" / "io.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def agree(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", cases.RESIZE)
def test_resize_image(golden, name):
    shape, size, order = cases.RESIZE[name]
    agree(io.resize_image(cases.image(shape), size, order), golden["resize/" + name])


@pytest.mark.parametrize("name", cases.TRANSFORM)
def test_preprocess(golden, name):
    case = cases.TRANSFORM[name]
    data = cases.image(case[0])
    blob = cases.transformer_of(io, case).preprocess("data", data)
    agree(blob, golden["preprocess/" + name], 1e-3)
    np.testing.assert_array_equal(data, cases.image(case[0]), "preprocess changed its argument")


@pytest.mark.parametrize("name", [name for name in cases.TRANSFORM if name != "gray"])
def test_deprocess(golden, name):
    transformer = cases.transformer_of(io, cases.TRANSFORM[name])
    blob = golden["preprocess/" + name]
    agree(transformer.deprocess("data", blob[np.newaxis]), golden["deprocess/" + name])


def test_deprocess_returns_a_gray_image_with_its_channel():
    transformer = io.Transformer({"data": (1, 1, 5, 4)})
    transformer.set_transpose("data", (2, 0, 1))
    data = cases.image((5, 4, 1))
    blob = transformer.preprocess("data", data)
    np.testing.assert_array_equal(transformer.deprocess("data", blob), data)


@pytest.mark.parametrize("name", cases.OVERSAMPLE)
def test_oversample(golden, name):
    shape, crop = cases.OVERSAMPLE[name]
    agree(
        io.oversample([cases.image(shape), -cases.image(shape)], crop),
        golden["oversample/" + name],
        0,
    )


@pytest.mark.parametrize("name", cases.LOAD)
def test_load_image(golden, tmp_path, name):
    path = tmp_path / f"image.{cases.LOAD[name][2]}"
    path.write_bytes(golden["load_file/" + name].tobytes())
    agree(io.load_image(path, cases.LOAD[name][3]), golden["load/" + name], 1e-6)


def test_blobproto(golden):
    values = cases.image((2, 3, 4))
    blob = io.array_to_blobproto(values, -values)
    assert blob.SerializeToString() == golden["blobproto"].tobytes()
    agree(io.blobproto_to_array(blob), golden["blobproto_array"], 0)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), -values)
    vector = io.arraylist_to_blobprotovector_str([values, values[0]])
    assert vector == golden["blobprotovector"].tobytes()
    first, second = io.blobprotovector_str_to_arraylist(vector)
    np.testing.assert_array_equal(first, values)
    np.testing.assert_array_equal(second, values[0])


@pytest.mark.parametrize("field, shape", [("data", (1, 2, 1, 2)), ("double_data", (1, 2, 1, 2))])
def test_blobproto_of_the_legacy_shape(field, shape):
    blob = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=2)
    getattr(blob, field).extend([1, 2, 3, 4])
    np.testing.assert_array_equal(io.blobproto_to_array(blob), np.arange(1, 5).reshape(shape))


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_datum(golden, kind):
    datum = io.array_to_datum((cases.image((2, 3, 4)) * 50).astype(kind), 5)
    assert datum.SerializeToString() == golden["datum/" + kind.__name__].tobytes()
    agree(io.datum_to_array(datum), golden["datum_array/" + kind.__name__], 0)


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_decode_datum_returns_raw_values_as_stored(kind):
    array = (cases.image((2, 3, 4)) * 50).astype(kind)
    record = io.array_to_datum(array).SerializeToString()
    for source in (record, memoryview(record), caffe_pb2.Datum.FromString(record)):
        agree(decode_datum(source, b"k"), array, 0)


@pytest.mark.parametrize(
    "channels, color, expected",
    [(3, None, 3), (1, None, 1), (3, True, 3), (1, True, 3), (3, False, 1), (1, False, 1)],
)
def test_decode_datum_of_an_encoded_image(channels, color, expected):
    pixels = (cases.image((6, 5, channels)) * 80 + 80).astype(np.uint8)
    datum = caffe_pb2.Datum(encoded=True, data=cv2.imencode(".png", pixels)[1].tobytes())
    array = decode_datum(datum, b"k", color)
    assert array.shape == (expected, 6, 5)
    if expected == channels:
        np.testing.assert_array_equal(array, pixels.transpose(2, 0, 1))  # BGR stays BGR


def _encoded(data):
    return caffe_pb2.Datum(encoded=True, data=data)


DEEP_PNG = cv2.imencode(".png", np.zeros((2, 2), np.uint16))[1].tobytes()
ERRORS = [
    (lambda: io.array_to_datum(np.zeros((2, 2))), r"expected a \(C, H, W\) array.*\(2, 2\)"),
    (lambda: io.datum_to_array(_encoded(b"xx")), "use caffe.files.datum.decode_datum"),
    (lambda: io.blobproto_to_array(caffe_pb2.BlobProto(num=2, data=[1])), r"\(2, 0, 0, 0\) needs"),
    (lambda: io.resize_image(np.eye(3)[:, :, None], (2, 2), 2), "interp_order 2 is unknown"),
    (lambda: io.oversample([np.zeros((4, 4, 3))], (5, 4)), "crop of 5 x 4 does not fit"),
    (lambda: _transformer().preprocess("label", np.zeros(1)), "label is not one of the net inputs"),
    (lambda: _transformer().set_transpose("data", (1, 0)), "same number of dimensions"),
    (lambda: _transformer().set_channel_swap("data", (1, 0)), "as the input has channels, 3"),
    (lambda: _transformer().set_mean("data", np.zeros(2)), "Mean channels incompatible.*3.*2"),
    (lambda: _transformer().set_mean("data", np.zeros((1, 1, 1, 1))), "Mean shape invalid"),
    (lambda: parse_datum(b"\xff\xff", b"00000003_a"), "'00000003_a': 2 bytes that are not a Datum"),
    (lambda: decode_datum(_encoded(b"xx"), b"00000003_a"), "'00000003_a': not an image .*2 bytes"),
    (lambda: decode_datum(_encoded(b""), "key"), "'key': not an image .*0 bytes"),
    (lambda: decode_datum(_encoded(DEEP_PNG), "key"), "expected an image of 8 bits.*uint16"),
    (
        lambda: decode_datum(caffe_pb2.Datum(channels=3, height=2, width=2, data=b"12345"), "key"),
        r"\(3, 2, 2\), but it holds 5 values",
    ),
    (lambda: decode_datum(caffe_pb2.Datum(), "key"), r"\(0, 0, 0\), but it holds 0 values"),
    (lambda: decode_datum(caffe_pb2.Datum(data=b"1", float_data=[1]), "key"), "both data and"),
]


def _transformer():
    return io.Transformer({"data": (1, 3, 4, 4)})


@pytest.mark.parametrize("call, message", ERRORS)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises((ValueError, DataError), match=message):
        call()


def test_load_image_takes_file_objects(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    expected = io.load_image(path)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(io.load_image(file), expected)
        assert not file.closed
    np.testing.assert_array_equal(io.load_image(BytesIO(path.read_bytes())), expected)
    with open(path, encoding="latin-1") as file, pytest.raises(DataError, match="open it for byte"):
        io.load_image(file)
    with pytest.raises(DataError, match="not an image"):
        io.load_image(BytesIO(b"abc"))


def test_packages_of_the_original_module_are_imported_when_asked_for(monkeypatch):
    modules = {
        name: types.ModuleType(name)
        for name in ("skimage", "skimage.io", "skimage.transform", "scipy", "scipy.ndimage")
    }
    modules["skimage.transform"].resize = resize = object()
    modules["scipy.ndimage"].zoom = zoom = object()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert io.skimage is modules["skimage"]
    assert io.resize is resize and io.zoom is zoom


@pytest.mark.parametrize("name, cure", [("skimage", "scikit-image"), ("zoom", "scipy")])
def test_a_package_that_is_missing_is_named(monkeypatch, name, cure):
    for module in ("skimage", "skimage.io", "scipy", "scipy.ndimage"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert not hasattr(io, name)
    with pytest.raises(AttributeError, match=f"caffe.io.{name} .*pip install {cure}"):
        getattr(io, name)
    with pytest.raises(AttributeError, match="module 'caffe.io' has no attribute 'nothing'"):
        io.nothing  # noqa: B018


def test_load_image_errors(tmp_path):
    with pytest.raises(DataError, match="none.png: No such file"):
        io.load_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="text.png: not an image"):
        io.load_image(tmp_path / "text.png")
