"""ImageNet, Places, CIFAR and SVHN from small archives in their official formats."""

import pickle
import shutil

import cv2
import h5py
import numpy as np
import pytest

from caffe.files.datum import decode_datum, parse_datum
from relaybp.data_prep import cifar, imagenet, places, svhn
from relaybp.data_prep.archives import members, unpacked
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.pickles import read_pickle
from tests import archive_cases as cases
from tests.data_images import convert, golden_records, records
from tests.oracle.record_data_prep import cifar_rows

# ImageNet


@pytest.fixture
def kit(tmp_path):
    (tmp_path / "kit.tar.gz").write_bytes(cases.development_kit())
    return str(tmp_path / "kit.tar.gz")


def train_source(folder, form):
    """TRAIN in one of its three forms."""
    synsets = cases.synset_images()
    tars = {f"{synset}.tar": cases.tar(images) for synset, images in synsets.items()}
    if form == "tar":
        source = folder / "ILSVRC2012_img_train.tar"
        source.write_bytes(cases.tar(tars))
        return source
    cases.write(folder / "source", tars if form == "tars" else {})
    if form == "folders":
        for synset, images in synsets.items():
            cases.write(folder / "source" / synset, images)
    return folder / "source"


def val_source(folder, form):
    """VAL in one of its three forms."""
    images = {cases.val_name(k): cases.jpeg(100 + k) for k in range(1, len(cases.VAL) + 1)}
    if form == "tar":
        (folder / "val.tar").write_bytes(cases.tar(images))
        return folder / "val.tar"
    for (name, image), synset in zip(images.items(), cases.VAL, strict=True):
        path = folder / "val" / (synset if form == "synsets" else "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return folder / "val"


TRAIN_LINES = [
    f"{synset}/{synset}_{10 * k}.JPEG {label}"
    for label, (synset, count) in enumerate(cases.SYNSETS.items())
    for k in range(count)
]
VAL_LABELS = [2, 0, 0, 1]
VAL_LINES = [f"{cases.val_name(k)} {label}" for k, label in enumerate(VAL_LABELS, 1)]


@pytest.mark.parametrize("train, val", [("tar", "tar"), ("tars", "images"), ("folders", "images")])
def test_imagenet(tmp_path, kit, train, val):
    out = tmp_path / "out"
    made = imagenet.prepare(train_source(tmp_path, train), val_source(tmp_path, val), out, kit)
    assert made[2:] == (9, 4, 3)
    assert (out / "train.txt").read_text().splitlines() == TRAIN_LINES
    assert (out / "val.txt").read_text().splitlines() == VAL_LINES
    assert (out / "classes.txt").read_text().splitlines() == [
        f"{synset} {words}" for synset, words in cases.WORDS.items()
    ]
    assert (made.train_root / TRAIN_LINES[0].split()[0]).read_bytes() == cases.jpeg(0)
    assert (made.val_root / cases.val_name(3)).read_bytes() == cases.jpeg(103)


@pytest.mark.parametrize("labels", ["kit", "val.txt", "csv", None])
def test_imagenets_ground_truth_in_all_its_forms(tmp_path, kit, labels):
    (tmp_path / "val.txt").write_text("\n".join(VAL_LINES) + "\n")
    (tmp_path / "csv").write_text(
        "ImageId,PredictionString\n"
        + "".join(
            f"{cases.val_name(k)[:-5]},{synset} 1 2 30 40 {synset} 5 6 7 8\n"
            for k, synset in enumerate(cases.VAL, 1)
        )
    )
    val = val_source(tmp_path, "images" if labels else "synsets")
    imagenet.prepare(
        train_source(tmp_path, "folders"),
        val,
        tmp_path / "out",
        kit if labels == "kit" else str(tmp_path / labels) if labels else "",
    )
    lines = (tmp_path / "out" / "val.txt").read_text().splitlines()
    assert sorted(line.split("/")[-1] for line in lines) == VAL_LINES


def test_imagenet_goes_on_with_the_next_synset_and_converts(tmp_path, kit, capsys):
    source = train_source(tmp_path, "tar")
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) * 2 // 3])  # as a kill, it ends in the middle
    args = [f"--labels={kit}", str(source), str(val_source(tmp_path, "tar")), str(tmp_path / "out")]
    with pytest.raises(PrepError, match="train.tar, n02084071.tar: .* cut off: download it again"):
        imagenet.main(args)
    done = sorted(path.name for path in (tmp_path / "out" / "train").iterdir())
    assert done and set(done) < set(cases.SYNSETS)
    first = tmp_path / "out" / "train" / done[0]
    before = first.stat().st_mtime_ns
    source.write_bytes(whole)
    imagenet.main(args)
    assert first.stat().st_mtime_ns == before
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"{tmp_path}/out: 9 train, 4 val, 3 classes",
        "ImageNet 2012 has 1281167 train, 50000 val, 1000 classes",
        f"ROOTFOLDER of {tmp_path}/out/train.txt: {tmp_path}/out/train/",
        f"ROOTFOLDER of {tmp_path}/out/val.txt: {tmp_path}/out/val/",
    ]
    (tmp_path / "out" / "train").rename(tmp_path / "out" / "images")
    db = convert(
        tmp_path / "out",
        "--resize_short=8",
        "--classes",
        str(tmp_path / "out" / "classes.txt"),
        list_file="train.txt",
    )
    assert (db / "class_index.tsv").read_text() == "0\t3\n1\t2\n2\t4\n"
    assert {parse_datum(value, key).height for key, value in records(db).items()} == {8}


