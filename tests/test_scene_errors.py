"""What goes wrong around the SceneData layer: damaged records, dead workers, killed parents."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2
from caffe_plain.native import COMPILING, NativeLibrary
from relaybp.layers import images, scene_pool
from relaybp.layers.errors import SceneError
from relaybp.layers.images import jpeg_size
from relaybp.layers.native import jpeg
from scene_cases import encoded, forwards, label, layer, make_net, picture, raw, write_lmdb

ROOT = Path(__file__).resolve().parents[1]
COUNT, BAD = 40, 11
BAD_KEY = "00000011_11.jpg"


def photo(index):
    """A smooth JPEG of 60 x 80."""
    noise = np.random.RandomState(index).randint(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.resize(noise, (80, 60)))[1].tobytes()


def spoiled(kind):
    """A record that is bad in some way, where a photo should be."""
    good = photo(BAD)
    middle = len(good) * 2 // 3
    data = {
        "cut off": good[:-40],
        "cut in half": good[:middle] + b"\xff\xd9",
        "empty": b"",
        "text": b"hello",
        "flipped": good[:middle] + b"\xff\xff\xd0" + good[middle + 3 :],
        "header": b"\xff\xd8" + bytes(10) + good[12:],
    }
    if kind in data:
        return encoded(caffe_pb2, data[kind], label(BAD))
    return {
        "not a datum": b"\x22\xff",
        "nothing": b"",
        "too few pixels": raw(caffe_pb2, picture(0), label(BAD)).replace(b"\x18\x0e", b"\x18\x0f"),
        "gray": raw(caffe_pb2, picture(0)[:1], label(BAD)),
        "floats": caffe_pb2.Datum(
            float_data=[1], channels=1, height=1, width=1, label=label(BAD)
        ).SerializeToString(),
    }[kind]


KINDS = {
    "cut off": r"a JPEG image without its end \(\d+ bytes\)",
    "cut in half": "damaged image: .*(Premature|premature|Corrupt)",
    "flipped": "damaged image: Corrupt JPEG data",
    "header": r"not an image that OpenCV can decode \(\d+ bytes",
    "empty": r"not an image .*\(0 bytes",
    "text": r"not an image .*\(5 bytes",
    "not a datum": "2 bytes that are not a Datum",
    "too few pixels": r"channels, height, width say \(3, 12, 15\), but it holds 504 values",
    "gray": "it has 1 channels, the first record 3",
    "floats": "holds floats.*use a Data layer",
}


def database(folder, spoil):
    """A database of photos in which record BAD is `spoil`; its index knows the label."""

    def photos(bad):
        return [bad if k == BAD else encoded(caffe_pb2, photo(k), label(k)) for k in range(COUNT)]

    folder.mkdir()
    source = write_lmdb(folder / "db", photos(encoded(caffe_pb2, photo(BAD), label(BAD))))
    make_net(caffe, folder, layer(source, "batch_size: 1"))  # writes the index
    os.unlink(folder / "db" / "data.mdb")
    return write_lmdb(folder / "db", photos(spoil))


OPTIONS = "batch_size: 8 crop_size: 10 workers: 2 "


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_record_is_named_and_can_be_left_out(tmp_path, capfd, kind):
    source = database(tmp_path / "x", spoiled(kind))
    options = OPTIONS.replace("crop_size: 10", "crop_size: 60")  # all rows of a photo
    net = make_net(caffe, tmp_path, layer(source, options))
    net.forward()
    for _ in range(2):  # and once more: the position stays
        with pytest.raises(caffe.LayerError, match=f"record '{BAD_KEY}': {KINDS[kind]}"):
            net.forward()
    assert net.layers[0].position == 8
    net = make_net(caffe, tmp_path, layer(source, options + "skip_damaged: true"))
    labels = np.concatenate([tops["label"] for tops in forwards(net, COUNT // 8)])
    assert labels.tolist() == [label(k) for k in range(COUNT)]
    assert net.layers[0].left_out >= 1
    assert f"left out, 1 by now: record '{BAD_KEY}': " in capfd.readouterr().err


def test_the_next_of_its_class_stands_in(tmp_path):
    source = database(tmp_path / "x", spoiled("text"))
    text = layer(source, "batch_size: 40 workers: 1 skip_damaged: true")
    data = make_net(caffe, tmp_path, text).forward()["data"]
    standing_in = next(k for k in range(BAD + 1, COUNT) if label(k) == label(BAD))
    np.testing.assert_array_equal(data[BAD], data[standing_in])


def test_a_class_without_a_good_record(tmp_path):
    records = [encoded(caffe_pb2, photo(k) if k % 2 == 0 else b"x", k % 2) for k in range(4)]
    text = layer(write_lmdb(tmp_path / "db", records), "batch_size: 2 skip_damaged: true")
    with pytest.raises(
        caffe.LayerError, match="record '00000001_1.jpg'.*no other record of its class is good"
    ):
        make_net(caffe, tmp_path, text).forward()


def test_a_wrong_label_and_a_missing_record_are_named(tmp_path):
    source = database(tmp_path / "x", encoded(caffe_pb2, photo(BAD), 99))
    net = make_net(caffe, tmp_path, layer(source, OPTIONS))
    net.forward()
    with pytest.raises(
        caffe.LayerError,
        match=f"'{BAD_KEY}': its label is 99, in the index {label(BAD)}; delete record_index.npy",
    ):
        net.forward()


def test_records_of_several_sizes_need_a_crop(tmp_path):
    records = [raw(caffe_pb2, picture(k, 12, 14 + k % 2), 0) for k in range(4)]
    source = write_lmdb(tmp_path / "db", records)
    with pytest.raises(
        caffe.LayerError,
        match="'00000001_1.jpg': its size is 12 x 15 .*first "
        "record 12 x 14; resize all to one size, or give",
    ):
        make_net(caffe, tmp_path, layer(source, "batch_size: 2")).forward()
    data = make_net(caffe, tmp_path, layer(source, "batch_size: 2 crop_size: 12")).forward()
    assert data["data"].shape == (2, 3, 12, 12)


def test_a_database_that_cannot_be_used(tmp_path):
    source = write_lmdb(tmp_path / "db", [encoded(caffe_pb2, b"x", 0)])
    with pytest.raises(caffe.LayerError, match=r"its first record: not an image .* \(1 bytes"):
        make_net(caffe, tmp_path, layer(source, "batch_size: 2"))


@pytest.mark.parametrize("size", [(60, 80), (7, 300)])
def test_the_size_in_the_header_of_a_jpeg(size):
    jpeg = cv2.imencode(".jpg", np.zeros((*size, 3), np.uint8))[1].tobytes()
    assert jpeg_size(jpeg) == size
    assert jpeg_size(jpeg[:30]) is None
    assert jpeg_size(cv2.imencode(".png", np.zeros((*size, 3), np.uint8))[1].tobytes()) is None


def test_a_gray_image_is_made_three_channels(tmp_path):
    gray = cv2.imencode(".png", picture(0)[0])[1].tobytes()
    assert images.decode(gray).shape == (12, 14, 3)
    assert images.decode(gray, color=False).shape == (12, 14, 1)
    records = [raw(caffe_pb2, picture(0)[:1], 0), encoded(caffe_pb2, gray, 0)]
    text = layer(write_lmdb(tmp_path / "db", records), "batch_size: 2 workers: 1")
    data = make_net(caffe, tmp_path, text).forward()["data"]
    np.testing.assert_array_equal(data[:, 0], [picture(0)[0]] * 2)


# ---- processes -----------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    return write_lmdb(tmp_path / "raw", [raw(caffe_pb2, picture(k), 0) for k in range(40)])


def children():
    """The process numbers of this process's children."""
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def test_the_workers_end_with_their_net(tmp_path, source):
    before = children()
    net = make_net(caffe, tmp_path, layer(source, "batch_size: 4 workers: 2"))
    net.forward()
    assert len(children() - before) == 2
    del net
    assert children() == before


