"""From a folder as people have it to records: all is stored right, or named with its cure."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
import dirty_folders as dirty
from caffe.files.datum import decode_datum
from caffe_plain import images as plain_images
from caffe_plain.class_names import difference, read_class_names, write_class_names
from caffe_plain.errors import CaffeError, DataError
from relaybp.data_prep import check_database, convert_imageset
from relaybp.data_prep.convert_imageset import convert
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.image_list import ImageList
from relaybp.data_prep.images import Options, read_image
from relaybp.data_prep.make_list import make_lists
from relaybp.layers import images as layer_images
from tests.data_images import records

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = dirty.photos()
PLAIN = Options(
    gray=False, height=0, width=0, short=0, encoding=None, keep_damaged=False, keep_exif=False
)


# ---- formats and orientations --------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A folder of every photo and of what cannot be read, listed and converted in two ways."""
    folder = tmp_path_factory.mktemp("everything")
    for kind, photo in PHOTOS.items():
        (folder / "images" / kind).mkdir(parents=True)
        (folder / "images" / kind / f"x.{photo.extension}").write_bytes(photo.data)
    for name, data in dirty.unreadable().items():
        (folder / "images" / "gray jpg" / name).write_bytes(data)
    said = []
    make_lists(folder / "images", folder / "lists", 0, say=said.append)
    (folder / "said.txt").write_text("\n".join(said))
    for name, encoded in (("raw", False), ("encoded", True)):
        classes = folder / "lists" / "classes.txt"
        convert(
            f"{folder}/images/", folder / "lists/train.txt", folder / name,
            encoded=encoded, classes=classes,
        )  # fmt: skip
    return folder


def record_of(db, kind):
    (found,) = [value for key, value in records(db).items() if key[9:].startswith(f"{kind}/")]
    return found


@pytest.mark.parametrize("kind", PHOTOS)
def test_every_photo_is_stored_upright(everything, kind):
    photo = PHOTOS[kind]
    dirty.check_pixels(
        decode_datum(record_of(everything / "raw", kind), b"").transpose(1, 2, 0), photo
    )
    record = record_of(everything / "encoded", kind)
    datum = caffe.proto.caffe_pb2.Datum.FromString(record)
    dirty.check_pixels(decode_datum(record, b"", color=True).transpose(1, 2, 0), photo)
    dirty.check_pixels(layer_images.decode(datum.data), photo)  # as SceneData reads it
    if photo.plain:
        dirty.check_pixels(decode_datum(record, b"").transpose(1, 2, 0), photo)
    if kind.startswith("format") or not photo.plain:
        assert datum.data == photo.data, "a file that is upright is stored as it is"


@pytest.mark.parametrize("kind", PHOTOS)
def test_what_reads_files_sees_the_same(tmp_path, kind):
    photo = PHOTOS[kind]
    path = tmp_path / f"x.{photo.extension}"
    path.write_bytes(photo.data)
    dirty.check_pixels(plain_images.load(path), photo)  # ImageData, WindowData, classification
    rgb = caffe.io.load_image(path) * 255
    dirty.check_pixels(np.rint(rgb[:, :, ::-1]), photo)


def test_the_check_takes_what_a_data_layer_takes(everything, capsys):
    """Which is all of them with force_color; without it, four kinds of files stop a training."""
    command = ["--workers=1", str(everything / "encoded")]
    assert check_database.main([*command, "--force_color"]) == 0
    assert "0 bad records, 0 problems of the whole" in capsys.readouterr().out
    assert check_database.main(command) == 1
    said = capsys.readouterr().out
    assert "_deep/x.png': pixels of uint16, not of 8 bits" in said
    assert "1 bad records, 1 problems of the whole" in said
    assert (
        f"problem: images of different numbers of channels (4 of 1, {len(PHOTOS) - 6} of 3, 1"
        in said
    )


