"""LevelDBs: recorded ones of BVLC Caffe, and ones written by hand with all that LevelDB may do."""

import io
import logging
import os

import numpy as np
import pytest

from caffe_plain.database import new_database, open_database
from caffe_plain.errors import DataError
from caffe_plain.leveldb import LevelDB, snappy
from caffe_plain.leveldb.crc32c import crc32c
from caffe_plain.leveldb.log import append_record, read_log
from caffe_plain.leveldb.snappy import decompress
from tests import leveldb_files as files

GOLDEN = os.path.join(os.path.dirname(__file__), "golden", "leveldb.npz")


def contents(folder):
    return {key: bytes(value) for key, value in LevelDB(str(folder)).records()}


def recorded(name):
    """{name after NAME/: bytes} of the recordings."""
    with np.load(GOLDEN) as arrays:
        return {
            key.partition("/")[2]: arrays[key].tobytes()
            for key in arrays
            if key.startswith(f"{name}/")
        }


def restore(folder, name):
    folder.mkdir()
    for file, data in recorded(name).items():
        (folder / file).write_bytes(data)
    return folder


@pytest.mark.parametrize("name", ["log", "table"])
def test_bvlc_caffes_databases_hold_the_records_of_its_lmdb(tmp_path, name):
    records = recorded("records")
    assert len(records) == 40
    found = contents(restore(tmp_path / "db", name))
    assert {key.decode(): value for key, value in found.items()} == records


def random_history(rng, count):
    """Writes and deletions of few keys, and what they leave: entries, {key: value}."""
    entries, left = [], {}
    for sequence in range(1, count + 1):
        key = b"%03d%s" % (rng.integers(40), b"x" * rng.integers(3))
        value = rng.bytes(int(rng.integers(0, 200))) if rng.random() < 0.7 else None
        entries.append((key, sequence, value))
        left[key] = value
    return entries, {key: value for key, value in left.items() if value is not None}


def by_key(entries):
    return sorted(entries, key=lambda entry: (entry[0], -entry[1]))


def history_database(folder, rng, count=400):
    """The older half of a history in levels 2 and 1, then overlapping tables, then two logs."""
    entries, left = random_history(rng, count)
    cuts = [0, *sorted(rng.choice(np.arange(1, count), 5, replace=False)), count]
    parts = [entries[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    tables = []
    for level, part in zip((2, 1, 0, 0), parts, strict=False):
        part = by_key(part)
        size = 1 + len(part) // 3 if level else len(part)  # three tables that do not overlap
        for at in range(0, len(part), size):
            piece = part[at : at + size]
            made = files.table(piece, int(rng.integers(1, 9)), bool(rng.integers(2)))
            tables.append((level, piece, made))
    logs = [
        files.log([files.batch(part[at : at + 7]) for at in range(0, len(part), 7)])
        for part in parts[4:]
    ]
    return files.write(folder, tables, logs), left


@pytest.mark.parametrize("seed", range(8))
def test_the_newest_write_of_a_key_counts(tmp_path, seed):
    rng = np.random.default_rng(seed)
    folder, left = history_database(tmp_path / "db", rng)
    database = LevelDB(str(folder))
    assert list(database.records()) == sorted(left.items())
    assert database.stat()["entries"] == len(left)
    with database.begin() as transaction, transaction.cursor() as cursor:
        for key in [b"", *(b"%03d" % number for number in rng.integers(0, 45, 20)), b"9"]:
            after = sorted(item for item in left.items() if item[0] >= key)
            assert cursor.set_range(key) == bool(after)
            assert list(cursor.iternext()) == after if after else cursor.key() == b""


def test_the_cursor_moves_as_lmdbs(tmp_path):
    records = [(b"%02d" % number, bytes([number]) * number) for number in range(20)]

    def walk(environment):
        with environment.begin() as transaction, transaction.cursor() as cursor:
            yield cursor.next(), cursor.key(), cursor.value()
            yield cursor.next(), cursor.key()
            yield list(cursor)
            yield cursor.next(), cursor.first(), cursor.key()
            yield cursor.set_range(b"07x"), list(cursor.iternext(values=False))
            yield cursor.set_range(b"3"), cursor.key(), cursor.value()
        with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            yield [(bytes(key), bytes(value)) for key, value in cursor]
            yield cursor.first(), type(cursor.value())
        yield environment.stat()["entries"]
        environment.close()

    for backend in ("lmdb", "leveldb"):
        with new_database(tmp_path / backend, backend) as put:
            for record in records:
                put(*record)
    walks = [list(walk(open_database(tmp_path / backend))) for backend in ("lmdb", "leveldb")]
    assert walks[0] == walks[1]


def test_a_folder_that_cannot_be_written_to_is_read_and_stays(tmp_path):
    folder = restore(tmp_path / "db", "table")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    folder.chmod(0o500)
    first, second = LevelDB(str(folder)), LevelDB(str(folder))  # no lock
    assert dict(first.records()) == dict(second.records())
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["log", "table"])
def test_a_changed_byte_never_changes_a_record(tmp_path, caplog, name):
    whole = contents(restore(tmp_path / "db", name))
    rng = np.random.default_rng(0)
    errors = 0
    for path in sorted((tmp_path / "db").iterdir()):
        data = path.read_bytes()
        for at in rng.integers(0, len(data), 60) if data else ():
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1 :])
            caplog.clear()
            try:
                found = contents(tmp_path / "db")
            except DataError as error:
                assert str(tmp_path / "db") in str(error)
                errors += 1
            else:  # nothing was said of it: the end of a footer, unused
                assert found == whole or "is cut off" in caplog.text
        path.write_bytes(data)
    assert errors > 100


