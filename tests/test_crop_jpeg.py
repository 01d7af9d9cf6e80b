"""Windows of JPEG images, decoded alone, against OpenCV's whole decode, bit for bit."""

import re

import cv2
import numpy as np
import pytest
from PIL import Image

from relaybp.layers import images
from relaybp.layers.crops import COLUMNS, Cutter
from relaybp.layers.native import jpeg
from relaybp.layers.scene_message import parse_options

decoder = jpeg.open_decoder()
needs_library = pytest.mark.skipif(decoder is None, reason=jpeg.LIBRARY.state())
SUBSAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111, "440": 0x121111, "411": 0x411111}


def picture(random, height, width):
    """Smooth or noisy pixels."""
    noise = random.randint(0, 256, (height, width, 3)).astype(np.uint8)
    if random.rand() < 0.3:
        return noise
    small = noise[: max(1, height // 6), : max(1, width // 6)]
    return cv2.resize(small, (width, height))


def encode(pixels, *options):
    return cv2.imencode(".jpg", pixels, list(options))[1].tobytes()


def decoded(data, color=True):
    flags = cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return whole if color else whole[:, :, np.newaxis]


def windows(random, height, width, count):
    """Windows of all places and sizes; some touch the edges."""
    for _ in range(count):
        top, left = random.randint(height), random.randint(width)
        top, left = top * (random.rand() < 0.8), left * (random.rand() < 0.8)
        tall, wide = random.randint(1, height - top + 1), random.randint(1, width - left + 1)
        yield (
            top,
            left,
            height - top if random.rand() < 0.2 else tall,
            width - left if random.rand() < 0.2 else wide,
        )


@needs_library
@pytest.mark.parametrize("restarts", [0, 1, 3])
@pytest.mark.parametrize("sampling", [*SUBSAMPLINGS, "gray"])
def test_any_window_is_that_of_the_whole(sampling, restarts):
    random = np.random.RandomState(len(sampling) + restarts)
    for k in range(40):
        height, width = random.randint(1, 150, 2).tolist()
        pixels = picture(random, height, width)
        options = [
            cv2.IMWRITE_JPEG_QUALITY,
            random.randint(20, 101),
            cv2.IMWRITE_JPEG_OPTIMIZE,
            k % 2,
            cv2.IMWRITE_JPEG_RST_INTERVAL,
            restarts,
        ]
        if sampling == "gray":
            pixels = pixels[:, :, 0]
        else:
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SUBSAMPLINGS[sampling]]
        data = encode(pixels, *options)
        for color in (True, False):
            whole = decoded(data, color)
            for window in windows(random, height, width, 8):
                top, left, tall, wide = window
                assert decoder.begin(data) == (height, width)
                np.testing.assert_array_equal(
                    decoder.cut(window, 3 if color else 1),
                    whole[top : top + tall, left : left + wide],
                )


def others(folder):
    """JPEG files that only OpenCV decodes here, and their sizes as OpenCV sees them."""
    pixels = picture(np.random.RandomState(0), 40, 56)
    image = Image.fromarray(pixels[:, :, ::-1])
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.save(folder / "progressive.jpg", progressive=True)
    found = {path.stem: path.read_bytes() for path in folder.glob("*.jpg")}
    found["png"] = cv2.imencode(".png", pixels)[1].tobytes()
    found["garbage first"] = b"\xff\xd8" + bytes(10) + encode(pixels)[2:]
    return found


def test_what_it_does_not_decode_is_left_to_opencv(tmp_path):
    for name, data in others(tmp_path).items():
        if decoder:
            assert decoder.begin(data) is None, name
            assert decoder.begin(b"") is None and decoder.begin(b"\xff\xd8\xff") is None
        if name != "garbage first":
            opened = images.open_image(data)
            assert opened.size == (40, 56)
            np.testing.assert_array_equal(opened.part(5, 6, 20, 30), decoded(data)[5:25, 6:36])
    with pytest.raises(ValueError, match=r"not an image that OpenCV can decode \(\d+ bytes\)"):
        images.open_image(others(tmp_path)["garbage first"])


@pytest.mark.parametrize("tag, value", [(0x010F, "a camera"), (0x0112, 6)])
def test_pixels_are_those_that_are_stored_whatever_exif_says(tmp_path, tag, value):
    exif = Image.Exif()
    exif[tag] = value
    pixels = picture(np.random.RandomState(1), 40, 56)
    Image.fromarray(pixels).save(tmp_path / "exif.jpg", exif=exif)
    data = (tmp_path / "exif.jpg").read_bytes()
    opened = images.open_image(data)
    assert isinstance(opened, images.Undecoded if decoder else images.Whole)
    np.testing.assert_array_equal(opened.part(0, 0, 40, 56), decoded(data))


OPTIONS = [
    "crop_size: 24",
    "crop_size: 24 mirror: true",
    "crop_size: 24 pad: 9 mirror: true",
    "crop_size: 24 short_side_min: 30 short_side_max: 70",
    "crop_size: 32 area_min: 0.1",
    "",
]


@needs_library
@pytest.mark.parametrize("options", OPTIONS)
def test_a_crop_is_the_same_with_it_and_without(options, monkeypatch):
    random = np.random.RandomState(4)
    options = parse_options(f'source: "x" batch_size: 1 {options}')
    cutter = Cutter(options, True, (options.crop_size or 45, options.crop_size or 61))
    for _ in range(30):
        data, draw = encode(picture(random, 45, 61)), random.rand(len(COLUMNS)).tolist()
        for color in (True, False):
            found, places = [], []
            for now in (jpeg.open_decoder(), None):
                monkeypatch.setattr(images, "_decoder", lambda now=now: now)
                found.append(np.empty((*cutter.out_size, 3 if color else 1), np.uint8))
                places.append(cutter.encoded(data, color, draw, found[-1]))
            assert places[0] == places[1]
            np.testing.assert_array_equal(*found)


@needs_library
def test_damage_is_named_where_it_touches_the_window():
    data = encode(picture(np.random.RandomState(2), 128, 128))
    middle = len(data) * 2 // 3
    cut, flipped = data[:middle], data[:middle] + b"\xff\xff\xd0" + data[middle + 3 :]
    whole = decoded(data)
    for damaged, message in ((cut, "[Pp]remature end"), (flipped, "Corrupt JPEG data")):
        assert decoder.begin(damaged) == (128, 128)
        with pytest.raises(ValueError, match=f"damaged image: .*{message}"):
            decoder.cut((0, 0, 128, 128), 3)
        assert decoder.begin(damaged) == (128, 128)  # and the decoder goes on
        np.testing.assert_array_equal(decoder.cut((4, 8, 40, 50), 3), whole[4:44, 8:58])
    with pytest.raises(ValueError, match=r"no window \(100, 0, 29, 5\) in 128 x 128"):
        decoder.begin(data)
        decoder.cut((100, 0, 29, 5), 3)


def restarted(intervals):
    """A gray JPEG of an interval for each 8 x 8 pixels: with `intervals` changed, and as it was."""
    pixels = np.random.RandomState(5).randint(0, 256, (16, 80)).astype(np.uint8)
    head, *parts = re.split(
        rb"(\xff[\xd0-\xd7\xd9])", encode(pixels, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)
    )
    return head + b"".join(intervals(parts)), head + b"".join(parts)


@needs_library
@pytest.mark.parametrize(
    "message, intervals",
    [
        ("found marker 0xd1 instead of RST0", lambda parts: [parts[2], *parts[1:]]),
        ("premature end", lambda parts: [parts[0], parts[1][:4], *parts[2:]]),
        ("premature end", lambda parts: [parts[0], b"\xff\xd9"]),
        ("premature end", lambda parts: parts[:2]),
        (
            "3 extraneous bytes before marker 0xd1",
            lambda parts: [*parts[:2], b"\1\2\3", *parts[2:]],
        ),
        ("bad Huffman code", lambda parts: [parts[0], b"\xff\0" * 9, *parts[2:]]),
    ],
)
def test_a_damaged_restart_interval_is_named(message, intervals):
    damaged, data = restarted(intervals)
    assert decoder.begin(data) == (16, 80)
    np.testing.assert_array_equal(decoder.cut((0, 0, 16, 80), 1), decoded(data, False))
    assert decoder.begin(damaged) == (16, 80)
    with pytest.raises(ValueError, match=f"damaged image: .*{message}"):
        decoder.cut((0, 0, 16, 80), 1)


@needs_library
@pytest.mark.parametrize("restarts", [0, 2])
def test_any_damage_is_found_or_leaves_the_pixels_that_opencv_sees(restarts):
    random, whole = np.random.RandomState(3), 0
    data = encode(picture(random, 60, 70), cv2.IMWRITE_JPEG_RST_INTERVAL, restarts)
    first = data.index(b"\xff\xda") + 14
    for _ in range(1000):
        damaged = bytearray(data)
        damaged[random.randint(first, len(data) - 2)] ^= 1 << random.randint(8)
        assert decoder.begin(bytes(damaged)) == (60, 70)
        try:
            found = decoder.cut((0, 0, 60, 70), 3)
        except ValueError as error:
            assert "damaged image" in str(error)
            continue
        whole += 1
        np.testing.assert_array_equal(found, decoded(bytes(damaged)))
    assert 0 < whole < 1000


@needs_library
def test_any_damage_ends_with_an_answer():
    random = np.random.RandomState(3)
    data = encode(picture(random, 60, 70), cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    for _ in range(3000):
        at = random.randint(2, len(data))
        damaged = data[:at] + random.bytes(random.randint(1, 4)) + data[at + random.randint(3) :]
        size = decoder.begin(damaged[: random.randint(at, len(damaged) + 1)])
        if size and max(size) < 500:  # else the header has become another one
            try:
                window = next(windows(random, *size, 1))
                assert decoder.cut(window, 3).shape == (*window[2:], 3)
            except ValueError as error:
                assert "damaged image" in str(error)