def test_imagenet_errors(tmp_path, kit):
    train, val = train_source(tmp_path, "folders"), val_source(tmp_path, "images")

    def refused(message, labels=kit, subset=False, train=train, val=val):
        with pytest.raises(PrepError, match=message):
            imagenet.prepare(train, val, tmp_path / "out", labels, subset)
        assert not (tmp_path / "out" / "val.txt").exists()

    refused("say with --labels which synset", "")
    refused("nowhere: No such file", train=tmp_path / "nowhere")
    refused("val holds no synsets", train=val)
    refused("cannot read .*kit.tar: No such", str(tmp_path / "kit.tar"))
    (tmp_path / "ids.txt").write_text("490\n361\n")
    refused(
        "ids.txt, line 1: expected 'FILE LABEL', found '490'; .*development kit",
        str(tmp_path / "ids.txt"),
    )
    (tmp_path / "val.txt").write_text("\n".join(VAL_LINES).replace(" 2", " 65"))
    refused("beyond the 3 synsets of TRAIN:\n  .*0001.JPEG: 65", str(tmp_path / "val.txt"))
    lost = val / cases.val_name(2)
    lost.rename(val / "other.JPEG")
    refused("1 validation images are missing, 1 have no label:\n  .*0002.JPEG\n  other.JPEG")
    (val / "other.JPEG").rename(lost)
    next((train / "n01443537").iterdir()).unlink()
    refused("1 synsets have not .*\n  n01443537: 1 images instead of 2\n.*--subset")
    shutil.rmtree(train / "n01443537")
    refused("1 synsets have not")
    refused(
        "1 validation images are of synsets that TRAIN lacks:\n  .*0004.JPEG: n01443537",
        val=val_source(tmp_path / "sorted", "synsets"),
        labels="",
    )
    made = imagenet.prepare(train, val, tmp_path / "part", kit, subset=True)
    assert made[2:] == (7, 3, 2)


