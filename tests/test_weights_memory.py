"""Weights take little more memory than their size, hostile ones no more than a small multiple.

Each file is read in a process that has just forgotten its peak; Linux says what the new peak is.
"""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe.files import weights
from caffe.proto import caffe_pb2
from tests.wire_bytes import PAIR, doubles, field, floats, model, shape

ROOT = Path(__file__).parents[1]
MIB = 1 << 20
MANY = 1 << 18
MULTIPLE, CONSTANT_BYTES = 8, 12 * MIB


def hdf5(**datasets):
    """A writer of an HDF5 file with one dataset "data/conv/0" as h5py's create_dataset takes it."""

    def write(path):
        with h5py.File(path, "w") as file:
            file.create_dataset("data/conv/0", **datasets)

    return write


def deflated(path):
    """64 Ki values, whose one chunk inflates to 128 MiB."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "data/conv/0", (1 << 16,), "f4", chunks=(1 << 16,), compression="gzip"
        )
        squeezer = zlib.compressobj()
        zeros = [squeezer.compress(bytes(MIB)) for _ in range(128)]
        data.id.write_direct_chunk((0,), b"".join(zeros) + squeezer.flush())


def loop(path):
    with h5py.File(path, "w") as file:
        file["data/conv/0"] = np.zeros(3)
        file["data/conv/loop"] = file["data"]


def legal(path):
    net = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="fc")])
    array = np.ones((1 << 10, 1 << 12), np.float32)
    weights.write_weights(path, net, {"fc": [(array, array)]})


# name: (what writes the file, or its bytes; the error, None where it is legal)
FILES = {
    "empty layers": (field(100, b"") * MANY, "more than 32,768 layers and blobs"),
    "empty old layers": (field(2, b"") * MANY, "more than 32,768 layers and blobs"),
    "empty blobs": (field(100, field(7, shape(0)) * 200_000), "more than 32,768 layers and blobs"),
    "many layers": (b"".join(field(100, field(1, b"%d" % i)) for i in range(32_000)), None),
    "many axes": (model(field(7, field(1, b"\1" * 4 * MIB)) + PAIR), "more than 32 axes"),
    "many axes apart": (model(field(7, b"\x08\1" * 2 * MIB) + PAIR), "more than 32 axes"),
    "many shapes": (model(field(7, b"") * MANY + PAIR + shape(2)), None),
    "unknown fields": (model(b"\x98\x06\x05" * MANY + PAIR + shape(2)), None),
    "unpacked": (model((b"\x2d" + floats(0)) * MANY + shape(MANY)), None),
    "unpacked doubles": (model((b"\x41" + doubles(0)) * MANY + shape(MANY)), None),
    "one value each": (model(field(5, floats(1)) * MANY + shape(MANY)), None),
    "long name": (field(100, field(1, b"x" * 8 * MIB)), None),
    "too few values": (model(field(5, bytes(8 * MIB)) + shape(3 * MIB)), "are there"),
    "claims 2^40": (model(PAIR + shape(1 << 40)), "values, 2 are there"),
    "legal": (legal, None),
    "HDF5 claims 2^40": (hdf5(shape=(1 << 40,), dtype="f4", chunks=(1 << 20,)), "values in"),
    "HDF5 of zeros": (hdf5(data=np.zeros(4 * MIB), compression="gzip"), "values in"),
    "HDF5 of a large chunk": (
        hdf5(shape=(3,), dtype="f4", maxshape=(None,), chunks=(1 << 28,), compression="gzip"),
        "values in",
    ),
    "HDF5 inflates": (deflated, "a chunk inflates to more than the 262,148 bytes that it has"),
    "HDF5 of another filter": (hdf5(data=np.zeros(9), compression="lzf"), "h5repack -f NONE"),
    "HDF5 loop": (loop, None),
    "HDF5, compressed": (
        hdf5(
            data=np.random.RandomState(0).randn(MANY),
            compression="gzip",
            shuffle=True,
            fletcher32=True,
        ),
        None,
    ),
}

READ = """
import json, pathlib, sys
import caffe
from caffe.files import text, weights
from caffe.proto import caffe_pb2

def peak_bytes():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

def as_message(path):
    text.read_binary(path, caffe_pb2.NetParameter())

found = {}
for name, path in json.loads(sys.argv[1]).items():
    for read in (weights.read_weights, as_message):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before, error = peak_bytes(), None
        try:
            read(path)
        except caffe.CaffeError as refusal:
            error = str(refusal)
        found[f"{read.__name__} {name}"] = peak_bytes() - before, error
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """{"read_weights NAME": (bytes taken, error or None), "as_message NAME": ...}, and sizes."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the system does not tell a process's peak of memory")
    folder, paths = tmp_path_factory.mktemp("files"), {}
    for index, (name, (content, _)) in enumerate(FILES.items()):
        path = folder / str(index)
        content(path) if callable(content) else path.write_bytes(content)
        paths[name] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(paths)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
    )
    sizes = {name: os.path.getsize(path) for name, path in paths.items()}
    return json.loads(done.stdout), sizes


@pytest.mark.parametrize("name", FILES)
def test_memory_stays_within_a_small_multiple_of_the_file(peaks, name):
    found, sizes = peaks
    taken_bytes, error = found[f"read_weights {name}"]
    assert taken_bytes < MULTIPLE * sizes[name] + CONSTANT_BYTES
    expected = FILES[name][1]
    assert error is None if expected is None else expected in error


@pytest.mark.parametrize("name", [name for name in FILES if "HDF5" not in name])
def test_a_whole_message_takes_no_more(peaks, name):
    """What upgrade_net_proto_binary reads; the messages within take more room than their bytes."""
    found, sizes = peaks
    assert found[f"as_message {name}"][0] < MULTIPLE * sizes[name] + 4 * CONSTANT_BYTES


INFER = """
import json, pathlib, sys
import numpy as np
import caffe
from caffe.proto import caffe_pb2
from google.protobuf import text_format

def peak_of(run):
    status = pathlib.Path("/proc/self/status")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = status.read_text().split("VmRSS:")[1].split()[0]
    run()
    return 1024 * (int(status.read_text().split("VmHWM:")[1].split()[0]) - int(before))

net = caffe.Net(text_format.Parse(sys.argv[1], caffe_pb2.NetParameter()), caffe.TEST)
net.params["ip"][0].data[...] = 1
net.save("x.caffemodel")
peaks = {"copy": peak_of(lambda: net.copy_from("x.caffemodel"))}
net.keep_blobs = False
x = np.ones((4, 8192))
peaks["infer"] = peak_of(lambda: [net.forward(data=x) for _ in range(3)])
print(json.dumps(peaks))
"""


def test_inference_packs_weights_one_way_after_the_other(tmp_path):
    """An inner product of 64 MiB: mapped once to load it; to compare ways, packed twice at most."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the system does not tell a process's peak of memory")
    text = """
    layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 8192 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
            inner_product_param { num_output: 2048 } }"""
    done = subprocess.run(
        [sys.executable, "-c", INFER, text],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "XDG_CACHE_HOME": str(tmp_path)},
    )
    peaks = json.loads(done.stdout)
    assert peaks["copy"] < 64 * MIB + 32 * MIB
    assert peaks["infer"] < 2 * 64 * MIB + 48 * MIB
