"""What the data layers say about files that are missing, damaged or do not fit."""

import cv2
import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import data_cases
from caffe.proto import caffe_pb2
from caffe_plain.errors import DataError
from caffe_plain.extra import ExtraParameter
from data_cases import MEAN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder with the files of data_cases."""
    path = str(tmp_path_factory.mktemp("data"))
    data_cases.write_files(caffe_pb2, path)
    return path


def make_net(folder, text, phase="TRAIN"):
    return data_cases.make_net(caffe, folder, text, phase)


REFUSED = [
    (
        data_cases.data("missing"),
        "no LMDB or LevelDB; there is nothing at that path; the current folder is",
    ),
    (
        data_cases.data("raw").replace("LMDB", "LEVELDB"),
        r"raw is of backend LMDB, but the prototxt says LEVELDB .*write backend: LMDB",
    ),
    (data_cases.data("raw", 'mean_file: "nothing.binaryproto"'), "mean_file: .*compute_image_mean"),
    (
        data_cases.data("raw", 'mean_file: "FOLDER/large_mean.binaryproto"'),
        r"'00000000' of .* has .*\(3, 8, 10\), the mean \(3, 12, 12\)",
    ),
    (data_cases.data("raw", "mean_value: 1 mean_value: 2"), "one mean_value, or one per channel"),
    (data_cases.data("raw", f"mean_value: 1 {MEAN}"), "exclude each other"),
    (data_cases.data("raw", "crop_size: 9"), "'00000000' .* 8 x 10; crop_size 9 must fit"),
    (data_cases.data("raw", "force_gray: true force_color: true"), "exclude each other"),
    (data_cases.images("new_height: 4"), "both new_height and new_width, or neither; found 4"),
    (data_cases.images().replace("images.txt", "none.txt"), "none.txt: No such file"),
    (data_cases.images().replace("images.txt", "hdf5.txt"), "line 1: expected a path and an int"),
    (data_cases.images().replace('"FOLDER/" ', '"nowhere/" '), "nowhere/0 .png: No such file"),
    (data_cases.hdf5("data", "weight"), r"no dataset 'weight'.*\['count', 'data', 'label'\]"),
    (data_cases.hdf5("data").replace("hdf5.txt", "images.txt"), "cannot read HDF5 file 0: "),
    (
        data_cases.hdf5("data").replace("hdf5_data", "transform_param { scale: 2 } hdf5_data"),
        "does not transform",
    ),
    (data_cases.windows().replace("windows.txt", "images.txt"), "line 1 .*each image expected"),
    (data_cases.windows("fg_threshold: 2"), "has no foreground window"),
    (data_cases.windows("", ""), "crop_size must be given"),
    (
        data_cases.dummy("shape { dim: 2 }", ("a", "b", "c")).replace(
            "}", "} data_filler { } data_filler { }", 1
        ),
        "data_filler has 2 values for 3 tops",
    ),
]


@pytest.mark.parametrize("text, pattern", REFUSED, ids=[pattern for _, pattern in REFUSED])
def test_bad_sources_are_refused(folder, text, pattern):
    with pytest.raises(caffe.CaffeError, match=pattern) as error:
        make_net(folder, text)
    assert "'source'" in str(error.value)


def damaged(kind):
    """The raw records, number 4 of them damaged, and what is said about it."""
    records = [data_cases.datum(caffe_pb2, "raw", i).SerializeToString() for i in range(6)]
    return {
        "cut": (records[:4] + [records[4][:50]] + records[5:], "'00000004'.*not a Datum"),
        "short": (
            records[:4]
            + [caffe_pb2.Datum(channels=3, height=9, width=9, data=b"x").SerializeToString()]
            + records[5:],
            r"'00000004'.*\(3, 9, 9\), but it holds 1",
        ),
        "image": (
            records[:4]
            + [caffe_pb2.Datum(encoded=True, data=b"JPEG").SerializeToString()]
            + records[5:],
            "'00000004'.*not an image",
        ),
        "size": (
            records[:4]
            + [data_cases.datum(caffe_pb2, "sizes", 1).SerializeToString()]
            + records[5:],
            r"'00000004' of .* has .*\(3, 9, 11\), but record '00000003'",
        ),
    }[kind]


@pytest.mark.parametrize("kind", ["cut", "short", "image", "size"])
def test_a_damaged_record_is_named_when_it_comes(tmp_path, kind):
    records, pattern = damaged(kind)
    data_cases.write_lmdb(str(tmp_path / "db"), records)
    net = make_net(str(tmp_path), data_cases.data("db", options="batch_size: 3"))
    net.forward()
    for _ in range(2):  # it stays an error, and the net stays usable
        with pytest.raises(caffe.DataError, match=pattern) as error:
            net.forward()
        assert "'source'" in str(error.value) and str(tmp_path / "db") in str(error.value)
    net.layers[0].position = 0
    net.forward()


def test_an_lmdb_that_was_copied_incompletely_is_refused(tmp_path):
    records = [data_cases.datum(caffe_pb2, "raw", i).SerializeToString() for i in range(50)]
    data_cases.write_lmdb(str(tmp_path / "db"), records)
    with open(tmp_path / "db" / "data.mdb", "r+b") as file:
        file.truncate(20000)
    with pytest.raises(caffe.DataError, match="has 20000 bytes, its header says"):
        make_net(str(tmp_path), data_cases.data("db"))


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
def test_what_is_no_lmdb_is_refused(tmp_path, content):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "data.mdb").write_bytes(content)
    with pytest.raises(caffe.DataError, match="not a readable LMDB"):
        make_net(str(tmp_path), data_cases.data("db"))


def test_an_empty_lmdb_is_refused(tmp_path):
    data_cases.write_lmdb(str(tmp_path / "db"), [])
    with pytest.raises(caffe.DataError, match="the LMDB is empty"):
        make_net(str(tmp_path), data_cases.data("db"))


def test_a_leveldb_is_recognised(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "CURRENT").touch()
    with pytest.raises(caffe.LayerError, match="db is of backend LEVELDB.*write backend: LEVELDB"):
        make_net(str(tmp_path), data_cases.data("db"))


def test_an_lmdb_file_without_its_folder(folder):
    net = make_net(folder, data_cases.data("raw/data.mdb"))
    assert net.forward()["label"].tolist() == [0, 1, 2, 3]


def test_an_lmdb_can_be_replaced_when_its_nets_are_gone(tmp_path):
    for label in (1, 2):
        record = data_cases.datum(caffe_pb2, "raw", label).SerializeToString()
        path = tmp_path / "db"
        if path.exists():
            with (
                lmdb.open(str(path), map_size=1 << 24) as environment,
                environment.begin(write=True) as db,
            ):
                db.put(b"00000000", record)
        else:
            data_cases.write_lmdb(str(path), [record])
        net = make_net(str(tmp_path), data_cases.data("db"))
        assert net.forward()["label"].tolist() == [label] * 4
        del net


# ---- damaged records that are left out -----------------------------------------------------------


DATA = """layer {{ name: "data" type: "Data" top: "data" top: "label"
                  data_param {{ source: "{0}/db" batch_size: 4 backend: LMDB }} }}"""
IMAGE_DATA = """layer {{ name: "data" type: "ImageData" top: "data" top: "label"
                 image_data_param {{ source: "{0}/list" root_folder: "{0}/" batch_size: 4
                                     is_color: false }} }}"""


def solver_on(folder, count, damaged, net=DATA, **extra):
    """A solver on `count` records, each of one value, its number; some of them are damaged."""
    (write_records if net == DATA else write_images)(folder, count, damaged)
    net = text_format.Parse(net.format(folder), caffe_pb2.NetParameter())
    param = caffe_pb2.SolverParameter(net_param=net, lr_policy="fixed", base_lr=0)
    return caffe.get_solver(param, ExtraParameter(**extra))


def write_records(folder, count, damaged):
    with (
        lmdb.open(str(folder / "db"), map_size=1 << 22) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(count):
            datum = caffe_pb2.Datum(channels=1, height=1, width=1, label=number)
            datum.data = bytes([number]) if number not in damaged else b"too long"
            transaction.put(b"%04d" % number, datum.SerializeToString())


def write_images(folder, count, damaged):
    """Of the damaged ones every second file is not there."""
    (folder / "list").write_text("".join(f"{n:04d}.png {n}\n" for n in range(count)))
    for number in range(count):
        if number not in damaged:
            cv2.imwrite(str(folder / f"{number:04d}.png"), np.full((1, 1), number, np.uint8))
        elif number % 2:
            (folder / f"{number:04d}.png").write_text("not an image")


def labels(net, batches):
    return [[int(x) for x in net.forward() and net.blobs["label"].data] for _ in range(batches)]


BOTH = pytest.mark.parametrize("net", [DATA, IMAGE_DATA], ids=["Data", "ImageData"])


@BOTH
def test_damaged_records_are_left_out_where_that_is_wanted(tmp_path, caplog, net):
    solver = solver_on(tmp_path, 10, {2, 5, 6}, net, skip_damaged=True)
    assert labels(solver.net, 3) == [[0, 1, 3, 3], [4, 7, 7, 7], [8, 9, 0, 1]]
    solver.net.layer_dict["data"].position = 4  # as a resumed run
    assert labels(solver.net, 2) == [[4, 7, 7, 7], [8, 9, 0, 1]]
    solver.net.layer_dict["data"].close()
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(said) == 3  # each once, although the records come again
    assert "layer 'data' (" in said[0] and "0002" in said[0] and "number 1" in said[0]


@BOTH
def test_damaged_records_are_an_error_where_it_is_not(tmp_path, net):
    solver = solver_on(tmp_path, 10, {2}, net)
    with pytest.raises(DataError, match="layer 'data' .*0002"):
        solver.net.forward()


@BOTH
def test_a_data_set_of_few_intact_records(tmp_path, net):
    """The first of them gives the shape of the batches."""
    assert labels(solver_on(tmp_path, 3, {0, 2}, net, skip_damaged=True).net, 1) == [[1, 1, 1, 1]]


@BOTH
def test_too_many_damaged_records_are_an_error(tmp_path, net):
    solver = solver_on(tmp_path, 110, range(5, 106), net, skip_damaged=True)
    with pytest.raises(DataError, match="101 records are damaged: (make|correct) the"):
        labels(solver.net, 30)


@BOTH
def test_no_intact_record_in_the_share_of_a_process_is_an_error(tmp_path, net):
    solver = solver_on(tmp_path, 4, {1, 3}, net, skip_damaged=True)
    reader = solver.net.layer_dict["data"].reader
    with pytest.raises(DataError, match="2 records are damaged: (make|correct) the"):
        next(reader.records(1, 2))