def test_archives_write_nothing_outside_and_are_never_half(tmp_path):
    path = tmp_path / "evil.tar.gz"
    files = {"../../up.txt": b"a", "/etc/root.txt": b"b", "c/d.txt": b"c"}
    path.write_bytes(cases.tar(files, "gz"))
    assert [name for name, _ in members(path)] == ["up.txt", "root.txt", "d.txt"]
    with unpacked(path) as folder:
        assert sorted(file.name for file in folder.iterdir()) == ["d.txt", "root.txt", "up.txt"]
    assert not folder.exists()
    path.write_bytes(cases.tar({"a/x.txt": b"a", "b/x.txt": b"b"}, "gz"))
    with pytest.raises(PrepError, match=r"evil.tar.gz holds two files x.txt"), unpacked(path):
        pass
    whole = cases.tar({"x.txt": np.random.RandomState(0).bytes(5000)}, "gz")
    for damaged in (
        whole[:3000],
        whole[:-6],
        b"text" * 300,
        whole[:2000] + bytes([whole[2000] ^ 16]) + whole[2001:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(PrepError, match="evil.tar.gz: .*damaged or cut off"), unpacked(path):
            pass
    plain = tmp_path / "plain.tar"
    whole = cases.tar({"x.txt": bytes(512), "y.txt": bytes(512)})
    for end in (512, 1023, 1024, 1100, 1536, 2048):  # header and content: one block each
        plain.write_bytes(whole[:end])
        with pytest.raises(PrepError, match="plain.tar: .*damaged or cut off"), unpacked(plain):
            pass


# Places


def test_places(tmp_path):
    (tmp_path / "categories").write_text(
        "/a/airfield 0\n/a/apartment_building/outdoor 1\n/z/zen_garden 2\n"
    )
    (tmp_path / "train").write_text(
        "".join(f"/a/airfield/{k:08d}.jpg 0\n" for k in range(3))
        + "/z/zen_garden/1.jpg 2\n/a/apartment_building/outdoor/1.jpg 1"
    )
    (tmp_path / "val").write_text("Places365_val_00000001.jpg 2\nPlaces365_val_00000002.jpg 0\n")
    names = [str(tmp_path / name) for name in ("categories", "train", "val", "out")]
    assert places.prepare(*names) == (5, 2, 3, 1, 3)
    assert (tmp_path / "out" / "classes.txt").read_text().split() == [
        "airfield",
        "apartment_building/outdoor",
        "zen_garden",
    ]
    lines = (tmp_path / "out" / "train.txt").read_text().splitlines()
    assert lines[2:] == [
        "a/airfield/00000002.jpg 0",
        "z/zen_garden/1.jpg 2",
        "a/apartment_building/outdoor/1.jpg 1",
    ]
    assert (tmp_path / "out" / "val.txt").read_text() == (tmp_path / "val").read_text()
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "val").write_text("a.jpg 3\n")
    with pytest.raises(PrepError, match="val, line 1, a.jpg: label 3 has no name"):
        places.prepare(*names)
    (tmp_path / "train").write_text("a.jpg 0\n")
    (tmp_path / "val").write_text("a.jpg 0\n")
    with pytest.raises(PrepError, match=r"2 of 3 classes have no image:\n  apartment_building"):
        places.prepare(*names)
    (tmp_path / "categories").write_text("a 0\nb 2\n")
    with pytest.raises(PrepError, match="expected each label from 0 to 1 once"):
        places.prepare(*names)
    assert not (tmp_path / "out").exists()


# CIFAR

CIFAR10 = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]


def test_cifar_lmdbs_are_those_of_the_original(tmp_path):
    files = {name: rows.tobytes() for name, rows in zip(CIFAR10, cifar_rows(), strict=True)}
    files["batches.meta.txt"] = "\n".join("abcdefghij").encode() + b"\n\n"
    archive = tmp_path / "cifar-10-binary.tar.gz"
    archive.write_bytes(
        cases.tar(
            {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}, "gz"
        )
    )
    cases.write(tmp_path / "cifar-10-batches-bin", files)
    for number, source in enumerate((archive, tmp_path, tmp_path / "cifar-10-batches-bin")):
        out = tmp_path / f"out{number}"
        cifar.main([str(source), str(out), "--lmdb"])
        for split, folder in (("train", "train_lmdb"), ("test", "val_lmdb")):
            expected = [value for _, value in sorted(golden_records(f"cifar/{split}").items())]
            assert list(records(out / folder).values()) == expected


def test_cifars_python_version_gives_the_same(tmp_path):
    names = list("abcdefghij")
    content = cases.cifar10_python(cifar_rows(), names)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cases.tar(content, "gz"))
    cifar.main([str(tmp_path / "cifar-10-python.tar.gz"), str(tmp_path / "out"), "--lmdb"])
    assert (tmp_path / "out" / "classes.txt").read_text().split() == names
    for split, folder in (("train", "train_lmdb"), ("test", "val_lmdb")):
        expected = [value for _, value in sorted(golden_records(f"cifar/{split}").items())]
        assert list(records(tmp_path / "out" / folder).values()) == expected