def test_a_changed_byte_is_named_with_its_file_and_block(tmp_path):
    folder = restore(tmp_path / "db", "table")
    data = bytearray((folder / "000005.ldb").read_bytes())
    data[100] ^= 4
    (folder / "000005.ldb").write_bytes(data)
    with pytest.raises(
        DataError,
        match=r"000005.ldb: at byte 0: expected \d+ bytes with checksum 0x[0-9a-f]{8}, found 0x.*; "
        "the database is damaged: copy it again",
    ):
        contents(folder)


@pytest.mark.parametrize("kept", [0, 1, 47, 48, 5000, 5435])
def test_a_truncated_table_is_an_error(tmp_path, kept):
    folder = restore(tmp_path / "db", "table")
    os.truncate(folder / "000005.ldb", kept)
    with pytest.raises(DataError, match=f"000005.ldb: expected 5436 bytes, found {kept}; .*copy"):
        LevelDB(str(folder))


def test_a_missing_table_is_an_error(tmp_path):
    folder = restore(tmp_path / "db", "table")
    (folder / "000005.ldb").unlink()
    with pytest.raises(DataError, match="000005.ldb: .*MANIFEST names it, but it is not there"):
        LevelDB(str(folder))


def test_a_log_that_ends_in_a_record_is_read_up_to_it_and_says_so(tmp_path, caplog):
    entries = [(b"%02d" % number, number, bytes(5000)) for number in range(1, 30)]
    whole = files.log([files.batch([entry]) for entry in entries])
    folder = files.write(tmp_path / "db", logs=[whole])
    assert len(contents(folder)) == 29
    assert not caplog.records
    os.truncate(folder / "000050.log", len(whole) - 2)
    with caplog.at_level(logging.WARNING, "caffe"):
        assert list(contents(folder)) == [key for key, _, _ in entries[:-1]]
    assert f"000050.log: a record is cut off by the end of the file, at byte {len(whole) - 2}" in (
        caplog.text
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"comparator": b"idb_cmp1"}, "compared by b'idb_cmp1', not b'leveldb.Bytewise"),
        ({"deleted": [(0, 77)]}, "MANIFEST-000002: at byte 7: expected a change"),
    ],
)
def test_a_manifest_that_is_not_understood_is_an_error(tmp_path, changes, message):
    folder = files.write(tmp_path / "db", **changes)
    with pytest.raises(DataError, match=message):
        LevelDB(str(folder))