def test_what_is_left_out_is_counted_and_named(everything):
    lines = sorted((everything / "said.txt").read_text().splitlines())
    cure = "; OpenCV here cannot read them: convert them to JPEG or PNG"
    where = "gray jpg"
    assert lines == [
        f"left out: 1 .cr2 files ({where}/d.cr2){cure}",
        f"left out: 1 .db files ({where}/Thumbs.db)",
        f"left out: 1 .jxl files ({where}/c.jxl){cure}",
        f"left out: 1 .svg files ({where}/e.svg){cure}",
        f"left out: 1 .txt files ({where}/notes.txt)",
        f"left out: 1 files without an extension ({where}/no_extension)",
        f"left out: 2 .heic files ({where}/a.heic, {where}/b.HEIC){cure}",
    ]


@pytest.mark.parametrize("kind", dirty.bad_files())
def test_a_bad_file_is_named_with_the_reason(tmp_path, kind):
    data, reason = dirty.bad_files()[kind]
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    assert isinstance(read_image(PLAIN, str(path)), str)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(read_image(PLAIN, str(path)))


def test_encoding_and_resizing_photos_that_lie(tmp_path):
    """-encode_type=jpg and resizing encode what is upright; --keep_exif stores the file."""
    photo = PHOTOS["JPEG 6"]
    path = tmp_path / "x.jpg"
    path.write_bytes(photo.data)
    read = lambda **options: read_image(PLAIN._replace(**options), str(path))  # noqa: E731
    assert read(encoding="", keep_exif=True).data == photo.data
    assert read(encoding="").data.startswith(b"\x89PNG")
    for found in (read(encoding="jpg"), read(encoding="", short=64)):
        assert found.shape == (3, 64, 96)
        dirty.check_pixels(plain_images.decode(found.data), photo)
    small = plain_images.decode(read(encoding="", short=32).data)
    assert small.shape == (32, 48, 3) and not plain_images.is_turned(read(encoding="jpg").data)


def test_the_check_counts_photos_that_are_stored_lying(tmp_path, capsys):
    (tmp_path / "x.jpg").write_bytes(PHOTOS["JPEG 6"].data)
    (tmp_path / "list.txt").write_text("x.jpg 0\n")
    for name, keep in (("upright", False), ("lying", True)):
        convert(
            f"{tmp_path}/", tmp_path / "list.txt", tmp_path / name, encoded=True, keep_exif=keep
        )
        assert check_database.main(["--workers=1", str(tmp_path / name)]) == 0
        said = capsys.readouterr().out
        assert ("note: 1 photos are not stored upright" in said) == keep
        assert ("00000000_x.jpg" in said) == keep


def test_an_orientation_is_what_opencv_takes_for_one():
    """EXIF blocks with bytes changed at random."""
    random, turned = np.random.RandomState(0), 0
    data = PHOTOS["JPEG 6"].data
    first = data.index(b"Exif\0\0") + 6
    for _ in range(400):
        damaged = bytearray(data)
        for at in first + random.randint(0, 26, random.randint(1, 3)):
            damaged[at] = random.choice([0, 1, 3, 8, damaged[at] ^ 1 << random.randint(8)])
        theirs = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR)
        mine = plain_images.decode(bytes(damaged), upright=True)
        np.testing.assert_array_equal(mine, theirs)
        turned += plain_images.is_turned(bytes(damaged))
    assert 50 < turned < 350


ORACLE = ROOT.parent / "shared" / "oracle" / "run.sh"
SAME_RECORDS = {
    "raw": ([], {}),
    "gray": (["-gray"], {"gray": True}),
    "encoded": (["-encoded"], {"encoded": True}),
    "as png": (
        ["-encode_type=png", "-resize_width=16", "-resize_height=12"],
        {"encode_type": "png", "resize_width": 16, "resize_height": 12},
    ),
}


def oracle(folder, *command):
    return subprocess.run(["bash", str(ORACLE), *command], cwd=folder, capture_output=True)


