"""The data layers against BVLC Caffe, and what it does not promise: resuming, sharing, errors."""

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import caffe
import data_cases
from caffe import device
from caffe.catalogue.data import prefetch
from caffe.proto import caffe_pb2
from caffe_plain.database import new_database, open_database
from data_cases import MEAN, forwards

GOLDEN = Path(__file__).parent / "golden" / "data_layers.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder with the files of data_cases."""
    path = str(tmp_path_factory.mktemp("data"))
    data_cases.write_files(caffe_pb2, path)
    return path


@pytest.fixture(autouse=True)
def seed():
    caffe.set_random_seed(3)


def make_net(folder, text, phase="TRAIN"):
    return data_cases.make_net(caffe, folder, text, phase)


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for top in ours:
            np.testing.assert_array_equal(ours[top], theirs[top])


@pytest.mark.parametrize("name", data_cases.CASES)
def test_agrees_with_bvlc_caffe(golden, folder, name):
    for index, tops in enumerate(data_cases.run(caffe, name, folder)):
        for top, values in tops.items():
            expected = golden[f"{name}/{index}/{top}"]
            assert values.shape == expected.shape
            np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-4)


def test_hdf5_output_agrees_with_bvlc_caffe(golden, folder):
    for name, values in data_cases.run_hdf5_output(caffe, folder).items():
        np.testing.assert_array_equal(values, golden[f"hdf5_output/{name}"])


def test_hdf5_output_appends(tmp_path):
    net = make_net(str(tmp_path), data_cases.HDF5_OUTPUT)
    for value in (1, 2):
        net.blobs["data"].data[...] = value
        net.forward()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"][:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]


# ---- chance --------------------------------------------------------------------------------------

AUGMENTED = data_cases.data("color", f"crop_size: 6 mirror: true {MEAN} scale: 0.5")


def candidates(folder, record):
    """Every crop of a record, not mirrored and mirrored, as the definition gives it."""
    image = data_cases.pixels((8, 10, 3), record).transpose(2, 0, 1)[::-1].astype(np.float64)
    mean = caffe.io.blobproto_to_array(
        caffe_pb2.BlobProto.FromString(Path(folder, "mean.binaryproto").read_bytes())
    )[0]
    image = (image - mean) * 0.5
    for top in range(3):
        for left in range(5):
            crop = image[:, top : top + 6, left : left + 6]
            yield (top, left, False), crop
            yield (top, left, True), crop[:, :, ::-1]


def test_random_crops_and_mirrors_are_uniform(folder):
    net = make_net(folder, AUGMENTED)
    known = {record: list(candidates(folder, record)) for record in range(10)}
    seen = []
    for step, tops in enumerate(forwards(net, 150)):
        for item, values in enumerate(tops["data"]):
            places = [
                place
                for place, crop in known[(4 * step + item) % 10]
                if np.allclose(crop, values, atol=1e-3)
            ]
            assert len(places) == 1
            seen += places
    counts = np.unique([repr(place) for place in seen], return_counts=True)[1]
    expected = len(seen) / 30
    assert len(counts) == 30
    # chi-square with 29 degrees of freedom exceeds 58.3 once in a thousand times
    assert ((counts - expected) ** 2 / expected).sum() < 58.3


def test_seed_decides_and_every_record_is_drawn_anew(folder):
    first = forwards(make_net(folder, AUGMENTED), 5)
    assert_equal(forwards(make_net(folder, AUGMENTED), 5), first)
    assert not np.array_equal(first[0]["data"], first[-1]["data"])  # records 0 to 3 both times
    caffe.set_random_seed(4)
    assert not np.array_equal(forwards(make_net(folder, AUGMENTED), 1)[0]["data"], first[0]["data"])


def test_crop_in_the_test_phase_is_mirrored_by_chance(folder):
    text = data_cases.data("raw", "crop_size: 6 mirror: true", options="batch_size: 10")
    plain = make_net(folder, text.replace("mirror: true", ""), "TEST").forward()["data"]
    mirrored = 0
    for tops in forwards(make_net(folder, text, "TEST"), 20):
        for found, crop in zip(tops["data"], plain, strict=True):
            flipped = np.array_equal(found, crop[:, :, ::-1])
            assert flipped or np.array_equal(found, crop)
            mirrored += flipped
    assert 70 <= mirrored <= 130  # of 200: 4.2 standard deviations


