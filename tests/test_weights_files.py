"""Weights, solver states and means against BVLC Caffe's own files and against protobuf.

The files in tests/golden/files are Caffe's (tests/oracle/record_weights_files.py).
"""

from pathlib import Path

import h5py
import numpy as np
import pytest

import caffe
from caffe.files import hdf5, text, weights
from caffe.proto import caffe_pb2
from caffe_plain.errors import WeightsError

GOLDEN = Path(__file__).parent / "golden"
FILES = GOLDEN / "files"


@pytest.fixture(scope="module")
def values():
    with np.load(FILES / "values.npz") as arrays:
        return dict(arrays)


def caffes(name, message):
    """Caffe's own binary file, as protobuf reads it."""
    message.ParseFromString((FILES / name).read_bytes())
    return message


def bare_net():
    net = caffes("model.bin", caffe_pb2.NetParameter())
    for layer in net.layer:
        layer.ClearField("blobs")
    return net


# ---- files that Caffe wrote --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.bin", "model.h5"])
def test_reads_weights_of_caffe(values, name):
    layers = dict(weights.read_weights(FILES / name, want_diff=True))
    assert set(layers) == {layer.name for layer in bare_net().layer}
    found = {}
    for layer, blobs in layers.items():
        for index, (data, diff) in enumerate(blobs):
            found.update({f"{layer}/{index}/data": data, f"{layer}/{index}/diff": diff})
    if name == "model.h5":  # layer twin shares its weight with layer fc, which saved it
        assert found["twin/0/data"] is None
        found["twin/0/data"] = found["fc/0/data"]
    assert set(found) == set(values) - {"images"}
    for key, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values[key], err_msg=key)


def test_diffs_are_left_out_unless_wanted(values):
    for name in ("model.bin", "model.h5"):
        data = dict(weights.read_weights(FILES / name))["conv"][0]
        np.testing.assert_array_equal(data, values["conv/0/data"])


@pytest.mark.parametrize("name", ["state.bin", "state.h5"])
def test_reads_states_of_caffe(name):
    golden = caffes("state.bin", caffe_pb2.SolverState())
    state = weights.read_state(FILES / name)
    assert (state.iter, state.current_step) == (golden.iter, golden.current_step)
    assert state.learned_net == "snap_iter_3.caffemodel" + (".h5" if name == "state.h5" else "")
    assert len(state.history) == len(golden.history)
    for array, blob in zip(state.history, golden.history, strict=True):
        expected = np.array(blob.data, np.float32).reshape(blob.shape.dim)
        np.testing.assert_array_equal(array, expected)


def test_reads_means_of_caffe(values):
    mean = values["images"].astype(np.float64).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(weights.read_blob(FILES / "mean.bin"), mean, rtol=1e-6)


@pytest.mark.parametrize("name", ["v0_blobs", "v1_all_types"])
def test_reads_old_weights(tmp_path, name):
    """The layers of an old file, under the names and with the blobs that Caffe's upgrade gives."""
    old = text.read_text(GOLDEN / "upgrade" / f"{name}.old.prototxt", caffe_pb2.NetParameter())
    new = text.read_text(GOLDEN / "upgrade" / f"{name}.new.prototxt", caffe_pb2.NetParameter())
    path = tmp_path / "old"
    path.write_bytes(old.SerializeToString())
    found = {layer: arrays for layer, arrays in weights.read_weights(path) if arrays}
    expected = {layer.name: layer.blobs for layer in new.layer if layer.blobs}
    assert found.keys() == expected.keys()
    for layer, arrays in found.items():
        for array, blob in zip(arrays, expected[layer], strict=True):
            assert array.ravel().tolist() == list(blob.data)
            assert array.shape == (
                tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
            )


# ---- files that Caffe will read ----------------------------------------------------------------


def pairs(values, diff=True):
    """{layer: [(data, diff), ...]} as pycaffe showed them."""
    found = {}
    for key in sorted(values):
        layer, *rest = key.split("/")
        if rest and rest[1] == "data":
            diffs = values[key.replace("/data", "/diff")] if diff else None
            found.setdefault(layer, []).append((values[key], diffs))
    return found


def test_writes_the_same_bytes_as_caffe(tmp_path, values):
    weights.write_weights(tmp_path / "model", bare_net(), pairs(values))
    assert (tmp_path / "model").read_bytes() == (FILES / "model.bin").read_bytes()
    weights.write_state(tmp_path / "state", *weights.read_state(FILES / "state.bin"))
    assert (tmp_path / "state").read_bytes() == (FILES / "state.bin").read_bytes()
    weights.write_blob(tmp_path / "mean", weights.read_blob(FILES / "mean.bin"))
    assert (tmp_path / "mean").read_bytes() == (FILES / "mean.bin").read_bytes()


