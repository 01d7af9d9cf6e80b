"""Building the layers' C code; bytes to floats, against the steps that it replaces."""

import subprocess

import cv2
import numpy as np
import pytest
import torch

from caffe.io import array_to_blobproto
from relaybp.layers import finish, native
from relaybp.layers.crops import Cutter
from relaybp.layers.native import build, jpeg
from relaybp.layers.native.finish import open_finish
from relaybp.layers.scene_message import parse_options

needs_libraries = pytest.mark.skipif(
    any(native.load(name) is None for name in native.LINKED),
    reason="needs python -m relaybp.layers.native.build",
)


# building


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to build in."""
    monkeypatch.setattr(build, "library_path", lambda name: str(tmp_path / f"{name}-1.so"))
    return tmp_path


@pytest.mark.parametrize(
    "command, message", [(["no-such-compiler"], "there is no C compiler (cc)"), (["false"], "")]
)
def test_where_they_cannot_be_built(folder, monkeypatch, capsys, command, message):
    monkeypatch.setattr(build, "COMPILE", command)
    build.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        line
        for name in native.LINKED
        for line in (f"{name}: not built; OpenCV, numpy and PyTorch do its work", message)
    ]
    assert not list(folder.iterdir())


@needs_libraries
def test_building(folder, monkeypatch, capsys):
    (folder / "finish-old.so").write_bytes(b"")
    build.main()
    assert capsys.readouterr().out == "crop_jpeg: crop_jpeg-1.so\nfinish: finish-1.so\n"
    assert sorted(path.name for path in folder.iterdir()) == ["crop_jpeg-1.so", "finish-1.so"]
    monkeypatch.setattr(build, "COMPILE", None)
    assert build.build("finish") == str(folder / "finish-1.so")  # once


@needs_libraries
def test_another_decoders_pixels_are_refused(folder, monkeypatch, capsys):
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.zeros((121, 121, 3), np.uint8))
    build.main()
    assert "decodes to other pixels than OpenCV's" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["finish-1.so"]


def test_a_library_that_cannot_be_loaded_is_no_library(tmp_path, monkeypatch):
    (tmp_path / "finish.so").write_bytes(b"no library")
    monkeypatch.setattr(native, "library_path", lambda name: str(tmp_path / f"{name}.so"))
    assert open_finish() is None
    assert jpeg.open_decoder() is None


@needs_libraries
@pytest.mark.parametrize("name", native.LINKED)
def test_the_sources_compile_without_a_warning(tmp_path, name):
    command = [
        *build.COMPILE,
        "-Werror",
        "-std=c99",
        native.source_path(name),
        "-o",
        str(tmp_path / "x.so"),
        *native.LINKED[name],
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# floats of bytes


@needs_libraries
@pytest.mark.parametrize("count", [1, 15, 16, 36, 63, 672])
def test_floats_are_those_of_the_formula(count):
    random = np.random.RandomState(count)
    pixels = random.randint(0, 256, (3, 5, count)).astype(np.uint8)
    means = random.uniform(0, 255, (3, 5, 2 * count)).astype(np.float32)
    shifts = random.normal(0, 9, (3, count)).astype(np.float32)
    finish_images, scale = open_finish(), np.float32(0.017)
    expected = (
        pixels.astype(np.float32) - means[:, :, count // 2 :][:, :, :count] + shifts[:, None]
    ) * scale
    found = finish_images(pixels, means[:, :, count // 2 :][:, :, :count], shifts, scale)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        finish_images(pixels, means[:, :1, :count], None, 1),
        pixels.astype(np.float32) - means[:, :1, :count],
    )
    np.testing.assert_array_equal(finish_images(pixels, [None] * 3, None, 1), pixels)


CROP = "crop_size: 10 mirror: true "
MEANS = [
    "",
    "mean_value: 100.3",
    "mean_value: 1.5 mean_value: 2.25 mean_value: 120",
    'mean_file: "whole" scale: 0.017',
    'mean_file: "crop" scale: 2',
    'color_file: "color" scale: 0.3',
    'pad: 3 mean_file: "whole"',
    'pad: 2 mean_value: 100 color_file: "color"',
]


@needs_libraries
@pytest.mark.parametrize("more", MEANS)
def test_a_batch_is_the_same_with_the_library_and_without(tmp_path, monkeypatch, more):
    random = np.random.RandomState(0)
    for name, size in (("whole", (14, 17)), ("crop", (10, 10))):
        blob = array_to_blobproto(random.uniform(0, 255, (1, 3, *size)))
        (tmp_path / name).write_bytes(blob.SerializeToString())
    np.savetxt(tmp_path / "color", random.normal(size=(3, 4)))
    monkeypatch.chdir(tmp_path)
    options = parse_options(f'source: "x" batch_size: 6 {CROP} {more}')
    cutter = Cutter(options, True, (10, 10))
    pixels = random.randint(0, 256, (6, 10, 10, 3)).astype(np.uint8)
    places = np.stack([random.randint(0, 2, 6), *random.randint(0, 5 - options.pad, (2, 6))], 1)
    hosts = {"numpy": lambda: np.asarray, "torch": lambda: torch.from_numpy, "none": lambda: None}
    steps = {
        "numpy": (lambda x: x.astype(np.float32), np.asarray),
        "torch": (lambda x: torch.from_numpy(x).float(), torch.from_numpy),
    }
    found = []
    for kind in ("numpy", "torch"):
        for host in (kind, "none"):
            finisher = finish.Finisher(options, cutter, (3, 14, 17), *steps[kind], hosts[host])
            found.append(np.asarray(finisher(pixels, places, np.arange(6))))
            assert found[-1].shape == (6, 10, 10, 3)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
