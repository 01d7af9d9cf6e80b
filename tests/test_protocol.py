"""Protocols: their names, what a command line may say, and which parts of an image they test."""

import numpy as np
import pytest

from evaluation_cases import ROOT  # noqa: F401, tests import from their folder
from relaybp.errors import RelayError
from relaybp.evaluation.crops import central, centre, googlenet, ten
from relaybp.evaluation.protocol import Protocol, explain


@pytest.mark.parametrize(
    "text, name",
    [
        ("crop", "crop"),
        ("224,256", "dense-224-256"),
        ("dense:256,224", "dense-224-256"),
        ("vgg", "dense-224-256-320-384-448"),
        ("resnet", "dense-224-256-384-480-640"),
        ("10-crop", "10-crop"),
        ("inception", "central"),
        ("inception-multi", "144-crop"),
    ],
)
def test_names(text, name):
    assert Protocol.parse(text).name == name


def test_a_name_tells_step_limit_and_output():
    protocol = Protocol.parse("224", step=2, limit=100, loss="aux/loss")
    assert protocol.name == "dense-224_step2_limit100_loss-aux%2Floss"
    names = {
        Protocol(limit=limit, loss=loss).name
        for limit in (None, 1, 11)
        for loss in (None, "a", "a_limit1", "a/limit1")
    }
    assert len(names) == 12 and not any("/" in name for name in names)


def test_a_limit_that_leaves_nothing_out_is_none():
    assert Protocol(limit=9).of(10).limit == 9
    assert Protocol(limit=10).of(10) == Protocol() == Protocol().of(10)


@pytest.mark.parametrize(
    "text, more, complaint",
    [
        ("dens", {}, "'dens': expected one of crop, dense, .*inception"),
        ("dense", {}, r"'dense' with shorter sides \[\]: dense needs"),
        ("crop:224", {}, r"'crop' with shorter sides \[224\]"),
        ("dense:224,,256", {}, "protocol 'dense:224,,256'"),
        ("0", {}, r"shorter sides \[0\]: expected numbers of pixels"),
        ("224,224", {}, "one is given twice"),
        ("224", {"step": 0}, "step 0"),
        ("10-crop", {"step": 2}, "step 2 of '10-crop': only dense"),
        ("crop", {"limit": 0}, "limit 0: expected 1 image or more"),
    ],
)
def test_what_a_protocol_cannot_be(text, more, complaint):
    with pytest.raises(RelayError, match=complaint):
        Protocol.parse(text, **more)


def test_every_protocol_is_explained():
    assert [line.split()[0] for line in explain().splitlines()] == [
        *("crop", "dense", "10-crop", "central", "144-crop"),
        *("vgg", "resnet", "inception", "inception-multi"),
    ]


def numbered(height, width):
    """An image (H, W, 1) that says of each pixel where it is: 100 * row + column."""
    return (100 * np.arange(height)[:, None] + np.arange(width))[..., None].astype(np.float32)


def corners(crops):
    """(row, column) of the first pixel of each crop."""
    return [divmod(int(crop[0, 0, 0]), 100) for crop in crops]


def test_ten_crops_are_krizhevskys():
    crops = ten(numbered(12, 17), 8)  # the central square begins at column 2
    assert [crop.shape for crop in crops] == [(8, 8, 1)] * 10
    assert corners(crops[:5]) == [(0, 2), (0, 6), (4, 2), (4, 6), (2, 4)]
    for crop, mirrored in zip(crops[:5], crops[5:], strict=True):
        np.testing.assert_array_equal(mirrored, crop[:, ::-1])


def test_the_centre_is_where_caffe_cuts_it():
    assert corners(centre(numbered(12, 17), 8)) == [(2, 4)]
    assert centre(numbered(3, 4), 0)[0].shape == (3, 4, 1), "of a net of whole images"
    with pytest.raises(RelayError, match="6 x 17 pixels is smaller than the crop of 8 x 8"):
        ten(numbered(6, 17), 8)


def test_the_central_part_is_seven_eighths_of_each_side():
    (crop,) = central(numbered(16, 32), 14)  # rows 1 to 14, columns 2 to 29
    assert crop.shape == (14, 14, 1)
    assert crop.mean() == pytest.approx(numbered(16, 32)[1:15, 2:30].mean(), rel=1e-6)
    (same,) = central(numbered(16, 16), 14)
    np.testing.assert_array_equal(same, numbered(16, 16)[1:15, 1:15])


def test_144_crops_are_googlenets():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    crops = googlenet(image, 14)
    assert len(crops) == 144 and {crop.shape for crop in crops} == {(14, 14, 3)}
    means = np.array([crop.mean() for crop in crops[:72]]).reshape(4, 3, 6)
    assert (means[:, 0].mean(1) < means[:, 1].mean(1)).all(), "left square, then the centre"
    assert (means[:, 1].mean(1) < means[:, 2].mean(1)).all(), "then the right one"
    np.testing.assert_allclose(means[:, 0, 5], 255 / 4, atol=15, err_msg="the whole square")
    for crop, mirrored in zip(crops[:72], crops[72:], strict=True):
        np.testing.assert_array_equal(mirrored, crop[:, ::-1])
