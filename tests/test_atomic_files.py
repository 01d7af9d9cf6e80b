"""Files are complete or absent, even on a full disk or when the write is interrupted."""

import errno
import os
import resource
import stat

import numpy as np
import pytest

from caffe.files import text, weights
from caffe.proto import caffe_pb2
from caffe_plain import files
from caffe_plain.errors import DataError


@pytest.fixture
def small_disk():
    """No file may grow past 100,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


BIG = np.ones(50_000, np.float32)
WRITERS = {
    "model": lambda path: weights.write_weights(
        path,
        caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="fc")]),
        {"fc": [(BIG, None)]},
    ),
    "model.h5": lambda path: WRITERS["model"](path),
    "state": lambda path: weights.write_state(path, 1, "model", 0, [BIG]),
    "state.h5": lambda path: WRITERS["state"](path),
    "mean": lambda path: weights.write_blob(path, BIG),
    "net.prototxt": lambda path: text.write_text(path, caffe_pb2.NetParameter(name="x" * 200_000)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, small_disk, name):
    path = tmp_path / name
    path.write_text("the old file")
    with pytest.raises(
        DataError,
        match=rf"{name}: cannot write 20\d,\d+ bytes: File too large "
        r"\([\d,]+ bytes are free in .*\); free some space",
    ):
        WRITERS[name](path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        (name, "the old file")
    ]


@pytest.mark.parametrize(
    "failure, raised",
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), DataError),
    ],
)
def test_an_interrupted_write_leaves_the_old_file(tmp_path, failure, raised):
    def pieces():
        yield b"half"
        raise failure

    path = tmp_path / "model"
    path.write_text("the old file")
    with pytest.raises(raised):
        files.write_pieces(path, pieces(), 8)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("model", "the old file")
    ]


def test_a_name_is_on_the_disk_when_the_file_has_been_written(tmp_path, monkeypatch):
    """The file's bytes are synced before it gets its name, the folder afterwards."""
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(number):
        calls.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def renamed(*names):
        calls.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    files.write_atomically(tmp_path / "a", "b")
    assert calls == ["file", "rename", "folder"]


def test_what_killed_writers_have_left_goes(tmp_path):
    left = [".a_iter_5.caffemodel.0123abcd.tmp", ".a_iter_5.\n.0123abcd.tmp"]
    stay = [
        ".b_iter_5.caffemodel.0123abcd.tmp",
        ".a_iter_5.tmp",
        "a_iter_5.0123abcd.tmp",
        ".a_iter",
    ]
    for name in left + stay:
        (tmp_path / name).touch()
    assert sorted(files.remove_leftovers(str(tmp_path), "a_iter_")) == sorted(left)
    assert sorted(os.listdir(tmp_path)) == sorted(stay)
    assert files.remove_leftovers(str(tmp_path)) == stay[:1]
