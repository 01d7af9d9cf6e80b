"""A live BVLC Caffe loads the files written here, and upgrades random old nets the same way."""

import os
import shutil
import warnings
from itertools import filterfalse
from pathlib import Path

import numpy as np
import pytest

from caffe.files import text, weights
from caffe.files.upgrade import upgrade_net
from caffe.files.v0 import TYPES as V0_TYPES
from caffe.proto import caffe_pb2
from caffe.proto.forks import is_private
from tests.test_weights_files import FILES, bare_net, caffes, pairs

HERE = Path(__file__).parent
PRIVATE = 70_000  # values of enums above this are what only some forks have
pytestmark = pytest.mark.oracle


def loaded(path):
    with np.load(f"{path}.npz") as arrays:
        return dict(arrays)


def test_caffe_goes_on_from_files_written_here(tmp_path, oracle):
    with np.load(FILES / "values.npz") as arrays:
        values = dict(arrays)
    values.pop("images")
    state = weights.read_state(FILES / "state.bin")
    for ending in ("", ".h5"):
        model = tmp_path / f"model{ending}"
        weights.write_weights(model, bare_net(), pairs(values))
        weights.write_state(tmp_path / f"state{ending}", *state._replace(learned_net=str(model)))
    shutil.copy(FILES / "model.bin", tmp_path / "caffes_model")
    own = caffes("state.bin", caffe_pb2.SolverState())
    own.learned_net = str(tmp_path / "caffes_model")
    (tmp_path / "state_caffe").write_bytes(own.SerializeToString())
    for name in ("golden.py", "record_weights_files.py"):
        shutil.copy(HERE / name, tmp_path)
    oracle(tmp_path, "python3", "record_weights_files.py", "--check", tmp_path)
    for name in ("model", "model.h5"):
        found = loaded(tmp_path / name)
        for key in values:
            if key.endswith("/data"):
                np.testing.assert_array_equal(found[key], values[key], err_msg=key)
    after = loaded(tmp_path / "state_caffe")
    assert after["iter"] == 4
    for name in ("state", "state.h5"):
        found = loaded(tmp_path / name)
        assert found.keys() == after.keys()
        for key, array in found.items():
            np.testing.assert_array_equal(array, after[key], err_msg=f"{name} {key}")


def random_fields(rng, message):
    """Set about a third of the fields of `message` to values of their types."""
    for field in filterfalse(is_private, message.DESCRIPTOR.fields):
        if field.name in ("type", "layer") or rng.random() > 0.3:
            continue
        values = [random_value(rng, field) for _ in range(rng.integers(1, 4))]
        target = getattr(message, field.name)
        if hasattr(target, "extend"):
            target.extend(values)
        elif field.message_type:
            target.CopyFrom(values[0])
        else:
            setattr(message, field.name, values[0])
    return message


def random_value(rng, field):
    if field.message_type:
        return random_fields(rng, getattr(caffe_pb2, field.message_type.name)())
    if field.enum_type:
        numbers = [value.number for value in field.enum_type.values]
        return int(rng.choice([number for number in numbers if number < PRIVATE]))
    number = int(rng.integers(1, 9))
    return {
        field.CPPTYPE_STRING: f"s{number}",
        field.CPPTYPE_FLOAT: number / 4,
        field.CPPTYPE_DOUBLE: number / 8,
        field.CPPTYPE_BOOL: number > 4,
    }.get(field.cpp_type, number)


def random_net(rng, generation):
    net = caffe_pb2.NetParameter(name="random")
    for _ in range(30):
        layer = net.layers.add()
        if generation == 0:
            random_fields(rng, layer.layer).type = str(rng.choice(list(V0_TYPES)))
            layer.top.append("top")
        else:
            random_fields(rng, layer).type = int(rng.choice(layer.LayerType.values()))
    return net


@pytest.mark.parametrize("generation", [0, 1])
def test_random_old_nets_upgrade_as_in_caffe(tmp_path, oracle, generation):
    rng = np.random.default_rng(generation)
    for _ in range(8):
        old = random_net(rng, generation)
        text.write_text(tmp_path / "old", old)
        oracle(tmp_path, "sh", "-c", "upgrade_net_proto_text old new || test -f new")
        golden = text.read_text(tmp_path / "new", caffe_pb2.NetParameter())
        os.unlink(tmp_path / "new")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random V0 layers are full of misplaced fields
            new = upgrade_net(old)
        assert new == golden