def test_a_log_whose_writes_are_in_tables_does_not_count(tmp_path):
    entries = [(b"a", 1, b"old")]
    made = (0, entries, files.table(entries, 1))
    log = files.log([files.batch([(b"b", 2, b"in no table")])])
    assert contents(files.write(tmp_path / "new", [made], [log], log_number=50)) == {
        b"a": b"old",
        b"b": b"in no table",
    }
    assert contents(files.write(tmp_path / "old", [made], [log], log_number=51)) == {b"a": b"old"}


def test_an_empty_database_is_an_error(tmp_path):
    folder = files.write(tmp_path / "db", logs=[files.log([files.batch([(b"a", 1, None)])])])
    with pytest.raises(DataError, match="db: the LevelDB is empty; make it again"):
        open_database(folder)


def test_the_checksum_is_that_of_the_definition():
    assert crc32c(b"123456789") == 0xE3069283  # the catalogue's check value
    rng = np.random.default_rng(1)
    for size in [*range(70), 127, 128, 129, 1000, 4099]:
        data = rng.bytes(size)
        assert crc32c(data) == crc32c(data[: size // 3], data[size // 3 :]) == files.crc32c(data)


@pytest.mark.parametrize(
    "compressed, expected",
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x05\x08abc\x05", None),  # cut off
        (b"\x07\x08abc\x01\x03", b"abcabca"),  # a copy of 4 from 3 back, over its own end
        (b"\x0d\x00a\x2e\x01\x00", b"a" * 13),  # a copy of 12 from 1 back, in two bytes
        (b"\x06\x08abc\x0b\x03\x00\x00\x00", b"abcabc"),  # of 3 from 3 back, in four bytes
        (b"\x46\xf0\x45" + bytes(range(70)), bytes(range(70))),  # a length of its own
        (b"\x06\x08abc\x0b\x04\x00\x00\x00", None),  # from before the beginning
        (b"\x06\x08abc\x0b\x00\x00\x00\x00", None),
        (b"\x04\x08abc", None),  # too short
    ],
)
@pytest.mark.parametrize("by", ["python", "cramjam"])
def test_snappy_by_hand(compressed, expected, by, monkeypatch):
    if by == "python":
        monkeypatch.setattr(snappy, "cramjam", None)
    elif snappy.cramjam is None:
        pytest.skip("cramjam is not installed")
    if expected is None:
        with pytest.raises(ValueError):
            decompress(compressed)
    else:
        assert decompress(compressed) == expected


@pytest.mark.parametrize("before", range(files.BLOCK - 30, files.BLOCK + 3))
def test_a_log_is_written_as_by_hand_around_the_end_of_a_block(before):
    records = [bytes(before - 7), b"abc" * 5, bytes(range(256)) * 300, b""]
    file = io.BytesIO()
    for record in records:
        append_record(file, record)
    assert file.getvalue() == files.log(records)
    assert [record for _, record in read_log("log", memoryview(file.getvalue()))] == records


@pytest.mark.parametrize("size", [0, 1, 32000, 32728, 32734, 32735, 32736, 32742, 32743, 100000])
def test_values_are_found_across_the_blocks_of_a_log(tmp_path, size):
    rng = np.random.default_rng(size)
    records = {b"%04d" % k: rng.bytes(n) for k, n in enumerate([size, 100000, 0, size, 70000])}
    with new_database(tmp_path / "db", "leveldb") as put:
        for record in records.items():
            put(*record)
    assert contents(tmp_path / "db") == records
    entries = [(key, number, value) for number, (key, value) in enumerate(records.items(), 1)]
    by_hand = files.write(tmp_path / "hand", logs=[files.log([files.batch([e]) for e in entries])])
    assert contents(by_hand) == records


def test_a_database_is_made_whole_or_not_at_all(tmp_path):
    for backend in ("lmdb", "leveldb"):
        with pytest.raises(KeyError), new_database(tmp_path / "db", backend) as put:
            put(b"key", b"value")
            raise KeyError
        assert not list(tmp_path.iterdir())
    with (
        pytest.raises(DataError, match="'rocksdb'; expected lmdb or leveldb"),
        new_database(tmp_path / "db", "rocksdb"),
    ):
        pass