def test_the_pool_compiles_once_and_its_workers_do_not(tmp_path, source, monkeypatch):
    tried, before = [], children()
    (tmp_path / "x.c").write_text("")
    monkeypatch.delenv(COMPILING, raising=False)
    library = NativeLibrary("x", [tmp_path / "x.c"], lambda *_: tried.append(1), "nothing does it")
    monkeypatch.setattr(jpeg, "LIBRARY", library)
    net = make_net(caffe, tmp_path, layer(source, "batch_size: 4 workers: 2"))
    net.forward()
    workers = children() - before
    assert tried == [1] and len(workers) == 2
    for pid in workers:
        assert f"{COMPILING}=0" in Path(f"/proc/{pid}/environ").read_text().split("\0")


def is_dead(pid):
    """Whether a process has ended and closed its pipes."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("before_the_next_task", [False, True])
def test_a_dead_worker_is_a_clear_error_and_the_next_forward_goes_on(
    tmp_path, source, monkeypatch, before_the_next_task
):
    monkeypatch.setattr(scene_pool, "_LOOK_EVERY_S", 0.05)
    expected = forwards(make_net(caffe, tmp_path, layer(source, OPTIONS)), 20)
    before = children()
    net = make_net(caffe, tmp_path, layer(source, OPTIONS))
    found = forwards(net, 1)
    workers = children() - before
    for pid in workers:
        os.kill(int(pid), signal.SIGKILL)
    while before_the_next_task and not all(is_dead(pid) for pid in workers):
        time.sleep(0.001)
    with pytest.raises(caffe.LayerError, match=r"worker process died \(exit status -9\).*fewer"):
        for _ in range(10):  # what was made in advance is good
            found += forwards(net, 1)
    found += forwards(net, 20 - len(found))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours["data"], theirs["data"])


def test_signals_are_the_parents(tmp_path, source):
    """A scheduler sends them to every process; the parent wants its last batches all the same."""
    expected = forwards(make_net(caffe, tmp_path, layer(source, OPTIONS)), 6)
    before = children()
    net = make_net(caffe, tmp_path, layer(source, OPTIONS))
    found = []
    for number in ("HUP", "INT", "TERM", "USR1", "XCPU", "TERM"):
        found += forwards(net, 1)
        for pid in children() - before:
            os.kill(int(pid), getattr(signal, f"SIG{number}"))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours["data"], theirs["data"])


SCRIPT = """
import os, time
import caffe
net = caffe.Net({net!r}, caffe.TRAIN)
net.forward()
with open("/proc/self/task/%d/children" % os.getpid()) as file:
    children = file.read()