@pytest.mark.parametrize(
    "text",
    [
        data_cases.images("shuffle: true"),
        data_cases.hdf5("data").replace("batch_size", "shuffle: true batch_size"),
    ],
    ids=["ImageData", "HDF5Data"],
)
def test_shuffling_takes_every_record_once_per_epoch(folder, text):
    size, net = (5, make_net(folder, text)) if "Image" in text else (7, make_net(folder, text))
    rows = [row.tobytes() for tops in forwards(net, 4 * size) for row in tops["data"]]
    epochs = [rows[i : i + size] for i in range(0, len(rows), size)]
    assert all(set(epoch) == set(epochs[0]) for epoch in epochs if len(epoch) == size)
    assert len(set(epochs[0])) == size
    assert epochs[0] != epochs[1]


# ---- resuming and sharing ------------------------------------------------------------------------

SOURCES = {
    "Data": AUGMENTED,
    "ImageData": data_cases.images("shuffle: true", "crop_size: 6 mirror: true"),
    "HDF5Data": data_cases.hdf5("data", "label").replace("batch_size", "shuffle: true batch_size"),
    "WindowData": data_cases.windows("context_pad: 1", "crop_size: 7 mirror: true"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_position_continues_with_the_very_next_record(folder, name):
    net = make_net(folder, SOURCES[name])
    forwards(net, 3)
    position = net.layers[0].position
    expected = forwards(net, 4)
    resumed = make_net(folder, SOURCES[name])
    resumed.layers[0].position = position
    assert_equal(forwards(resumed, 4), expected)
    resumed.layers[0].position = position  # back, with batches under way
    assert_equal(forwards(resumed, 4), expected)


LEVELDB = AUGMENTED.replace("/color", "/level").replace("LMDB", "LEVELDB")


@pytest.fixture(scope="module")
def leveldb_folder(folder):
    """`folder` with a LevelDB of the records in color."""
    with (
        open_database(f"{folder}/color").begin() as transaction,
        new_database(f"{folder}/level", "leveldb") as put,
    ):
        for record in transaction.cursor():
            put(*record)
    return folder


@pytest.mark.parametrize("position", [0, 1, 9, 10, 25])
def test_a_leveldb_gives_the_batches_of_an_lmdb(leveldb_folder, position):
    nets = [make_net(leveldb_folder, text) for text in (AUGMENTED, LEVELDB)]
    for net in nets:
        net.layers[0].position = position
    assert_equal(forwards(nets[1], 7), forwards(nets[0], 7))


def test_leveldb_is_the_default_of_backend(leveldb_folder):
    net = make_net(leveldb_folder, LEVELDB.replace("backend: LEVELDB", ""))
    assert_equal(forwards(net, 3), forwards(make_net(leveldb_folder, LEVELDB), 3))


@pytest.fixture
def solvers():
    yield
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)


@pytest.mark.parametrize(
    "text, size",
    [(data_cases.data("raw"), 10), (data_cases.images(), 5), (data_cases.hdf5("count"), 7)],
)
def test_several_solvers_share_the_records(folder, text, size, solvers):
    alone = [
        row.tobytes()
        for tops in forwards(make_net(folder, text), size * 3)
        for row in tops[min(tops)]
    ]
    caffe.set_solver_count(3)
    shares = []
    for rank in range(3):
        caffe.set_solver_rank(rank)
        shares.append(
            [
                row.tobytes()
                for tops in forwards(make_net(folder, text), size)
                for row in tops[min(tops)]
            ]
        )
    assert [row for rows in zip(*shares, strict=True) for row in rows] == alone


def test_test_nets_do_not_share(folder, solvers):
    alone = forwards(make_net(folder, data_cases.data("raw"), "TEST"), 2)
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    assert_equal(forwards(make_net(folder, data_cases.data("raw"), "TEST"), 2), alone)


def test_rand_skip_starts_at_a_drawn_record(folder):
    starts = set()
    for seed in range(20):
        caffe.set_random_seed(seed)
        net = make_net(folder, data_cases.data("raw", options="batch_size: 1 rand_skip: 4"))
        starts.add(int(net.forward()["label"][0]))
    assert starts == {0, 1, 2, 3}


# ---- threads and precision -----------------------------------------------------------------------


def test_the_reading_thread_ends_with_its_net(folder):
    before = threading.active_count()
    net = make_net(folder, data_cases.data("raw"))
    net.forward()
    assert threading.active_count() == before + 1
    del net
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_prefetcher_may_be_freed_in_its_own_thread(ahead):
    """As the garbage collector does, which runs in any thread."""
    freed, holder = threading.Event(), []

    def items():
        yield 1
        while not holder:
            pass
        holder.pop().close()
        freed.set()
        yield from range(2, 9)

    before = threading.active_count()
    holder.append(prefetch.Prefetcher(items(), ahead))
    assert freed.wait(10)
    thread_ends = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < thread_ends:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_nothing_is_left_behind_when_the_interpreter_exits(folder):
    make_net(folder, data_cases.data("raw"))
    script = (
        f"import caffe\nnet = caffe.Net({os.path.join(folder, 'net.prototxt')!r}, "
        "caffe.TRAIN)\nnet.forward()\nprint(net.layers[0].position)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", script],
        timeout=100,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1])},
    )
    assert (done.stdout, done.stderr) == ("4\n", "")


