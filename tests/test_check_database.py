"""check_database: what it finds in a database that is good, or damaged in many ways."""

import shutil

import cv2
import lmdb
import numpy as np
import pytest

from caffe.proto import caffe_pb2
from caffe_plain.errors import DataError
from relaybp.data_prep import check_database, compute_image_mean
from relaybp.data_prep.check_records import check_record
from relaybp.data_prep.datum_db import DatumDB, encoded_datum, key_of, raw_datum
from relaybp.data_prep.errors import PrepError
from relaybp.layers.images import open_image
from relaybp.layers.record_index import FILE
from tests.data_images import records

COUNT, CLASSES = 150, 4  # more than one run of records
PIXELS = np.random.RandomState(0).randint(0, 256, (COUNT, 3, 12, 10), dtype=np.uint8)
SMOOTH = cv2.resize(np.random.RandomState(1).randint(0, 256, (6, 8, 3), np.uint8), (80, 60))
JPEG, PNG = (cv2.imencode(kind, SMOOTH)[1].tobytes() for kind in (".jpg", ".png"))


def image(k):
    """A JPEG or a PNG like no other."""
    pixels = np.roll(SMOOTH, (k, 1 + k // 80), (1, 0))
    return cv2.imencode(".jpg" if k % 3 == 1 else ".png", pixels)[1].tobytes()


def key(k):
    return key_of(k, b"%d.jpg" % k)


def record(k):
    """Raw, JPEG and PNG in turn."""
    if k % 3:
        return encoded_datum(image(k), k % CLASSES)
    return raw_datum(PIXELS[k].tobytes(), PIXELS[k].shape, k % CLASSES)


def database(folder):
    with DatumDB(folder, {}) as db:
        for k in range(COUNT):
            db.put(key(k), record(k))
        db.finish(np.bincount(np.arange(COUNT) % CLASSES).tolist(), list("abcd"))
    return folder


def change(db, changes):
    """Overwrite records: {number: bytes}."""
    with lmdb.open(str(db), map_size=1 << 26) as env, env.begin(write=True) as txn:
        for k, value in changes.items():
            txn.put(key(k), value)


def run(db, capsys):
    """The exit status and the lines that it prints."""
    status = check_database.main(["--workers=1", str(db)])
    return status, capsys.readouterr().out.splitlines()


def test_a_good_database(tmp_path, capsys):
    db = database(tmp_path / "db")
    counts = [38, 38, 37, 37]
    for by_others in (False, True):
        names = [""] * 4 if by_others else list("abcd")
        assert run(db, capsys) == (
            0,
            [
                *(f"label {k}: {counts[k]} records {names[k]}".rstrip() for k in range(4)),
                f"{db}: 150 records of 2 sizes, shorter side 10 to 60, 3 channels, 4 classes; 0 "
                "bad records, 0 problems of the whole",
            ],
        )
        for name in ("classes.txt", "class_index.tsv", FILE, "checksums.npy"):
            (db / name).unlink(missing_ok=True)


def test_it_finds_whatever_training_would_stop_at():
    """One or two flipped bits anywhere after the header; OpenCV may accept them."""
    random, found = np.random.RandomState(0), 0
    marked = cv2.imencode(".jpg", SMOOTH, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
    for _ in range(600):
        data = marked
        for at in random.randint(20, len(data), random.randint(1, 3)):
            data = data[:at] + bytes([data[at] ^ 1 << random.randint(8)]) + data[at + 1 :]
        reason = check_record(encoded_datum(data, 0)).reason
        try:
            image = open_image(data)
            image.part(0, 0, *image.size)
        except ValueError:
            found += 1
            assert reason
    assert found > 50


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


WITH_ANY_BYTES = "not the bytes that were written"
SPOILED = {  # number of the record: its bytes, what is said, what is said without side files
    0: (flipped(record(0), 100), WITH_ANY_BYTES, None),  # one bit of a pixel
    1: (encoded_datum(JPEG[:-40], 1), "not an image that OpenCV can decode", 0),
    2: (encoded_datum(flipped(PNG, 600), 2), "not an image that OpenCV can decode", 0),
    3: (record(3)[:200], "200 bytes that are not a Datum", 0),
    4: (encoded_datum(JPEG[:1400] + b"\xff\xd0" + JPEG[1402:], 0), "image: Corrupt JPEG data", 0),
    6: (raw_datum(bytes(9), (3, 12, 10), 2), "width say (3, 12, 10), but it holds 9 values", 0),
    64: (encoded_datum(b"", 0), "an empty image", 0),
    65: (encoded_datum(b"hello", 1), "not an image that OpenCV can decode (5 bytes)", 0),
    67: (encoded_datum(JPEG, 2), WITH_ANY_BYTES, None),  # a wrong label
    100: (encoded_datum(PNG, -3), WITH_ANY_BYTES, None),
    149: (b"", "channels, height, width say (0, 0, 0)", 0),
}


def test_every_spoiled_record_is_named(tmp_path, capsys):
    db = database(tmp_path / "db")
    change(db, {k: value for k, (value, _, _) in SPOILED.items()})
    status, lines = run(db, capsys)
    bad = [line for line in lines if line.startswith("bad record")]
    assert status == 1 and len(bad) == len(SPOILED)
    for line, (k, (_, reason, _)) in zip(bad, SPOILED.items(), strict=True):
        assert line.startswith(f"bad record '{key(k).decode()}': ") and reason in line
    assert "problem: class_index.tsv says 37 records of label 3, found 35" in lines
    assert lines[-1].startswith(f"{db}: 150 records of ")
    assert lines[-1].endswith("5 classes; 11 bad records, 3 problems of the whole")


@pytest.mark.parametrize("k", SPOILED)
def test_what_can_be_found_without_side_files(k):
    value, reason, found = SPOILED[k]
    said = check_record(value).reason
    assert said is None if found is None else reason in said


def test_images_in_two_classes_and_in_two_databases(tmp_path, capsys):
    """In whatever format: a PNG has the pixels of the raw record beside it."""
    for name, first in (("train", 0), ("val", 2)):
        with DatumDB(tmp_path / name, {}) as db:
            for k in range(first, first + 5):
                pixels = PIXELS[k % 4]
                raw = raw_datum(pixels.tobytes(), pixels.shape, k // 3)
                png = cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()
                db.put(key(k), raw if k % 2 else encoded_datum(png, k // 3))
            db.finish([3, 2, 0] if name == "train" else [1, 3, 1], "abc")
    assert run(tmp_path / "train", capsys)[0] == 0
    status = check_database.main(["--workers=1", str(tmp_path / "train"), str(tmp_path / "val")])
    said = capsys.readouterr().out
    train, val = tmp_path / "train", tmp_path / "val"
    assert status == 1
    assert f"note: {train}: 2 records are 1 images, under several labels:\n  00000000_0.jpg" in said
    assert f"note: {val}: 2 records are 1 images, under several labels:\n  00000002_2.jpg" in said
    assert f"problem: 5 records of {val} are images of {train}:\n" in said
    assert f"00000002_2.jpg of {train}, label 0 = 00000002_2.jpg of {val}, label 0" in said


def test_images_of_different_channels(tmp_path, capsys):
    gray, deep = cv2.imencode(".png", SMOOTH[:, :, 0])[1], np.uint16(SMOOTH) << 8
    with DatumDB(tmp_path / "db", {}) as db:
        for k, data in enumerate((PNG, gray.tobytes(), cv2.imencode(".png", deep)[1].tobytes())):
            db.put(key(k), encoded_datum(data, 0))
        db.finish([3], "a")
    status, lines = run(tmp_path / "db", capsys)
    cure = "give the Data layer transform_param { force_color: true } (and this check "
    assert status == 1
    assert lines[0].startswith(
        f"bad record '{key(2).decode()}': pixels of uint16, not of 8 bits: {cure}"
    )
    assert f"problem: images of different numbers of channels (1 of 1, 1 of 3): {cure}" in lines[2]
    assert check_database.main(["--workers=1", "--force_color", str(tmp_path / "db")]) == 0
    with pytest.raises(DataError, match="8 bits .*force_color: true"):
        compute_image_mean.mean_of(tmp_path / "db")
    mean, _ = compute_image_mean.mean_of(tmp_path / "db", force_color=True)
    grays = SMOOTH[:, :, :1].repeat(3, 2)
    np.testing.assert_allclose(mean.transpose(1, 2, 0), (2.0 * SMOOTH + grays) / 3)


def test_databases_that_number_their_classes_differently(tmp_path, capsys):
    for name, classes in (("train_lmdb", "abc"), ("val_lmdb", "ac")):
        with DatumDB(tmp_path / name, {}) as db:
            db.put(key(0), encoded_datum(image(len(classes)), 1))
            db.finish([0, 1], classes)
    status, lines = run(tmp_path / "val_lmdb", capsys)
    assert status == 1
    assert lines[-1].startswith(f"problem: {tmp_path}/val_lmdb numbers its classes unlike the")
    assert lines[-1].endswith("label 1 is 'c' here and 'b' there")
    assert lines[1] == "note: 1 of 2 classes have no record:\n  a".partition("\n")[0]


def test_a_negative_label_in_a_database_of_others(tmp_path, capsys):
    db = database(tmp_path / "db")
    change(db, {100: encoded_datum(PNG, -3)})
    for path in [*db.glob("*.npy"), *db.glob("cl*")]:
        path.unlink()
    status, lines = run(db, capsys)
    assert (status, lines[0]) == (1, f"bad record '{key(100).decode()}': label -3 is negative")


def test_floats():
    datum = caffe_pb2.Datum(float_data=[1, 2, 3, 4], channels=1, height=2, width=2, label=3)
    found = check_record(datum.SerializeToString())
    assert (found.label, found.shape, found.reason) == (3, (1, 2, 2), None)
    datum.height = 3
    assert "but it holds 4 values" in check_record(datum.SerializeToString()).reason


def test_a_bit_that_flips_on_the_disk(tmp_path, capsys):
    db = database(tmp_path / "db")
    content = (db / "data.mdb").read_bytes()
    at = content.index(PIXELS[33].tobytes()[:200])
    (db / "data.mdb").write_bytes(flipped(content, at + 150))
    status, lines = run(db, capsys)
    assert status == 1
    assert lines[0] == f"bad record '{key(33).decode()}': {WITH_ANY_BYTES}"
    assert lines[-1].endswith("1 bad records, 0 problems of the whole")


def test_side_files_that_do_not_fit(tmp_path, capsys):
    db = database(tmp_path / "db")
    (db / "classes.txt").write_text("a\nb\nc\n")
    (db / "class_index.tsv").write_text("0\t38\n1\t38\n2\t37\n3\t40\n")
    rows = np.load(db / FILE)
    rows["label"][0] = 2
    rows["key"][1] = b"7"
    np.save(db / FILE, rows)
    np.save(db / "checksums.npy", np.load(db / "checksums.npy")[:-1])
    status, lines = run(db, capsys)
    bad = [line.partition(": ")[2] for line in lines if line.startswith("bad")]
    assert status == 1
    assert bad[:2] == [
        "its label is 0, in record_index.npy 2",
        "record_index.npy has another key there: b'7'",
    ]
    assert set(bad[2:]) == {"label 3 has no name: classes.txt has 3 lines"} and len(bad) == 39
    assert [line for line in lines if line.startswith("problem")] == [
        "problem: checksums.npy has 149 rows for 150 records",
        "problem: class_index.tsv says 40 records of label 3, found 37",
    ]


def test_what_is_no_database(tmp_path):
    db = database(tmp_path / "db")
    (db / "checksums.npy").write_bytes(b"")
    with pytest.raises(PrepError, match="checksums.npy: .*delete it"):
        check_database.check(db)
    with open(db / "data.mdb", "r+b") as file:
        file.truncate(1 << 14)
    with pytest.raises(DataError, match="db: data.mdb has .*it was copied incompletely"):
        check_database.check(db)
    shutil.move(db, tmp_path / "db.partial")
    with pytest.raises(DataError, match="db: no LMDB or LevelDB; its conversion has not finished"):
        check_database.check(db)


def test_the_mean_of_a_spoiled_database_is_refused(tmp_path):
    db = database(tmp_path / "db")
    assert len(records(db)) == COUNT
    change(db, {0: b"\x22\xff"})
    with pytest.raises(Exception, match="record .*00000000_0.jpg.*2 bytes that are not a Datum"):
        compute_image_mean.mean_of(db)