def test_cifar_100_of_python(tmp_path):
    rows = np.random.RandomState(1).randint(0, 256, (5, 3072), dtype=np.uint8)
    for name, part in (("train", slice(0, 3)), ("test", slice(3, 5))):
        (tmp_path / name).write_bytes(
            cases.python2_pickle(
                {
                    "data": rows[part],
                    "fine_labels": [2, 0, 1, 1, 2][part],
                    "coarse_labels": [1, 0, 0, 0, 1][part],
                }
            )
        )
    (tmp_path / "meta").write_bytes(
        cases.python2_pickle(
            {"fine_label_names": ["cat", "dog", "fox"], "coarse_label_names": ["pet", "wild"]}
        )
    )
    for labels, expected in (("fine", [2, 0, 1]), ("coarse", [1, 0, 0])):
        out = tmp_path / labels
        assert cifar.prepare(tmp_path, out, lmdb=True, labels=labels) == (
            3,
            2,
            3 if labels == "fine" else 2,
        )
        found = [parse_datum(value, key) for key, value in records(out / "train_lmdb").items()]
        assert [datum.label for datum in found] == expected
        assert b"".join(datum.data for datum in found) == rows[:3].tobytes()


def test_a_pickle_can_call_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    path = tmp_path / "batches.meta"
    path.write_bytes(pickle.dumps({b"label_names": Evil()}))
    with pytest.raises(PrepError, match="batches.meta: .*wants to call builtins.print"):
        cifar.prepare(tmp_path, tmp_path / "out")
    path.write_bytes(cases.python2_pickle({"label_names": ["a", "b"]})[:-5])
    with pytest.raises(PrepError, match="batches.meta: not a readable pickle"):
        read_pickle(path, ["label_names"])
    path.write_bytes(cases.python2_pickle({"other": 1}))
    with pytest.raises(PrepError, match="holds no b'label_names': expected label_names"):
        read_pickle(path, ["label_names"])


def test_cifar_images_and_lists(tmp_path):
    rows = np.random.RandomState(1).randint(0, 256, (5, 3074), dtype=np.uint8)
    rows[:, 0], rows[:, 1] = [1, 0, 1, 0, 1], [2, 0, 1, 2, 0]
    source = tmp_path / "cifar-100-binary"
    source.mkdir()
    (source / "train.bin").write_bytes(rows[:3].tobytes())
    (source / "test.bin").write_bytes(rows[3:].tobytes())
    (source / "fine_label_names.txt").write_text("cat\ndog\nfox\n")
    (source / "coarse_label_names.txt").write_text("pet\nwild\n")
    cifar.main([str(tmp_path), str(tmp_path / "fine")])
    assert (tmp_path / "fine" / "train.txt").read_text() == (
        "train/fox/00000.png 2\ntrain/cat/00001.png 0\ntrain/dog/00002.png 1\n"
    )
    pixels = cv2.imread(str(tmp_path / "fine" / "val" / "cat" / "00001.png"))
    np.testing.assert_array_equal(pixels[:, :, ::-1].transpose(2, 0, 1).ravel(), rows[4, 2:])
    cifar.main([str(source), str(tmp_path / "coarse"), "--lmdb", "-labels=coarse"])
    labels = [
        parse_datum(value, key).label
        for key, value in records(tmp_path / "coarse" / "train_lmdb").items()
    ]
    assert labels == [1, 0, 1]
    assert (tmp_path / "coarse" / "classes.txt").read_text() == "pet\nwild\n"
    assert (tmp_path / "coarse" / "mean.binaryproto").is_file()


