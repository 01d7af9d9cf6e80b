"""Record what BVLC Caffe's caffe.io computes for the cases below, for tests/test_io.py.

bash ../shared/oracle/run.sh python3 tests/oracle/record_io.py     (writes tests/golden/io.npz)
"""

import os
import tempfile

import numpy as np

# name: (height, width, channels), new size, interpolation order
RESIZE = {
    "shrink": ((40, 50, 3), (16, 23), 1),
    "shrink_gray": ((31, 20, 1), (10, 10), 1),
    "grow": ((9, 7, 3), (20, 25), 1),
    "shrink_one_side": ((30, 12, 3), (12, 30), 1),
    "same": ((8, 8, 3), (8, 8), 1),
    "one_pixel": ((9, 8, 3), (1, 1), 1),
    "nearest": ((12, 10, 3), (32, 24), 0),
    "cubic": ((12, 10, 3), (29, 17), 3),
    "cubic_shrink": ((33, 30, 3), (14, 11), 3),
    "two_channels": ((12, 10, 2), (7, 25), 1),
    "five_channels_shrink": ((20, 30, 5), (9, 7), 1),
    "five_channels_nearest": ((11, 13, 5), (5, 4), 0),
    "five_channels_cubic": ((12, 10, 5), (9, 17), 3),
}

# name: image shape, net input shape, settings of the Transformer
TRANSFORM = {
    "plain": ((12, 10, 3), (1, 12, 10, 3), {}),
    "imagenet": (
        (30, 40, 3),
        (10, 3, 24, 20),
        {
            "transpose": (2, 0, 1),
            "channel_swap": (2, 1, 0),
            "raw_scale": 255,
            "mean": np.array([104.0, 117.0, 123.0]),
        },
    ),
    "pixel_mean": (
        (20, 20, 3),
        (1, 3, 20, 20),
        {"transpose": (2, 0, 1), "raw_scale": 255, "mean": "pixels", "input_scale": 0.017},
    ),
    "mean_of_other_size": (
        (20, 20, 3),
        (1, 3, 20, 20),
        {"transpose": (2, 0, 1), "mean": "larger", "input_scale": 2.0},
    ),
    "gray": ((20, 20, 1), (1, 1, 20, 20), {"transpose": (2, 0, 1), "mean": "plane"}),
}

OVERSAMPLE = {
    "even": ((16, 20, 3), (10, 12)),
    "odd": ((15, 18, 1), (8, 7)),
    "whole": ((6, 5, 2), (6, 5)),
}

# name: shape of the image file, its type and extension, color argument of load_image
LOAD = {
    "png": ((9, 11, 3), np.uint8, "png", True),
    "png_as_gray": ((9, 11, 3), np.uint8, "png", False),
    "gray": ((9, 11), np.uint8, "png", True),
    "gray_as_gray": ((9, 11), np.uint8, "png", False),
    "alpha": ((9, 11, 4), np.uint8, "png", True),
    "deep": ((9, 11), np.uint16, "png", False),
    "jpeg": ((16, 24, 3), np.uint8, "jpg", True),
    "jpeg_gray": ((16, 24), np.uint8, "jpg", True),
}

RNG_SEED = 7


def image(shape):
    """A float image of values outside [0, 1], so that ranges matter."""
    return (np.random.RandomState(RNG_SEED).rand(*shape) * 3 - 1).astype(np.float32)


def mean_of(kind, channels, size):
    """The mean array that a TRANSFORM row names."""
    if not isinstance(kind, str):
        return kind
    rng = np.random.RandomState(RNG_SEED + 1)
    shape = {
        "pixels": (channels,) + size,
        "plane": size,
        "larger": (channels, size[0] + 7, size[1] + 3),
    }[kind]
    return rng.rand(*shape) * 100


def transformer_of(io, case):
    """The Transformer that a TRANSFORM row asks for, made with the module `io`."""
    _, shape, settings = case
    transformer = io.Transformer({"data": shape})
    for name, value in settings.items():
        if name == "mean":
            value = mean_of(value, shape[1], shape[2:])
        getattr(transformer, "set_" + name)("data", value)
    return transformer


def _record_files(record, io, folder):
    import skimage.io

    imread = skimage.io.imread
    # The original calls imread(as_grey=...), which scikit-image renamed to as_gray.
    skimage.io.imread = lambda path, as_grey: imread(path, as_gray=as_grey)
    for name, (shape, kind, extension, color) in LOAD.items():
        pixels = np.random.RandomState(RNG_SEED).rand(*shape) * np.iinfo(kind).max
        path = os.path.join(folder, "image." + extension)
        skimage.io.imsave(path, pixels.astype(kind), check_contrast=False)
        record["load_file/" + name] = np.fromfile(path, np.uint8)
        record["load/" + name] = io.load_image(path, color)


def main():
    import golden
    from caffe import io

    record = {}
    for name, (shape, size, order) in RESIZE.items():
        record["resize/" + name] = io.resize_image(image(shape), size, order)
    for name, case in TRANSFORM.items():
        transformer = transformer_of(io, case)
        blob = transformer.preprocess("data", image(case[0]))
        record["preprocess/" + name] = blob
        if case[0][2] > 1:  # the original's squeeze() loses a single channel and then fails
            record["deprocess/" + name] = transformer.deprocess("data", blob[np.newaxis])
    for name, (shape, crop) in OVERSAMPLE.items():
        record["oversample/" + name] = io.oversample([image(shape), -image(shape)], crop)
    with tempfile.TemporaryDirectory() as folder:
        _record_files(record, io, folder)
    values = image((2, 3, 4))
    blob = io.array_to_blobproto(values, -values)
    record["blobproto"] = np.frombuffer(blob.SerializeToString(), np.uint8)
    record["blobproto_array"] = io.blobproto_to_array(blob)
    record["blobprotovector"] = np.frombuffer(
        io.arraylist_to_blobprotovector_str([values, values[0]]), np.uint8
    )
    for kind in (np.float32, np.uint8):
        datum = io.array_to_datum((values * 50).astype(kind), 5)
        record["datum/" + kind.__name__] = np.frombuffer(datum.SerializeToString(), np.uint8)
        record["datum_array/" + kind.__name__] = io.datum_to_array(datum)
    golden.save_arrays(os.path.join(golden.FOLDER, "io.npz"), **record)


if __name__ == "__main__":
    main()
