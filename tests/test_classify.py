"""Photos by a run: the scores that its TEST phase gives to the same files in a database."""

import csv
import io
import json
import re
import sys
import types

import cv2
import lmdb
import numpy as np
import pytest

import caffe
from caffe.command import classification
from caffe.files.weights import read_blob
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from caffe_plain.trained import files_of
from evaluation_cases import CLASSES, draw_images, make_run
from relaybp import engines, identity, run_files, snapshots
from relaybp.commands import classify as command
from relaybp.data_prep.compute_image_mean import mean_of, write_mean
from relaybp.data_prep.convert_imageset import convert
from relaybp.evaluation.photos import classify, list_photos
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import measure
from relaybp.run_plan import Plan

NAMES = [f"class {k}" for k in range(CLASSES)]
NORMAL = "mean_value: 100 scale: 0.02"
# how the records are made, what the layer does with them
CASES = {
    "values": ({"resize_short": 16}, NORMAL),
    "jpeg": ({"resize_short": 16, "encode_type": "jpg"}, NORMAL),
    "image": ({"resize_width": 16, "resize_height": 16}, 'mean_file: "MEAN" scale: 0.02'),
    "grey": ({"resize_short": 15, "gray": True}, NORMAL),
    "grey as colour": ({"resize_short": 15, "gray": True, "encode_type": "png"},
                       NORMAL + " force_color: true"),
    "lying, turned": ({"encoded": True, "keep_exif": True}, NORMAL + " force_color: true"),
    "lying": ({"encoded": True, "keep_exif": True}, NORMAL),
    "whole": ({"resize_width": 13, "resize_height": 13}, "mean_value: 90 mean_value: 7 "
              "mean_value: 30"),
}  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    """Files of several sizes and formats, one of them a photo that lies on its side."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k, name in enumerate(["a.png", "b.jpg", "c.bmp", "d.jpg"]):
        pixels = draw_images(1, 4 + k, 6, k)[0]
        cv2.imwrite(
            str(folder / name), cv2.resize(pixels, (30 + k, 24), interpolation=cv2.INTER_CUBIC)
        )
    lies_on_its_side(folder / "d.jpg")
    return folder


def lies_on_its_side(path):
    """Let a JPEG say that its first row of pixels is the right edge (EXIF orientation 6)."""
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:])


def make(tmp_path, photos, making, transform, as_numbers=False):
    """A run on a database of the photos, with all that a training writes; returns its folder."""
    names = sorted(path.name for path in photos.iterdir())
    (tmp_path / "list").write_text("".join(f"{name} {k}\n" for k, name in enumerate(names)))
    data = tmp_path / "data"
    data.mkdir()
    (data / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    source = str(data / "val_lmdb")
    convert(f"{photos}/", tmp_path / "list", source, **making)
    if "MEAN" in transform:
        write_mean(data / "mean.binaryproto", mean_of(source)[0])
    crop = "" if transform == CASES["whole"][1] else "crop_size: 13 "
    text = crop + transform.replace("MEAN", str(data / "mean.binaryproto"))
    channels = 1 if making.get("gray") and "force_color" not in transform else 3
    run = make_run(
        tmp_path / "run", data, edit=lambda net: net.replace(f"crop_size: 13 {NORMAL}", text)
    )
    if channels == 1:
        net = caffe.Net(str(run / "train_val.prototxt"), caffe.TEST)
        net.save(str(run / "a_iter_7.caffemodel"))
    begin(run)
    return run


def begin(run):
    """Write what a training writes when it begins."""
    pb, path = caffe_pb2, str(run / "train_val.prototxt")
    net = run_files.run_folder.read(path, pb.NetParameter())
    plan = Plan("a", str(run), pb.SolverParameter(), net, None, None, "", None, None, False)
    solver = types.SimpleNamespace(test_nets=[caffe.Net(path, caffe.TEST)])
    run_files.write(caffe, plan, solver)
    identity.begin(
        str(run),
        {"batch": {"images": 4, "processes": 1}},
        net,
        7,
        run_files.preparation_of(pb, plan),
    )


@pytest.mark.parametrize("case", CASES)
def test_files_get_the_scores_of_their_records(tmp_path, photos, case):
    run = make(tmp_path, photos, *CASES[case])
    expected = measure(engines.load(), str(run), Protocol(), gpu="none")
    (tmp_path / "data").rename(tmp_path / "moved")  # a run needs its data no more
    answers = classify(caffe, str(run), files_of(str(run)), list_photos(str(photos)))
    assert [name.rpartition("/")[2] for name in answers.files] == [
        "a.png",
        "b.jpg",
        "c.bmp",
        "d.jpg",
    ]
    np.testing.assert_allclose(answers.scores, expected.scores, rtol=1e-4, atol=1e-6)
    assert answers.names == NAMES and not answers.bad
    best = int(answers.scores[1].argmax())
    assert answers.best(1, 2)[0] == (NAMES[best], pytest.approx(answers.scores[1, best]))
    assert np.ptp(answers.scores, axis=0).max() > 0.01  # the photos differ


def test_records_in_rgb_order_get_photos_in_rgb_order(tmp_path, photos):
    """So data_prep's --lmdb stores them, and its settings.json says it."""
    run = make(tmp_path, photos, *CASES["whole"])
    source = str(tmp_path / "data" / "val_lmdb")
    with lmdb.open(source) as base, base.begin(write=True) as change:
        for key, value in list(change.cursor()):
            datum = caffe_pb2.Datum.FromString(value)
            pixels = np.frombuffer(datum.data, np.uint8).reshape(3, 13, 13)
            datum.data = pixels[::-1].tobytes()
            change.put(key, datum.SerializeToString())
    settings = tmp_path / "data" / "val_lmdb" / "settings.json"
    settings.write_text('{"tool": "small_images", "colours": "RGB"}')
    begin(run)
    assert json.loads((run / "run.json").read_text())["images"]["rgb"]
    expected = measure(engines.load(), str(run), Protocol(), gpu="none")
    answers = classify(caffe, str(run), files_of(str(run)), list_photos(str(photos)))
    np.testing.assert_allclose(answers.scores, expected.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("clean_log")
def test_caffes_classification_feeds_the_order_that_the_run_was_trained_on(tmp_path, photos, capfd):
    run = make(tmp_path, photos, {"resize_width": 13, "resize_height": 13}, NORMAL)
    scores = {}
    for rgb in (False, True):
        record = json.loads((run / "run.json").read_text())
        record["images"]["rgb"] = rgb
        (run / "run.json").write_text(json.dumps(record))
        assert classification.main([str(run), str(photos / "a.png")]) == 0
        answers = classify(caffe, str(run), files_of(str(run)), [str(photos / "a.png")])
        name, scores[rgb] = answers.best(0, 1)[0]
        assert f'{scores[rgb]:.4f} - "{name}"' in capfd.readouterr().out
    assert scores[True] != pytest.approx(scores[False], abs=1e-3)  # the photo has colours


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["relay classify", *map(str, words), "--gpu", "none"])
    command.main()


