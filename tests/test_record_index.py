"""The class index of a database, and the Datum parser, against protobuf and LMDB themselves."""

import shutil

import lmdb
import numpy as np
import pytest

from caffe.proto import caffe_pb2
from caffe_plain.database import open_database
from caffe_plain.errors import DataError
from relaybp.data_prep.datum_db import DatumDB, key_of, raw_datum
from relaybp.layers import record_index
from relaybp.layers.datum import read_datum
from relaybp.layers.errors import SceneError
from relaybp.layers.record_index import FILE, key_beginning, read_index


def write_lmdb(path, records):
    """An LMDB as others make it; records: {key: bytes}."""
    with (
        lmdb.open(str(path), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, record in records.items():
            transaction.put(key, record)
    return str(path)


def some_records(count, key=b"%08d_x.jpg"):
    return {key % k: raw_datum(bytes(12), (3, 2, 2), k * k % 7) for k in range(count)}


def assert_index_of(index, db):
    """Every key is found, and every label is the one that protobuf reads."""
    with open_database(db) as environment, environment.begin() as transaction:
        items = list(transaction.cursor())
        with transaction.cursor() as cursor:
            for record, (key, _) in enumerate(items):
                assert cursor.set_range(index.key(record))
                assert cursor.key() == key
    expected = [caffe_pb2.Datum.FromString(value).label for _, value in items]
    assert index.labels.tolist() == expected


def test_it_is_built_for_a_database_that_others_made(tmp_path, monkeypatch):
    monkeypatch.setattr(record_index, "_CHUNK", 7)
    db = write_lmdb(tmp_path / "db", some_records(50))
    assert_index_of(read_index(db), db)
    rows = np.load(tmp_path / "db" / FILE)
    assert rows.dtype == [("key", "S8"), ("label", "<i4")]
    monkeypatch.setattr(record_index, "build_rows", None)  # not built again
    assert_index_of(read_index(db), db)


@pytest.mark.parametrize(
    "keys",
    [
        [b"a", b"ab", b"abc", b"b"],
        [b"a/1.jpg", b"a/10.jpg", b"a/2.jpg"],
        [b"\0\1", b"a\0b", b"a\0c"],
        [
            bytes(np.random.RandomState(k).randint(1, 4, 1 + k % 9).astype(np.uint8))
            for k in range(80)
        ],
        [b"x" * 511],
    ],
    ids=range(5),
)
def test_any_key_is_found(tmp_path, keys):
    db = write_lmdb(
        tmp_path / "db", {key: raw_datum(b"", (1, 1, 1), k) for k, key in enumerate(keys)}
    )
    assert_index_of(read_index(db), db)


def test_a_beginning_reaches_beyond_the_key_before():
    assert key_beginning(b"00000010_a", b"00000009_x") == b"0000001"
    assert key_beginning(b"0_a", b"") == b"0"
    assert key_beginning(b"a\0\0b", b"a") == b"a\0\0b"
    with pytest.raises(SceneError, match="ends with a zero byte.*with a Data layer"):
        key_beginning(b"a\0", b"a")


def test_it_is_written_while_converting(tmp_path):
    with DatumDB(tmp_path / "db", {}) as db:
        for k in range(2500):
            db.put(key_of(k, b"x.jpg"), raw_datum(b"abc", (3, 1, 1), k % 3))
        db.finish([834, 833, 833], list("abc"))
    assert sorted(path.name for path in (tmp_path / "db").iterdir()) == [
        "checksums.npy",
        "class_index.tsv",
        "classes.txt",
        "data.mdb",
        FILE,
        "settings.json",
    ]
    rows = np.load(tmp_path / "db" / FILE)
    with open_database(str(tmp_path / "db")) as environment:
        built = record_index.build_rows(environment, "db")
    assert rows["key"].tolist() == built["key"].tolist()
    assert rows["label"].tolist() == built["label"].tolist() == [k % 3 for k in range(2500)]


def test_the_index_goes_on_after_an_interruption(tmp_path):
    settings = {"a": 1}
    for first, last in ((0, 10), (10, 30)):
        with DatumDB(tmp_path / "db", settings) as db:
            for k in range(first, last):
                db.put(key_of(k, b""), raw_datum(b"a", (1, 1, 1), k))
            db.flush()
            with open(tmp_path / "db.partial" / "record_index.rows", "ab") as file:
                file.write(bytes(30))  # noted, but killed before it was committed
    with DatumDB(tmp_path / "db", settings) as db:
        db.finish([1] * 30, ["x"] * 30)
    assert_index_of(read_index(str(tmp_path / "db")), str(tmp_path / "db"))


def test_an_index_of_another_database_is_not_used(tmp_path):
    db = write_lmdb(tmp_path / "db", some_records(20))
    read_index(db)
    other = write_lmdb(
        tmp_path / "other", {key: raw_datum(b"", (1, 1, 1), 5) for key in some_records(20)}
    )
    shutil.copy(tmp_path / "db" / FILE, tmp_path / "other" / FILE)
    assert read_index(other).labels.tolist() == [5] * 20
    (tmp_path / "other" / FILE).write_bytes(b"damaged")
    assert_index_of(read_index(other), other)


def test_where_the_folder_cannot_be_written_the_cache_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    db = write_lmdb(tmp_path / "db", some_records(20))
    (tmp_path / "db" / FILE).mkdir()  # nothing can be renamed to this
    assert_index_of(read_index(db), db)
    assert len(list((tmp_path / "cache" / "caffe-relay").iterdir())) == 1
    monkeypatch.setattr(record_index, "build_rows", None)
    assert_index_of(read_index(db), db)


def test_bad_databases_are_named(tmp_path):
    with pytest.raises(DataError, match="none: no LMDB.*current folder is"):
        read_index(str(tmp_path / "none"))
    with pytest.raises(DataError, match="the LMDB is empty; make it again"):
        read_index(write_lmdb(tmp_path / "empty", {}))
    db = write_lmdb(tmp_path / "bad", {b"0": raw_datum(b"", (1, 1, 1), 0), b"1": b"\x22\x90"})
    with pytest.raises(SceneError, match="record '1': 2 bytes that are not a Datum; convert it"):
        read_index(db)
    cut = tmp_path / "cut.mdb"
    cut.write_bytes((tmp_path / "bad" / "data.mdb").read_bytes()[:9000])
    with pytest.raises(DataError, match="copied incompletely"):
        read_index(str(cut))
    (tmp_path / "text.mdb").write_text("hello" * 5000)
    with pytest.raises(DataError, match="not a readable LMDB"):
        read_index(str(tmp_path / "text.mdb"))


# ---- Datum ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"label": 7},
        {"label": -1},
        {"label": 2**31 - 1},
        {"label": -(2**31)},
        {
            "channels": 3,
            "height": 200,
            "width": 70000,
            "data": bytes(range(256)) * 300,
            "label": 400,
        },
        {"encoded": True, "data": b"\xff\xd8", "label": 3},
        {"float_data": [1.5] * 9, "label": 2},
    ],
    ids=str,
)
def test_read_datum_is_protobufs(fields):
    datum = caffe_pb2.Datum(**fields)
    found = read_datum(datum.SerializeToString())
    for name in ("channels", "height", "width", "label", "encoded"):
        assert getattr(found, name) == getattr(datum, name)
    assert bytes(found.data) == datum.data
    assert bool(found.float_data) == bool(datum.float_data)


def test_read_datum_makes_no_copy():
    record = np.frombuffer(raw_datum(bytes(1000), (10, 10, 10), 1), np.uint8)
    assert np.shares_memory(np.frombuffer(read_datum(record).data, np.uint8), record)


@pytest.mark.parametrize("cut", [1, 30, 999, 1003])
def test_a_damaged_datum_is_refused(cut):
    record = raw_datum(bytes(1000), (10, 10, 10), 300)
    with pytest.raises(ValueError, match=f"^{cut} bytes that are not a Datum$"):
        read_datum(record[:cut])
    for byte in range(256):  # whatever it holds, it ends with an answer
        damaged = bytes([byte]) + record[1:40]
        try:
            read_datum(damaged)
        except ValueError as error:
            assert "not a Datum" in str(error)