@pytest.mark.skipif(
    not ORACLE.exists() or oracle(ROOT, "true").returncode != 0, reason="needs BVLC Caffe"
)
def test_with_keep_exif_the_records_are_those_of_the_original(tmp_path):
    (tmp_path / "images").mkdir()
    lines = []
    for k, (kind, photo) in enumerate(PHOTOS.items()):
        (tmp_path / "images" / f"{kind}.{photo.extension}").write_bytes(photo.data)
        lines.append(f"{kind}.{photo.extension} {k}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    for name, (flags, options) in SAME_RECORDS.items():
        done = oracle(tmp_path, "convert_imageset", *flags, "images/", "list.txt", f"its {name}")
        assert done.returncode == 0, done.stderr
        theirs = records(tmp_path / f"its {name}")
        convert(
            f"{tmp_path}/images/", tmp_path / "list.txt", tmp_path / name, keep_exif=True, **options
        )  # fmt: skip
        mine = records(tmp_path / name)
        assert theirs == {key: mine[key] for key in theirs}
        unknown = {key.rpartition(".")[2] for key in mine.keys() - theirs.keys()}
        assert unknown <= {"avif", "gif"}, "formats that the original's OpenCV does not read"


# ---- names ---------------------------------------------------------------------------------------


def write_names(folder):
    """A class and a file of every odd name."""
    for k, name in enumerate(dirty.NAMES):
        if b"\r" not in name:  # no class can be called so
            path = os.path.join(os.fsencode(folder), name)
            os.makedirs(path)
            with open(os.path.join(path, name + b".png"), "wb") as file:
                file.write(dirty.saved(dirty.Image.fromarray(dirty.picture(k)), "PNG"))
    with open(
        os.path.join(os.fsencode(folder), dirty.NAMES[0], b"carriage\rreturn.png"), "wb"
    ) as file:
        file.write(dirty.saved(dirty.Image.fromarray(dirty.picture(99)), "PNG"))


def test_every_name_becomes_a_record_and_a_class(tmp_path):
    write_names(tmp_path / "images")
    counts = make_lists(tmp_path / "images", tmp_path / "lists", 0)
    convert(
        f"{tmp_path}/images/", tmp_path / "lists/train.txt", tmp_path / "db",
        classes=tmp_path / "lists/classes.txt",
    )  # fmt: skip
    names = read_class_names(tmp_path / "db/classes.txt")
    assert sorted(map(os.fsencode, names)) == sorted(set(dirty.NAMES) - {b"carriage\rreturn"})
    assert [name for name, _, _ in counts] == names
    keys = [key for key, _ in raw_records(tmp_path / "db")]
    assert len(keys) == len(dirty.NAMES)
    assert all(any(name in key for key in keys) for name in dirty.NAMES)
    seen = image_data(tmp_path / "lists/train.txt", f"{tmp_path}/images/", len(keys))
    for (_, record), pixels in zip(raw_records(tmp_path / "db"), seen, strict=True):
        np.testing.assert_array_equal(decode_datum(record, b""), pixels)


def raw_records(db):
    """[(key, value)] with the keys as bytes."""
    import lmdb

    with lmdb.open(str(db), readonly=True, lock=False) as env, env.begin() as txn:
        return [(bytes(key), bytes(value)) for key, value in txn.cursor()]


def image_data(list_file, root, count):
    """The batch that an ImageData layer makes of a list."""
    net = list_file.with_name("net.prototxt")
    net.write_text(
        'layer { name: "data" type: "ImageData" top: "data" top: "label" image_data_param { '
        f'source: "{list_file}" root_folder: "{root}" batch_size: {count} }} }}'
    )
    net = caffe.Net(str(net), caffe.TEST)
    net.forward()
    return net.blobs["data"].data


def test_a_name_that_no_terminal_shows_is_printed_all_the_same(tmp_path):
    write_names(tmp_path / "images")
    done = subprocess.run(
        [sys.executable, "-m", "relaybp.data_prep.make_list", "-val_fraction=0",
         str(tmp_path / "images"), str(tmp_path / "lists")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "line\\u2028separator: 1 train, 0 val" in done.stdout
    assert "caf\\xe9: 2 train" in done.stdout


def test_a_class_of_which_all_images_are_left_out_is_named(tmp_path):
    dirty.add(tmp_path, "a/1.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "list.txt").write_text("a/1.png 0\nb.png 1\n")
    said = []
    convert(f"{tmp_path}/", tmp_path / "list.txt", tmp_path / "db", skip_bad=True, say=said.append)
    assert said[-1] == "Left out: all images of 1 classes:\n  1"


def test_a_key_that_is_too_long_can_be_left_out(tmp_path):
    long = "/".join(["y" * 200] * 3) + ".png"
    dirty.add(tmp_path / "images", "x.png", long)
    (tmp_path / "list.txt").write_text(f"x.png 0\n{long} 0\n")
    where = (f"{tmp_path}/images/", tmp_path / "list.txt", tmp_path / "db")
    with pytest.raises(PrepError, match="line 2, y.*: its key of .* bytes does not fit"):
        convert(*where)
    assert convert(*where, skip_bad=True)[:2] == (1, 1)
    assert "its key of" in (tmp_path / "db/skipped.tsv").read_text()


# ---- rights --------------------------------------------------------------------------------------


AS_NOBODY = """
import os, sys
from caffe_plain import images
from relaybp.data_prep import make_list
from relaybp.data_prep.images import Options, read_image
from relaybp.data_prep.errors import PrepError
if not os.geteuid():
    os.seteuid(65534)  # root may read everything
root, file = sys.argv[1], sys.argv[1] + "/a/1.png"
print(read_image(Options(False, 0, 0, 0, None, False, False), file))
for action in (lambda: images.load(file), lambda: make_list.make_lists(root, root + "/lists")):
    try:
        action()
    except (OSError, PrepError) as error:
        print(error)
"""


def test_files_and_folders_without_permission_to_read():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        dirty.add(Path(folder), "a/1.png", "b/1.png")
        os.chmod(f"{folder}/a/1.png", 0)
        os.chmod(f"{folder}/b", 0)
        command = [sys.executable, "-c", AS_NOBODY, folder]
        done = subprocess.run(command, capture_output=True, text=True)
        os.chmod(f"{folder}/b", 0o755)
    assert done.stdout.splitlines() == [
        "Permission denied",
        f"{folder}/a/1.png: Permission denied",
        f"cannot read the folder {folder}/b: Permission denied; get the right to read it, or move "
        "it away",
    ], done.stderr


# ---- trees ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", dirty.TREES)
def test_a_tree_is_listed_once_and_what_is_left_out_is_named(tmp_path, kind):
    tree, said = dirty.TREES[kind], []
    dirty.add(tmp_path / "images", "a/1.png", "b/1.png")
    tree.build(tmp_path / "images")
    if tree.error:
        with pytest.raises(CaffeError, match=tree.error):
            make_lists(tmp_path / "images", tmp_path / "lists", 0)
        assert not (tmp_path / "lists").exists()
        return
    make_lists(tmp_path / "images", tmp_path / "lists", 0, say=said.append)
    found = ImageList(tmp_path / "lists/train.txt")
    assert [found.name(k).decode() for k in range(len(found))] == list(tree.files)
    assert len(said) == bool(tree.said)
    if tree.said:
        with pytest.raises(AssertionError, match=f"^left out: {tree.said}$"):
            raise AssertionError(said[0])


def test_validation_images_of_small_classes(tmp_path):
    dirty.add(tmp_path, *(f"images/{name}/{k}.png" for name in "ab" for k in range(4)))
    with pytest.raises(PrepError, match="0.1 of at most 4 images of a class is not one"):
        make_lists(tmp_path / "images", tmp_path / "lists")
    dirty.add(tmp_path, "images/c/1.png")
    said = []
    counts = make_lists(tmp_path / "images", tmp_path / "lists", 0.25, say=said.append)
    assert counts == [("a", 3, 1), ("b", 3, 1), ("c", 1, 0)]
    assert said == ["1 of 3 classes have no validation image:\n  c"]


# ---- lists and classes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", dirty.LISTS)
def test_a_list_is_read_or_named(tmp_path, kind):
    content, expected = dirty.LISTS[kind]
    (tmp_path / "list.txt").write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(CaffeError, match=f"list.txt.*{expected}"):
            ImageList(tmp_path / "list.txt")
        return
    found = ImageList(tmp_path / "list.txt")
    labels = found.labels.tolist()
    assert [(found.name(k), label) for k, label in enumerate(labels)] == expected


@pytest.mark.parametrize("kind", dirty.CLASS_FILES)
def test_a_class_file_is_read_or_named(tmp_path, kind):
    content, expected = dirty.CLASS_FILES[kind]
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=f"classes.txt: {expected}"):
            read_class_names(path)
        return
    assert read_class_names(path) == expected
    write_class_names(path, expected)
    assert read_class_names(path) == expected


@pytest.mark.parametrize(
    "first, second, expected",
    [
        ("abc", "abc", None),
        ("abc", "ab", None),
        ("ac", "abc", "label 1 is 'c' here and 'b' there"),
        ("abc", "acb", "label 1 is 'b' here and 'c' there"),
        ("012", "abc", None),  # one of them does not name its classes
    ],
)
def test_class_lists_are_compared_by_name(first, second, expected):
    assert difference(first, second) == expected


def test_a_val_folder_that_lacks_a_class_keeps_the_labels(tmp_path):
    dirty.add(
        tmp_path, "train/a/1.png", "train/b/2.png", "train/c/3.png", "val/a/4.png", "val/c/5.png"
    )
    make_lists(tmp_path / "train", tmp_path / "of_train", 0)
    classes = tmp_path / "of_train/classes.txt"
    make_lists(tmp_path / "val", tmp_path / "wrong", 0)
    with pytest.raises(PrepError, match="label 1 is 'c' here and 'b' there.*--classes="):
        convert(f"{tmp_path}/val/", tmp_path / "wrong/train.txt", tmp_path / "db", classes=classes)
    said = []
    make_lists(tmp_path / "val", tmp_path / "of_val", 0, classes=classes, say=said.append)
    assert said == ["1 of 3 classes have no folder here:\n  b"]
    assert (tmp_path / "of_val/train.txt").read_text() == "a/4.png 0\nc/5.png 2\n"
    convert(f"{tmp_path}/val/", tmp_path / "of_val/train.txt", tmp_path / "db", classes=classes)
    assert read_class_names(tmp_path / "db/classes.txt") == ["a", "b", "c"]
    dirty.add(tmp_path, "val/d/6.png")
    with pytest.raises(PrepError, match=r"1 of 3 folders are no classes of .*:\n  d\nrename"):
        make_lists(tmp_path / "val", tmp_path / "other", 0, classes=classes)


# ---- scripts -------------------------------------------------------------------------------------

SCRIPT = """
print("once")
from relaybp.data_prep.convert_imageset import convert
print(convert("images/", "list.txt", "db", workers=2))
"""


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path):
    dirty.add(tmp_path, "images/1.png")
    (tmp_path / "list.txt").write_text("1.png 0\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "once\n(1, 0, 'db')\n", done.stderr


def test_the_same_answers_on_the_command_line(tmp_path, capsys):
    """A folder of HEIC only; a file that is not UTF-8."""
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/1.heic").write_bytes(dirty.HEIC)
    with pytest.raises(PrepError, match=r"1 .heic files \(a/1.heic\); OpenCV here cannot"):
        make_lists(tmp_path / "images", tmp_path / "lists")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png 0\n")
    with pytest.raises(PrepError, match=r"files are missing:\n.*line 1, caf\\xe9.png"):
        convert_imageset.main([f"{tmp_path}/images/", f"{tmp_path}/list.txt", f"{tmp_path}/db"])
