"""Compiling the layers' C code; bytes to floats, against the steps that it replaces."""

import subprocess

import cv2
import numpy as np
import pytest
import torch

from caffe.io import array_to_blobproto
from caffe_plain.native import NativeLibrary, NotCompiled
from relaybp.layers import finish, native
from relaybp.layers.crops import Cutter
from relaybp.layers.native import build, jpeg
from relaybp.layers.native import finish as native_finish
from relaybp.layers.native.finish import open_finish
from relaybp.layers.scene_message import parse_options

needs_libraries = pytest.mark.skipif(
    any(library.load() is None for library in build.LIBRARIES),
    reason=str([library.state() for library in build.LIBRARIES]),
)


# compiling


def test_another_decoders_pixels_are_refused(tmp_path, monkeypatch):
    if jpeg.LIBRARY.load() is None:
        pytest.skip(jpeg.LIBRARY.state())
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: np.zeros((121, 121, 3), np.uint8))
    with pytest.raises(NotCompiled, match="decodes to other pixels than OpenCV's"):
        jpeg._compile(jpeg.LIBRARY.sources, tmp_path / "x.so")


def test_without_libraries_there_is_neither_decoder_nor_finish(monkeypatch):
    missing = NativeLibrary("x", [native.FOLDER / "no_such.c"], native.compile_c, "numpy")
    for module in (jpeg, native_finish):
        monkeypatch.setattr(module, "LIBRARY", missing)
    assert open_finish() is None
    assert jpeg.open_decoder() is None


@needs_libraries
@pytest.mark.parametrize("library", build.LIBRARIES, ids=lambda library: library.name)
def test_the_sources_compile_without_a_warning(tmp_path, library):
    command = [*native.COMPILE, "-Werror", "-std=c99", *map(str, library.sources), "-o"]
    command += [str(tmp_path / "x.so"), "-ljpeg"]
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


@needs_libraries
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["mean", "shift", "scale"])
def test_floats_that_are_not_finite_are_those_of_the_formula(where, value):
    pixels = np.arange(40, dtype=np.uint8).reshape(1, 2, 20)
    mean, shift, scale = np.ones((1, 2, 20), np.float32), np.ones((1, 20), np.float32), 0.5
    if where == "scale":
        scale = value
    else:
        {"mean": mean, "shift": shift}[where][..., 3::15] = value  # 16 values at once, and the rest
    with np.errstate(invalid="ignore"):  # 0 * inf
        expected = (pixels.astype(np.float32) - mean + shift[:, None]) * np.float32(scale)
    np.testing.assert_array_equal(open_finish()(pixels, mean, shift, scale), expected)


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
