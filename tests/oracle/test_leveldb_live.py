"""The converters of Caffe's examples beside a live BVLC Caffe's, and LevelDBs read by either."""

import numpy as np
import pytest

from caffe.io import blobproto_to_array
from caffe.proto import caffe_pb2
from caffe_plain.database import is_leveldb, new_database, open_database
from relaybp.data_prep import (
    compute_image_mean,
    convert_cifar_data,
    convert_leveldb,
    convert_mnist_data,
    convert_mnist_siamese_data,
)
from relaybp.data_prep.idx import read_mnist
from tests.mnist_files import write_cifar, write_mnist

pytestmark = pytest.mark.oracle


def records(path):
    with open_database(path).begin() as transaction:
        return list(transaction.cursor())


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_mnist(tmp_path, oracle, backend):
    files = write_mnist(tmp_path, "train", 1300)
    oracle(tmp_path, "convert_mnist_data", *files, "theirs", f"--backend={backend}")
    convert_mnist_data.main([*map(str, files), str(tmp_path / "ours"), f"--backend={backend}"])
    assert is_leveldb(str(tmp_path / "ours")) == (backend == "leveldb")
    assert len(records(tmp_path / "ours")) == 1300
    assert records(tmp_path / "ours") == records(tmp_path / "theirs")


def test_cifar(tmp_path, oracle):
    write_cifar(tmp_path, 10000)  # what BVLC Caffe's converter takes from each file
    (tmp_path / "theirs").mkdir()
    oracle(tmp_path, "convert_cifar_data", tmp_path, "theirs", "leveldb")
    convert_cifar_data.main([str(tmp_path), str(tmp_path / "ours"), "lmdb"])
    for split, count in (("train", 50000), ("test", 10000)):
        found = records(tmp_path / f"ours/cifar10_{split}_lmdb")
        assert len(found) == count
        assert found == records(tmp_path / f"theirs/cifar10_{split}_leveldb")


def test_siamese_pairs(tmp_path, oracle):
    files = write_mnist(tmp_path, "train", 400)
    oracle(tmp_path, "convert_mnist_siamese_data", *files, "theirs")
    convert_mnist_siamese_data.main([*map(str, files), str(tmp_path / "ours")])
    pixels, labels = read_mnist(*files)
    number = {image.tobytes(): at for at, image in enumerate(pixels)}
    for name in ("ours", "theirs"):  # which draws other pairs in every run
        assert is_leveldb(str(tmp_path / name))
        found = records(tmp_path / name)
        assert [key for key, _ in found] == [b"%08d" % at for at in range(400)]
        drawn = set()
        for _, record in found:
            datum = caffe_pb2.Datum.FromString(record)
            assert (datum.channels, datum.height, datum.width) == (2, 28, 28)
            one, two = number[datum.data[:784]], number[datum.data[784:]]
            assert datum.label == (labels[one] == labels[two])
            drawn.add((one, two))
        assert len(drawn) > 350


def test_bvlc_caffe_reads_what_is_written_here_and_turns_it_into_tables(tmp_path, oracle):
    files = write_mnist(tmp_path, "train", 9000)  # records that reach over the log's blocks
    convert_mnist_data.main([*map(str, files), str(tmp_path / "db"), "-backend=leveldb"])
    before = records(tmp_path / "db")
    compute_image_mean.main([str(tmp_path / "db"), str(tmp_path / "ours"), "-backend=leveldb"])
    oracle(tmp_path, "compute_image_mean", "-backend=leveldb", "db", "theirs")
    means = [
        blobproto_to_array(caffe_pb2.BlobProto.FromString((tmp_path / name).read_bytes()))
        for name in ("ours", "theirs")
    ]
    np.testing.assert_allclose(*means, rtol=1e-6)
    assert list((tmp_path / "db").glob("*.ldb"))
    assert records(tmp_path / "db") == before
    convert_leveldb.main([str(tmp_path / "db"), str(tmp_path / "lmdb")])
    assert not is_leveldb(str(tmp_path / "lmdb"))
    assert records(tmp_path / "lmdb") == before


def test_any_records_are_read_back_by_bvlc_caffe(tmp_path, oracle):
    rng = np.random.default_rng(2)
    sizes = [(1, 1, 1), (3, 100, 120), (1, 32, 1023), (1, 181, 181), (3, 2, 2)]
    with new_database(tmp_path / "db", "leveldb") as put:
        for number, (channels, height, width) in enumerate(sizes * 5):
            datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
            datum.data = rng.bytes(channels * height * width)
            put(b"%08d" % number, datum.SerializeToString())
    before = records(tmp_path / "db")
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "d" data_param { source: "db" batch_size: 1 } }'
    )
    script = (
        "import caffe, numpy as np; net = caffe.Net('net.prototxt', caffe.TEST); found = {}\n"
        "for k in range(25): found['%02d' % k] = net.forward()['d'].astype(np.uint8)\n"
        "np.savez('found.npz', **found)"
    )
    oracle(tmp_path, "python3", "-c", script)
    with np.load(tmp_path / "found.npz") as found:
        for number, (_, record) in enumerate(before):
            datum = caffe_pb2.Datum.FromString(record)
            assert found[f"{number:02d}"].tobytes() == datum.data
    assert records(tmp_path / "db") == before
