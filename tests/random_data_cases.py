"""Data layers with random legal parameters, on the files of tests/data_cases.py.

Like tests/random_cases.py, for nets without bottoms. Runs under an original BVLC Caffe too.
"""

import os
import zlib

import h5py
import numpy as np

import data_cases
from random_cases import ROWS, digest, flag, maybe, number, pick, shape

FORWARDS = 3
DRAWERS = {}  # layer type: draws (the net's text, its phase)
PIXELS = {"raw": (3, 8, 10), "float": (3, 8, 10), "color": (3, 8, 10), "gray": (1, 8, 10)}


def drawer(draw):
    """Decorator: the function is named as the type whose nets it draws."""
    DRAWERS[draw.__name__] = draw
    return draw


def rows(type, seed, count=ROWS):
    """{name: (text, phase)} of `count` nets of a layer type."""
    random = np.random.RandomState(zlib.crc32(type.encode()) ^ seed)
    return {f"{type}/random_{seed}_{index}": DRAWERS[type](random) for index in range(count)}


def run_row(caffe, folder, name, text, phase):
    """The digest of some forwards of a net, which reads the files in `folder`."""
    net = data_cases.make_net(caffe, folder, text, phase)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    for top in net.inputs:
        net.blobs[top].data[...] = random.normal(size=tuple(net.blobs[top].data.shape))
    if "MemoryData" in text:
        items = (2 * net.blobs["data"].data.shape[0], *net.blobs["data"].data.shape[1:])
        net.set_input_arrays(
            random.normal(size=items).astype(np.float32),
            random.normal(size=items[0]).astype(np.float32),
        )
    # BVLC Caffe writes HDF5Output's datasets once
    found = data_cases.forwards(net, 1 if "HDF5Output" in text else FORWARDS)
    arrays = {
        f"{top}.{index}": values for index, tops in enumerate(found) for top, values in tops.items()
    }
    if "HDF5Output" in text:
        del net  # BVLC Caffe closes the file only now
        with h5py.File(os.path.join(folder, "out.h5"), "r") as file:
            arrays.update((name, file[name][...]) for name in file)
    return digest(arrays, name)


def _transform(random, channels, height, width, crop=None, mean=True):
    """The fields of transform_param for records of that size."""
    fields = [f"scale: {number(random, 0.01, 2)}"]
    if random.randint(2):
        fields.append(f"crop_size: {random.randint(1, min(height, width) + 1)}")
    if random.randint(2):
        fields += [
            f"mean_value: {number(random, 0, 200)}" for _ in range(pick(random, 1, channels))
        ]
    elif mean and (channels, height, width) == (3, 8, 10) and random.randint(2):
        fields.append(data_cases.MEAN)
    return " ".join(fields)


@drawer
def Data(random):
    kind = pick(random, *sorted(PIXELS))
    color = pick(random, "", "force_color: true", "force_gray: true")
    channels = PIXELS[kind][0]
    if kind in ("color", "gray") and color:
        channels = 3 if "color" in color else 1
    elif kind in ("raw", "float"):
        color = ""
    options = f"batch_size: {random.randint(1, 14)} prefetch: {random.randint(1, 6)}"
    tops = pick(random, ("data",), ("data", "label"))
    return data_cases.data(
        kind, f"{_transform(random, channels, *PIXELS[kind][1:])} {color}", options, tops
    ), "TEST"


@drawer
def ImageData(random):
    height, width = 9, 11
    options = f"batch_size: {random.randint(1, 8)} is_color: {flag(random)}"
    if random.randint(2):
        height, width = random.randint(2, 20, 2)
        options += f" new_height: {height} new_width: {width}"
    channels = 3 if "is_color: true" in options else 1
    text = data_cases.images("", _transform(random, channels, height, width, mean=False))
    return text.replace("batch_size: 3", options), "TEST"


@drawer
def WindowData(random):
    pad, batch = random.randint(0, 4), random.randint(2, 9)
    crop = 2 * pad + random.randint(1, 10)
    options = f"context_pad: {pad} " + maybe(
        random, 'crop_mode: "square"', "cache_images: true", f"scale: {number(random, 0.1, 2)}"
    )
    transform = f"crop_size: {crop} "
    if random.randint(2):
        transform += " ".join(f" mean_value: {number(random, 0, 200)}" for _ in range(3))
    elif crop <= 12 and random.randint(2):
        transform += " " + data_cases.LARGE_MEAN
    text = data_cases.windows(options, transform)
    return text.replace(
        "batch_size: 4 fg_fraction: 0.5",
        f"batch_size: {batch} fg_fraction: " + number(random, 0, 1),
    ), pick(random, "TRAIN", "TEST")


@drawer
def HDF5Data(random):
    tops = [str(top) for top in random.permutation(["data", "label", "count"])]
    text = data_cases.hdf5(*tops[: random.randint(1, 4)])
    return (
        text.replace("batch_size: 4", f"batch_size: {random.randint(1, 12)}"),
        pick(random, "TRAIN", "TEST"),
    )


def _shapes(random, count):
    return " ".join(
        "shape { " + " ".join(f"dim: {size}" for size in shape(random, random.randint(1, 6))) + " }"
        for _ in range(count)
    )


@drawer
def DummyData(random):
    tops = ["data", "label", "more"][: random.randint(1, 4)]
    if random.randint(2):
        options = _shapes(random, pick(random, 1, len(tops)))
    else:
        count = pick(random, 1, len(tops))
        options = " ".join(
            f"{side}: {random.randint(1, 6)}"
            for _ in range(count)
            for side in ("num", "channels", "height", "width")
        )
    options += "".join(
        f" data_filler {{ value: {number(random, -9, 9)} }}"
        for _ in range(pick(random, 0, 1, len(tops)))
    )
    return data_cases.dummy(options, tops), pick(random, "TRAIN", "TEST")


@drawer
def Input(random):
    tops = ["data", "label", "more"][: random.randint(1, 4)]
    shapes = _shapes(random, pick(random, 1, len(tops)))
    blobs = " ".join(f'top: "{top}"' for top in tops)
    return f'layer {{ name: "in" type: "Input" {blobs} input_param {{ {shapes} }} }}', "TEST"


@drawer
def MemoryData(random):
    batch, channels, height, width = shape(random, 4)
    return (
        f'layer {{ name: "in" type: "MemoryData" top: "data" top: "label" memory_data_param {{ '
        f"batch_size: {batch} channels: {channels} height: {height} width: {width} }} }}",
        pick(random, "TRAIN", "TEST"),
    )


@drawer
def HDF5Output(random):
    batch = random.randint(1, 5)
    sizes = [[batch, *shape(random, 3)] for _ in range(2)]
    shapes = " ".join(
        "shape { " + " ".join(f"dim: {size}" for size in dims) + " }" for dims in sizes
    )
    return (
        f'layer {{ name: "in" type: "Input" top: "data" top: "label" input_param {{ {shapes} }}'
        ' } layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label" '
        'hdf5_output_param { file_name: "FOLDER/out.h5" } }',
        "TEST",
    )