def test_bars_show_the_likeliest_classes(tmp_path, photos, monkeypatch, capsys):
    run = make(tmp_path, photos, *CASES["values"])
    call(monkeypatch, run, photos / "a.png", photos / "b.jpg", "--top", "3")
    out = capsys.readouterr().out
    blocks = out.rstrip("\n").split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        str(photos / n) for n in ("a.png", "b.jpg")
    ]
    for block in blocks:
        lines = block.splitlines()[1:]
        assert len(lines) == 3 and max(map(len, lines)) <= 80
        shares = [float(line.split()[-2]) for line in lines]
        lengths = [line.count("█") for line in lines]
        assert shares == sorted(shares, reverse=True)
        for share, length in zip(shares, lengths, strict=True):
            assert abs(length - share / 100 * command.BAR) <= 1


def test_a_bar_is_of_signs_that_the_terminal_has(monkeypatch):
    for encoding, full, half in (("utf-8", "█" * 32, "█" * 16), ("ascii", "#" * 32, "#" * 16)):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        assert (command.bar(1), command.bar(0.5), command.bar(0)) == (full, half, "")


def test_a_folder_gives_a_table(tmp_path, photos, monkeypatch, capsys):
    run = make(tmp_path, photos, *CASES["values"])
    (photos / "below").mkdir()
    (photos / "a.png").rename(photos / "below" / "a.png")
    (photos / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        call(monkeypatch, run, photos)
    printed = capsys.readouterr()
    assert f"left out: {photos}/broken.jpg: not an image" in printed.err
    with open(run / "classified_photos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["b.jpg", "c.bmp", "d.jpg", "below/a.png"]
    assert [row["image"] for row in rows] == [f"{photos}/{name}" for name in names]
    answers = classify(caffe, str(run), files_of(str(run)), [str(photos / "b.jpg")])
    best = answers.best(0, 5)
    assert [rows[0][f"class{k}"] for k in range(1, 6)] == [name for name, _ in best]
    assert [rows[0][f"score{k}"] for k in range(1, 6)] == [f"{score:.4f}" for _, score in best]


@pytest.mark.usefixtures("clean_log")
def test_caffes_classification_takes_the_folder_of_a_run(tmp_path, photos, capfd):
    run = make(tmp_path, photos, *CASES["image"])
    files = [run / name for name in ("deploy.prototxt", "a_iter_7.caffemodel", "mean.binaryproto")]
    words = [*files, run / "classes.txt", photos / "a.png"]
    assert classification.main([*map(str, words)]) == 0
    expected = capfd.readouterr().out
    assert classification.main([str(run), str(photos / "a.png")]) == 0
    assert capfd.readouterr().out == expected and "class" in expected
    (run / "a_iter_8.caffemodel").write_bytes(b"torn")  # of a training that was killed
    snapshots.seal(str(run / "a_iter_7.solverstate"))
    assert classification.main([str(run), str(photos / "a.png")]) == 0
    out, err = capfd.readouterr()
    assert out == expected and "Passed over: " in err and "a_iter_8: not whole" in err
    assert classification.main([str(run), "x.caffemodel", str(photos / "a.png")]) == 1
    assert "expected a folder and an image" in capfd.readouterr().err
    (run / "mean.binaryproto").unlink()
    assert classification.main([str(run), str(photos / "a.png")]) == 1
    assert re.search("run: no mean.binaryproto there, .*copy", capfd.readouterr().err)


@pytest.mark.usefixtures("clean_log")
def test_a_run_that_subtracts_nothing_says_so_in_its_mean(tmp_path, photos, capfd):
    run = make(tmp_path, photos, {"resize_width": 13, "resize_height": 13}, "scale: 0.02")
    assert not read_blob(run / "mean.binaryproto").any()
    assert classification.main([str(run), str(photos / "a.png")]) == 0
    answers = classify(caffe, str(run), files_of(str(run)), [str(photos / "a.png")])
    name, score = answers.best(0, 1)[0]
    assert f'{score:.4f} - "{name}"' in capfd.readouterr().out


def test_a_mean_that_is_gone_is_not_taken_for_nothing(tmp_path, photos):
    run = make(tmp_path, photos, *CASES["image"])
    ask = lambda: classify(caffe, str(run), files_of(str(run)), [str(photos / "a.png")]).scores  # noqa: E731
    expected = ask()
    (run / "mean.binaryproto").unlink()
    np.testing.assert_array_equal(ask(), expected)  # by the file that the net names
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(CaffeError, match=r"run: no mean.binaryproto there, and .*gone too; copy"):
        ask()


def test_a_run_is_exported_with_its_scale(tmp_path, photos):
    onnxruntime = pytest.importorskip("onnxruntime")
    from relaybp.commands import export_onnx

    run = make(tmp_path, photos, *CASES["values"])
    export_onnx.main([str(run), str(tmp_path / "net.onnx")])
    pixels = cv2.imread(str(photos / "a.png"))[None, :13, :13].transpose(0, 3, 1, 2)
    data = pixels.astype(np.float32) - 100
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    weights = str(run / "a_iter_7.caffemodel")
    net = caffe.Net(str(run / "deploy.prototxt"), caffe.TEST, weights=weights)
    (found,) = session.run(["prob"], {"data": data})
    np.testing.assert_allclose(found, net.forward(data=data)["prob"], rtol=1e-4)
    assert not np.allclose(found, session.run(["prob"], {"data": data * 50})[0])
    with pytest.raises(SystemExit, match="expected a run's folder"):
        export_onnx.main([str(run / "deploy.prototxt"), "net.onnx"])
    export_onnx.main([str(run)])
    assert (run / "net.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_what_cannot_be_classified_says_so(tmp_path, photos):
    run = make(tmp_path, photos, *CASES["values"])
    with pytest.raises(CaffeError, match="nowhere: no such folder"):
        files_of(str(tmp_path / "nowhere"))
    with pytest.raises(CaffeError, match=r"photos: no deploy.prototxt there"):
        files_of(str(photos))
    with pytest.raises(CaffeError, match=r"x.jpg: no such file"):
        classify(caffe, str(run), files_of(str(run)), [str(tmp_path / "x.jpg")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(CaffeError, match=r"no images there\nleft out: 1 .txt files"):
        list_photos(str(tmp_path / "empty"))
    (run / "classes.txt").write_text("one\ntwo\n")
    with pytest.raises(CaffeError, match="2 names; the net scores 7 classes"):
        classify(caffe, str(run), files_of(str(run)), [str(photos / "a.png")])
    (run / "a_iter_7.caffemodel").unlink()
    with pytest.raises(CaffeError, match="no snapshot"):
        files_of(str(run))
    assert files_of(str(run), "mine.caffemodel").weights == "mine.caffemodel"


def test_two_classes_of_one_name_stay_apart(tmp_path, photos):
    run = make(tmp_path, photos, *CASES["values"])
    (run / "classes.txt").write_text("crane\nfox\ncrane\ncrab\nowl\nbat\nelk\n")
    answers = classify(caffe, str(run), files_of(str(run)), [str(photos / "a.png")])
    assert answers.names == ["crane (0)", "fox", "crane (2)", "crab", "owl", "bat", "elk"]


def test_a_number_of_classes_below_one_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["classify", "run", "a.jpg", "--top", "0"])
    with pytest.raises(SystemExit):
        command.arguments()
    assert "--top: '0': expected a number of at least 1" in capsys.readouterr().err
