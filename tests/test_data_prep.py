"""convert_imageset: the original's records byte for byte, and nothing half-written."""

import operator
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.files.datum import decode_datum, parse_datum
from caffe_plain.errors import CaffeError
from relaybp.data_prep import convert_imageset, datum_db, growing_db, image_list
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.images import Options, read_image
from relaybp.data_prep.workers import process_map, thread_map
from tests.data_images import (
    HANGING,
    SIDE_FILES,
    convert,
    golden_records,
    kill_while_writing,
    many_images,
    records,
    script,
    write_images,
)
from tests.oracle import record_data_prep as cases

ROOT = Path(__file__).resolve().parents[1]
PLAIN = Options(
    gray=False, height=0, width=0, short=0, encoding=None, keep_damaged=False, keep_exif=False
)


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path)


# convert_imageset against the original


@pytest.mark.parametrize("name", cases.CONVERSIONS)
def test_records_are_those_of_the_original(images, name):
    expected = golden_records(name)
    assert len(expected) == len(cases.IMAGES)
    assert records(convert(images, *cases.CONVERSIONS[name])) == expected


ORACLE = ROOT.parent / "shared" / "oracle" / "run.sh"
READ_WITH_CAFFE = """
import caffe, numpy as np
with open("net.prototxt", "w") as net:
    net.write('layer { name: "data" type: "Data" top: "data" top: "label" '
              'data_param { source: "db" batch_size: 6 backend: LMDB } }')
net = caffe.Net("net.prototxt", caffe.TEST)
net.forward()
np.savez("read.npz", data=net.blobs["data"].data, label=net.blobs["label"].data)
"""


def oracle(folder, *command):
    return subprocess.run(["bash", str(ORACLE), *command], cwd=folder, capture_output=True)


@pytest.mark.skipif(
    not ORACLE.exists() or oracle(ROOT, "true").returncode != 0, reason="needs BVLC Caffe"
)
@pytest.mark.parametrize("encoded", [[], ["-encode_type=png"]])
def test_the_originals_data_layer_reads_it(images, encoded):
    db = convert(images, "-resize_width=16", "-resize_height=12", *encoded)
    done = oracle(images, "python3", "-c", READ_WITH_CAFFE)
    assert done.returncode == 0, done.stderr.decode()
    with np.load(images / "read.npz") as read:
        for k, (key, value) in enumerate(records(db).items()):
            np.testing.assert_array_equal(read["data"][k], decode_datum(value, key))
        assert read["label"].tolist() == cases.LABELS


# convert_imageset's own promises


def test_any_number_of_workers_gives_the_same_database(tmp_path):
    many_images(tmp_path, 70)
    first = records(convert(tmp_path, "-shuffle", "--workers=1", db="one"))
    assert records(convert(tmp_path, "-shuffle", "--workers=3", db="three")) == first
    assert records(convert(tmp_path, "-shuffle", "--seed=1", "--workers=1", db="seed")) != first
    names = [key.partition("_")[2] for key in first]
    assert sorted(names) == sorted(f"{k}.bmp" for k in range(70))
    assert names != [f"{k}.bmp" for k in range(70)]
    assert [int(key[:8]) for key in first] == list(range(70))


def test_resize_short_keeps_proportions(tmp_path):
    for size, expected in (
        ((40, 80), (20, 40)),
        ((50, 30), (33, 20)),
        ((10, 15), (20, 30)),
        ((20, 20), (20, 20)),
    ):
        cv2.imwrite(str(tmp_path / "x.png"), np.full((*size, 3), 77, np.uint8))
        image = read_image(PLAIN._replace(short=20), str(tmp_path / "x.png"))
        assert image.shape == (3, *expected)
        assert set(image.data) == {77}


def test_the_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(growing_db, "INITIAL_MAP_BYTES", 1 << 16)
    many_images(tmp_path, 3)
    convert(tmp_path, "-resize_width=200", "-resize_height=200")
    assert [
        len(parse_datum(value, key).data) for key, value in records(tmp_path / "db").items()
    ] == [3 * 200 * 200] * 3