def layout(path):
    """{name: what stands there} of everything in an HDF5 file, down to the type on disk."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Group):
            found[name] = "group"
        else:
            kind = item.id.get_type()
            content = np.asarray(item[()]).tobytes()
            text_form = (kind.get_size(), kind.get_strpad()) if item.dtype.kind == "S" else None
            found[name] = (item.shape, item.dtype, text_form, content)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def test_writes_the_same_hdf5_as_caffe(tmp_path, values):
    weights.write_weights(tmp_path / "model.h5", bare_net(), pairs(values))
    ours, caffes_own = layout(tmp_path / "model.h5"), layout(FILES / "model.h5")
    shared = ours.pop("data/twin/0")  # Caffe leaves out what another layer owns, but reads it
    assert shared == ours["data/fc/0"]
    assert ours == caffes_own
    weights.write_state(tmp_path / "state.h5", *weights.read_state(FILES / "state.h5"))
    assert layout(tmp_path / "state.h5") == layout(FILES / "state.h5")


def test_without_diffs(tmp_path, values):
    for name in ("model", "model.h5"):
        weights.write_weights(tmp_path / name, bare_net(), pairs(values, diff=False))
        (data, diff), _ = dict(weights.read_weights(tmp_path / name, want_diff=True))["conv"]
        np.testing.assert_array_equal(data, values["conv/0/data"])
        assert diff is None


@pytest.mark.parametrize("name", ["model", "model.h5"])
def test_any_array_and_any_layer_name(tmp_path, name):
    net = caffe_pb2.NetParameter()
    for layer in ("conv1/7x7_s2", "conv1/relu", "plain"):
        net.layer.add(name=layer, blobs=[caffe_pb2.BlobProto(data=[1])])  # to be replaced
    arrays = [
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.float32(5),
        np.zeros((2, 0, 3), np.float32),
        np.arange(6, dtype=">f4")[::2],
    ]
    weights.write_weights(tmp_path / name, net, {"conv1/7x7_s2": [(a, None) for a in arrays]})
    found = dict(weights.read_weights(tmp_path / name))
    assert found.keys() == {"conv1/7x7_s2", "conv1/relu", "plain"}
    assert found["plain"] == []
    for array, expected in zip(found["conv1/7x7_s2"], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.shape == np.shape(expected)


def test_weights_for_a_layer_that_the_net_lacks(tmp_path):
    net = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="conv1")])
    with pytest.raises(WeightsError, match="layer 'conv', which the net lacks.*'conv1'"):
        weights.write_weights(tmp_path / "model", net, {"conv": []})


def test_hdf5_is_known_by_its_content(tmp_path, values):
    weights.write_weights(tmp_path / "model.h5", bare_net(), pairs(values))
    (tmp_path / "model.h5").rename(tmp_path / "model.caffemodel")
    assert len(weights.read_weights(tmp_path / "model.caffemodel")) == len(bare_net().layer)
    assert (FILES / "model.h5").read_bytes().startswith(hdf5.SIGNATURE)


# ---- what a net saves of its layers ------------------------------------------------------------

TRAINED = """
name: "n" force_backward: true state { stage: "q" }
layer { name: "x" type: "Input" top: "x" top: "t" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "b" include { stage: "q" } }
layer { name: "bn2" type: "BatchNorm" bottom: "b" top: "c" phase: TEST
        param { name: "m" lr_mult: 0 } }
layer { name: "no" type: "Power" bottom: "c" top: "d" include { stage: "r" } }
layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" }
"""
# recorded from BVLC Caffe 1.0: Net.save of that net in phase TRAIN, without its blobs
SAVED = """
name: "n"
layer { name: "x" type: "Input" top: "x" top: "t" phase: TRAIN
        input_param { shape { dim: 4 dim: 2 } } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "b" phase: TRAIN include { stage: "q" }
        param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } }
layer { name: "bn2" type: "BatchNorm" bottom: "b" top: "c" phase: TEST
        param { name: "m" lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" phase: TRAIN loss_weight: 1 }
"""


def test_a_caffemodel_holds_each_layer_as_it_was_set_up(tmp_path):
    param = text.parse_text(TRAINED, caffe_pb2.NetParameter())
    caffe.Net(param, caffe.TRAIN).save(tmp_path / "w.caffemodel")
    saved = text.read_binary(tmp_path / "w.caffemodel", caffe_pb2.NetParameter())
    for layer in saved.layer:
        layer.ClearField("blobs")
    assert saved == text.parse_text(SAVED, caffe_pb2.NetParameter())