@pytest.mark.parametrize("precision", ["bf16", "fp64"])
def test_precision(folder, precision):
    exact = make_net(folder, data_cases.data("float")).forward()["data"]
    device.set_precision(precision)
    try:
        net = make_net(folder, data_cases.data("float"))
        net.forward()
        data, label = (net.blobs[name].tensor for name in ("data", "label"))
    finally:
        device.set_precision("fp32")
    assert data.dtype == device.PRECISIONS[precision]
    assert label.dtype == (torch.float64 if precision == "fp64" else torch.float32)
    np.testing.assert_allclose(data.double().numpy(), exact, rtol=2**-8)


# ---- MemoryData ----------------------------------------------------------------------------------

MEMORY = (
    'layer { name: "source" type: "MemoryData" top: "data" top: "label" memory_data_param '
    "{ batch_size: 2 channels: 3 height: 2 width: 1 } }"
)


def test_memory_data_goes_round(folder):
    net = make_net(folder, MEMORY)
    data = np.random.RandomState(0).normal(size=(6, 3, 2, 1)).astype(np.float32)
    net.layers[0].set_input_arrays(data, np.arange(6, dtype=np.float32))
    found = forwards(net, 4)
    for step, start in enumerate((0, 2, 4, 0)):
        np.testing.assert_array_equal(found[step]["data"], data[start : start + 2])
        assert found[step]["label"].ravel().tolist() == [start, start + 1]


@pytest.mark.parametrize(
    "shape, labels, pattern",
    [
        ((4, 3, 2, 2), 4, r"expected data \(N, 3, 2, 1\)"),
        ((4, 3, 2, 1), 3, "and N labels; found"),
        ((3, 3, 2, 1), 3, "multiple of the batch size 2; found 3"),
        ((0, 3, 2, 1), 0, "multiple of the batch size 2; found 0"),
    ],
)
def test_memory_data_refuses(folder, shape, labels, pattern):
    net = make_net(folder, MEMORY)
    with pytest.raises(caffe.ShapeError, match=pattern):
        net.layers[0].set_input_arrays(np.zeros(shape), np.zeros(labels))


def test_memory_data_needs_data_first(folder):
    with pytest.raises(caffe.LayerError, match="call set_input_arrays"):
        make_net(folder, MEMORY).forward()


def test_memory_data_warns_of_a_transformation(folder):
    net = make_net(folder, MEMORY.replace("memory_data_", "transform_param { } memory_data_"))
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="does not apply"):
        net.layers[0].set_input_arrays(np.zeros((2, 3, 2, 1)), np.zeros(2))


# ---- DummyData -----------------------------------------------------------------------------------


def test_window_data_warns_of_a_scale_without_effect(folder):
    text = data_cases.windows(transform="crop_size: 6 scale: 2")
    with pytest.warns(UserWarning, match="transform_param.scale has no effect, as in Caffe"):
        net = make_net(folder, text)
    plain = make_net(folder, data_cases.windows(transform="crop_size: 6"))
    assert_equal(forwards(net), forwards(plain))


def test_dummy_data_refills_all_but_constants(folder):
    net = make_net(
        folder,
        data_cases.dummy(
            'shape { dim: 5 } data_filler { value: 2 } data_filler { type: "gaussian" }',
            ("data", "label"),
        ),
    )
    assert net.blobs["data"].data.tolist() == [2] * 5  # before any forward
    first = net.forward()["label"].copy()
    net.blobs["data"].data[...] = 9
    second = net.forward()
    assert second["data"].tolist() == [9] * 5
    assert not np.array_equal(second["label"], first)