def test_side_files(images):
    names = ["a", "b c", "d", "e", "f", "g", "h", "i", "j"]
    (images / "names.txt").write_text("\n".join(names) + "\n\n")
    convert(images, "--classes", str(images / "names.txt"), db="train_lmdb")
    convert(images, db="val_lmdb")
    for path in (images / "train_lmdb", images):
        assert (path / "classes.txt").read_text().splitlines() == names
    assert (images / "val_lmdb" / "classes.txt").read_text().splitlines() == list("01234567")
    rows = (images / "train_lmdb" / "class_index.tsv").read_text().splitlines()
    assert rows == [f"{k}\t{cases.LABELS.count(k)}" for k in range(9)]


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["-gray"], {"gray": True}),
        (["--gray=false"], {"gray": False}),
        (["-shuffle", "-noshuffle"], {"shuffle": False}),
        (["-shuffle=1"], {"shuffle": True}),
        (["-resize_width=3", "--resize_height", "4"], {"resize_width": 3, "resize_height": 4}),
        (["--encode_type", "png"], {"encode_type": "png", "encoded": False}),
    ],
)
def test_flags_are_read_as_gflags_reads_them(flags, expected):
    options = vars(convert_imageset.parser().parse_args([*flags, "root/", "list", "db"]))
    assert {name: options[name] for name in expected} == expected
    assert (options["root"], options["list"], options["db"]) == ("root/", "list", "db")


BAD_CALLS = [
    (["-backend=leveldb"], r"expected lmdb"),
    (["-resize_width=3"], r"-resize_height=0: give both"),
    (["-resize_width=3", "-resize_height=3", "--resize_short=4"], "either -resize_width"),
    (["-resize_short=-1"], "cannot be negative"),
    (["-encode_type=xyz"], "-encode_type=xyz: OpenCV cannot encode"),
    (["--workers=0"], "--workers=0: expected 1 or more"),
    (["--classes=none.txt"], "cannot read the class file none.txt"),
    (["-check_size"], r"line 2, b.JPEG: -check_size: expected 3 x 20 x 26.*found 3 x 25 x 17\n1 o"),
]


@pytest.mark.parametrize("flags, message", BAD_CALLS)
def test_bad_calls(images, flags, message):
    with pytest.raises(CaffeError, match=message):
        convert(images, *flags)
    assert not (images / "db").exists()


BAD_LISTS = [
    ("", "no images in this list"),
    ("a.jpg 1\ne.bmp one\n", r"1 of 2 lines have no valid label:\n.*line 2, e.bmp: label 'one'"),
    ("a.jpg 1\ne.bmp -2\n", "line 2, e.bmp: label -2 is not between 0 and"),
    ("a.jpg 1\ne.bmp\n", "line 2, e.bmp: no label: expected 'FILE LABEL'"),
    ("a.jpg 1\ne.bmp 99999999999\n", "label 99999999999 is not between"),
    ("a.jpg x\n", r"no line has a valid label; the first: .*line 1, a.jpg"),
    ("a.jpg 1\n\nnone.jpg 2\n", r"1 of 2 files are missing:\n.*line 3, none.jpg"),
]


@pytest.mark.parametrize("text, message", BAD_LISTS)
def test_bad_lists(images, text, message):
    (images / "bad.txt").write_text(text)
    with pytest.raises(PrepError, match=message):
        convert(images, list_file="bad.txt")
    assert not list(images.glob("db*"))


def test_a_label_without_a_name(images):
    (images / "names.txt").write_text("a\nb\n")
    with pytest.raises(PrepError, match="label 3 has no name: the class file has 2 lines"):
        convert(images, "--classes", str(images / "names.txt"))


def test_a_list_as_windows_writes_it(images):
    (images / "dos.txt").write_bytes(b"sub dir/c.png \t5\r\n\r\n a.jpg 2 \r\n")
    found = image_list.ImageList(images / "dos.txt")
    assert [found.name(k) for k in range(2)] == [b"sub dir/c.png", b" a.jpg"]
    assert found.labels.tolist() == [5, 2]
    assert found.line(1) == 3


def damage(data, kind):
    """The bytes of an image file, spoiled."""
    if kind == "truncated":
        return data[:-40]
    if kind == "bit flip":
        return data[:200] + bytes([data[200] ^ 0x40]) + data[201:]
    return {"empty": b"", "text": b"hello"}[kind]