def test_cifar_errors(tmp_path):
    with pytest.raises(PrepError, match="none: no such file or folder"):
        cifar.prepare(tmp_path / "none", tmp_path / "out")
    (tmp_path / "text").touch()
    with pytest.raises(PrepError, match="text is neither an archive .* nor a folder"):
        cifar.prepare(tmp_path / "text", tmp_path / "out")
    with pytest.raises(PrepError, match="is not CIFAR: expected in it batches.meta.txt or"):
        cifar.prepare(tmp_path, tmp_path / "out")
    (tmp_path / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(PrepError, match="data_batch_1.bin is missing"):
        cifar.prepare(tmp_path, tmp_path / "out")
    for name in CIFAR10:
        (tmp_path / name).write_bytes(b"\2" * 3073)
    with pytest.raises(PrepError, match="image 0 has label 2, but batches.meta.txt names 2"):
        cifar.prepare(tmp_path, tmp_path / "out")
    (tmp_path / "data_batch_1.bin").write_bytes(b"\1" * 3000)
    with pytest.raises(PrepError, match="data_batch_1.bin is truncated.*3073 bytes, found 3000"):
        cifar.prepare(tmp_path, tmp_path / "out")
    (tmp_path / "batches.meta.txt").unlink()
    for name, content in cases.cifar10_python(cifar_rows(), list("abcdefghij")).items():
        (tmp_path / name.split("/")[1]).write_bytes(content)
    (tmp_path / "test_batch").write_bytes(
        cases.python2_pickle({"data": np.zeros((2, 3072), np.uint8), "labels": [1]})
    )
    with pytest.raises(PrepError, match=r"test_batch: expected an array of 1 x 3072 .*\(2, 3072\)"):
        cifar.prepare(tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


# SVHN


def test_svhn(tmp_path):
    parts = {"train_32x32.mat": [10, 1, 9], "extra_32x32.mat": [1, 10], "test_32x32.mat": [5]}
    pixels = {
        name: cases.svhn(tmp_path, name, labels, len(labels)) for name, labels in parts.items()
    }
    assert svhn.prepare(tmp_path, tmp_path / "out") == {
        "train": [1, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        "val": [0] * 5 + [1] + [0] * 4,
    }
    assert (tmp_path / "out" / "train.txt").read_text() == (
        "train/0/00000.png 0\ntrain/1/00001.png 1\ntrain/9/00002.png 9\n"
    )
    image = cv2.imread(str(tmp_path / "out" / "train" / "9" / "00002.png"))[:, :, ::-1]
    np.testing.assert_array_equal(image, pixels["train_32x32.mat"][2])
    svhn.main([str(tmp_path), str(tmp_path / "data"), "--lmdb", "--extra"])
    found = {
        key: parse_datum(value, key)
        for key, value in records(tmp_path / "data" / "train_lmdb").items()
    }
    assert list(found) == [f"{k:08d}" for k in range(5)]
    assert [datum.label for datum in found.values()] == [0, 1, 9, 1, 0]
    np.testing.assert_array_equal(
        decode_datum(found["00000004"], "4"), pixels["extra_32x32.mat"][1].transpose(2, 0, 1)
    )
    assert (tmp_path / "data" / "mean.binaryproto").is_file()


def test_svhn_in_matlabs_hdf5(tmp_path):
    pixels = cases.svhn(tmp_path, "test_32x32.mat", [5], 1)
    with h5py.File(tmp_path / "train_32x32.mat", "w") as file:  # axes reversed
        file["X"], file["y"] = pixels.transpose(0, 3, 2, 1), np.array([[7]], np.uint8)
    svhn.prepare(tmp_path, tmp_path / "out", lmdb=True)
    one, other = (
        next(iter(records(tmp_path / "out" / db).values())) for db in ("train_lmdb", "val_lmdb")
    )
    assert parse_datum(one, "0").data == parse_datum(other, "0").data
    assert parse_datum(one, "0").label == 7


def test_svhn_errors(tmp_path):
    with pytest.raises(PrepError, match="lacks train_32x32.mat, test_32x32.mat: take them"):
        svhn.prepare(tmp_path, tmp_path / "out")
    for name in ("train_32x32.mat", "test_32x32.mat"):
        cases.svhn(tmp_path, name, [1, 11], 1)
    with pytest.raises(PrepError, match="train_32x32.mat: digit 1 has label 11, expected 1 to 10"):
        svhn.prepare(tmp_path, tmp_path / "out")
    good = (tmp_path / "train_32x32.mat").read_bytes()
    (tmp_path / "train_32x32.mat").write_bytes(good[: len(good) // 2])
    with pytest.raises(PrepError, match="train_32x32.mat: not a readable MATLAB file"):
        svhn.prepare(tmp_path, tmp_path / "out")
    cases.matlab.savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 2))})
    with pytest.raises(PrepError, match="holds no variable 'y': expected X, y"):
        svhn.prepare(tmp_path, tmp_path / "out")
    cases.matlab.savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 2)), "y": [[1]]})
    with pytest.raises(PrepError, match="expected X of bytes, 32 x 32 x 3 x 1 .*found float64, 32"):
        svhn.prepare(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