print(children, net.layers[0].position, flush=True)
{then}
"""


def script(folder, source, then):
    make_net(caffe, folder, layer(source, "batch_size: 4 workers: 2"))
    text = SCRIPT.format(net=str(folder / "net.prototxt"), then=then)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", text],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'python'}:{ROOT}"},
    )


def test_nothing_is_left_behind_when_the_interpreter_exits(tmp_path, source):
    with script(tmp_path, source, "") as child:
        out, errors = child.communicate(timeout=100)
    assert (out.split()[-1], errors) == ("4", "")
    assert not any(Path("/proc", pid).exists() for pid in out.split()[:-1])


def test_the_workers_end_when_their_parent_is_killed(tmp_path, source):
    with script(tmp_path, source, "time.sleep(100)") as child:
        workers = child.stdout.readline().split()[:-1]
        assert len(workers) == 2
        child.kill()
    for _ in range(200):
        if not any(_runs(pid) for pid in workers):
            return
        time.sleep(0.05)
    raise AssertionError("a worker outlived its parent")


def _runs(pid):
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_without_a_python_to_start(tmp_path, source, monkeypatch):
    net = make_net(caffe, tmp_path, layer(source, "batch_size: 4"))
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(caffe.LayerError, match="sys.executable is empty") as error:
        net.forward()
    assert isinstance(error.value.__cause__, SceneError)