@pytest.mark.parametrize(
    "name, kind, reason",
    [
        ("a.jpg", "truncated", "damaged image: Corrupt JPEG data: premature end"),
        ("sub dir/c.png", "truncated", "not an image that OpenCV can decode"),
        ("sub dir/c.png", "bit flip", "not an image that OpenCV can decode"),
        ("a.jpg", "empty", "the file is empty"),
        ("e.bmp", "text", "not an image that OpenCV can"),
    ],
)
def test_a_bad_image_is_named_and_can_be_mended_or_left_out(images, name, kind, reason):
    path = images / "images" / name
    good = path.read_bytes()
    path.write_bytes(damage(good, kind))
    line = list(cases.IMAGES).index(name) + 1
    expected = golden_records("raw")
    for db in ("mended", "left_out"):
        with pytest.raises(PrepError, match=rf"line {line}, {name}: {reason}.*\n{line - 1} of 6"):
            convert(images, db=db)
        assert not (images / db).exists()
    db = convert(images, "--skip_bad", db="left_out")
    skipped = (db / "skipped.tsv").read_text().split("\t")
    assert skipped[0] == str(line - 1)
    assert name in skipped[1] and skipped[2].startswith(reason)
    key = f"{line - 1:08d}_{name}"
    assert records(db) == {other: expected[other] for other in expected if other != key}
    path.write_bytes(good)
    assert records(convert(images, db="mended")) == expected


def test_a_damaged_jpeg_can_be_kept_as_the_original_keeps_it(images):
    path = images / "images" / "a.jpg"
    path.write_bytes(damage(path.read_bytes(), "truncated"))
    image = read_image(PLAIN._replace(keep_damaged=True), str(path))
    np.testing.assert_array_equal(
        np.frombuffer(image.data, np.uint8).reshape(image.shape),
        cv2.imread(str(path)).transpose(2, 0, 1),
    )


def test_wrong_labels_can_be_left_out(images):
    (images / "bad.txt").write_text("a.jpg 1\ne.bmp x\ngray.png 2\n")
    db = convert(images, "--skip_bad", list_file="bad.txt")
    assert list(records(db)) == ["00000000_a.jpg", "00000002_gray.png"]
    assert "e.bmp\tlabel 'x' is not an integer" in (db / "skipped.tsv").read_text()
    assert (db / "class_index.tsv").read_text() == "0\t0\n1\t1\n2\t1\n"


def test_nothing_good_gives_no_database(images):
    for path in (images / "images").rglob("*.*"):
        path.write_bytes(b"")
    with pytest.raises(PrepError, match="not one of 6 .*first: .*line 1, a.jpg: the file is"):
        convert(images, "--skip_bad")
    assert not list(images.glob("db*"))


def test_an_existing_database_is_left_alone(images):
    convert(images)
    before = records(images / "db")
    with pytest.raises(PrepError, match="exists already: delete it or choose another name"):
        convert(images, "-gray")
    assert records(images / "db") == before


def test_two_writers_and_other_settings_are_refused(images):
    writer = datum_db.DatumDB(images / "db", {"width": 1})
    with pytest.raises(PrepError, match="another process is writing"):
        datum_db.DatumDB(images / "db", {"width": 1})
    writer.put(b"00000000_a", b"")
    writer.flush()
    writer.close()
    with pytest.raises(PrepError, match=r"other settings \(width was 1, is now 2\)"):
        datum_db.DatumDB(images / "db", {"width": 2})
    with datum_db.DatumDB(images / "db", {"width": 1}) as again:
        assert again.next_record == 1


def test_keys_that_do_not_fit():
    assert datum_db.key_problem(2, b"x" * 502) is None
    assert "512 bytes does not fit" in datum_db.key_problem(2, b"x" * 503)
    assert "8 digits" in datum_db.key_problem(10**8, b"x")


def conversion(folder, before="pass"):
    """A command that converts the images of `folder` in transactions of 50."""
    return script(
        folder,
        "convert_imageset",
        before,
        "--workers=2",
        "-shuffle",
        "--skip_bad",
        f"{folder}/images/",
        str(folder / "list.txt"),
        str(folder / "db"),
    )


def test_a_killed_conversion_goes_on_to_the_same_database(tmp_path):
    many_images(tmp_path, 1500)
    bad = tmp_path / "images" / "700.bmp"
    bad.write_bytes(b"")
    convert(tmp_path, "-shuffle", "--skip_bad", "--workers=1", db="undisturbed")
    kill_while_writing(conversion(tmp_path, HANGING), tmp_path / "db")
    assert not (tmp_path / "db").exists()
    left = len(records(tmp_path / "db.partial"))
    assert 0 < left < 1499
    db = convert(tmp_path, "-shuffle", "--skip_bad", "--workers=1")
    assert records(db) == records(tmp_path / "undisturbed")
    for name in SIDE_FILES:
        assert (db / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_moments_change_nothing(tmp_path, seed):
    """Killed again and again, at any point, until one run finishes."""
    random = np.random.RandomState(seed)
    many_images(tmp_path, 1200)
    for k in random.randint(0, 1200, 9):
        (tmp_path / "images" / f"{k}.bmp").write_bytes(b"")
    convert(tmp_path, "-shuffle", "--skip_bad", "--workers=1", db="undisturbed")
    slowly = (
        "put = datum_db.DatumDB.put; import time; datum_db.DatumDB.put = "
        "lambda *args: (time.sleep(0.002), put(*args))"
    )
    kills, reached = 0, set()
    while not (tmp_path / "db").exists():
        with subprocess.Popen(conversion(tmp_path, slowly), stderr=subprocess.PIPE) as child:
            try:
                child.wait(random.uniform(0.1, 2 + kills))  # later, where starting takes long
            except subprocess.TimeoutExpired:
                child.kill()
                kills += 1
        data = tmp_path / "db.partial" / "data.mdb"
        reached.add(len(records(data.parent)) if data.exists() and data.stat().st_size else 0)
        assert kills < 60
    assert kills >= 2 and len(reached) >= 2
    assert records(tmp_path / "db") == records(tmp_path / "undisturbed")
    for name in SIDE_FILES:
        assert (tmp_path / "db" / name).read_bytes() == (
            tmp_path / "undisturbed" / name
        ).read_bytes()


def test_a_full_disk_is_a_clear_error(tmp_path):
    many_images(tmp_path, 400)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))"
    done = subprocess.run(conversion(tmp_path, limit), capture_output=True, text=True)
    assert done.returncode != 0
    assert f"cannot write {tmp_path}/db.partial (" in done.stderr
    assert "nothing that looks complete is left" in done.stderr
    assert not (tmp_path / "db").exists()
    assert len(records(convert(tmp_path, "-shuffle"))) == 400


def test_the_script_runs_without_a_python_path(images):
    args = [f"{images}/images/", str(images / "list.txt"), str(images / "db")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "data_prep" / "convert_imageset.py"), *args],
        capture_output=True,
        text=True,
        env=environment,
        cwd=images,
    )
    assert done.returncode == 0
    assert "6 records, 8 classes" in done.stdout


@pytest.mark.parametrize("ordered_map", [process_map, thread_map])
def test_maps_keep_the_order_and_stay_bounded(ordered_map):
    taken = []
    items = (taken.append(k) or k for k in range(1000))
    results = ordered_map(operator.neg, items, 2)
    assert [next(results) for _ in range(10)] == [-k for k in range(10)]
    assert len(taken) <= 6 * 16
    assert list(results) == [-k for k in range(10, 1000)]


@pytest.mark.parametrize("tool", ["demo_scenes", "data_folder"])
def test_a_tool_that_is_interrupted_while_it_is_imported_says_a_line(tmp_path, tool):
    (tmp_path / "cv2.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), f"{ROOT}/python", str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "relaybp.data_prep", tool, "x", "y"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, f"{tool}: interrupted\n")


SLOW_OPENCV = """
import time
print("importing", flush=True)
time.sleep(1)
def setNumThreads(count): pass
"""


def test_ctrl_c_while_workers_start_is_one_line(tmp_path):
    (tmp_path / "cv2.py").write_text(SLOW_OPENCV)
    (tmp_path / "script.py").write_text(
        "import operator\nfrom relaybp.data_prep import errors, workers\n"
        "errors.run(lambda: print(list(workers.process_map(operator.neg, [1], 1))))\n"
    )
    path = os.pathsep.join([str(tmp_path), f"{ROOT}/python", str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout.readline() == "importing\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        printed = process.communicate(timeout=60)
    assert printed == ("", "script.py: interrupted\n") and process.returncode == 130


def test_a_dead_worker_is_a_clear_error():
    with pytest.raises(PrepError, match="a worker process died.*fewer --workers"):
        list(process_map(os._exit, [1], 1))
