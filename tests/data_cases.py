"""Files and nets for tests/test_data_layers.py, which BVLC Caffe's Python reads, too.

Every case is deterministic: no shuffling, no mirroring, crops only in the TEST phase.
"""

import os
import struct
import zlib

import h5py
import lmdb
import numpy as np

CLASSES = 7
WINDOWS = [(5, 0.9, 2, 1, 9, 8), (3, 0.1, 0, 4, 6, 8)]  # foreground, background


def pixels(shape, seed=0):
    """Random uint8 pixels."""
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def png(image):
    """The PNG file of an image (H, W) or (H, W, 3) in RGB order: lossless, so any reader agrees."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(
        ">IIBBBBB", image.shape[1], image.shape[0], 8, 0 if image.ndim == 2 else 2, 0, 0, 0
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def datum(pb, kind, index):
    """Record `index` of the LMDB of that kind."""
    record = pb.Datum(label=index % CLASSES)
    if kind in ("raw", "float"):
        record.channels, record.height, record.width = 3, 8, 10
        values = pixels((3, 8, 10), index)
        if kind == "raw":
            record.data = values.tobytes()
        else:
            record.float_data.extend((values / 7.0 - 9).astype(np.float32).ravel())
        return record
    shape = {"color": (8, 10, 3), "gray": (8, 10), "sizes": (8 + index % 3, 10 + index % 2, 3)}
    record.encoded, record.data = True, png(pixels(shape[kind], index))
    return record


def write_lmdb(path, records):
    """An LMDB of serialized records under the keys that convert_imageset gives."""
    with lmdb.open(path, map_size=1 << 24) as environment, environment.begin(write=True) as db:
        for index, record in enumerate(records):
            db.put(b"%08d" % index, record)


def write_mean(pb, path, shape):
    mean = pb.BlobProto(data=np.random.RandomState(5).uniform(0, 255, shape).ravel())
    mean.num, mean.channels, mean.height, mean.width = (1, *shape)
    with open(path, "wb") as file:
        file.write(mean.SerializeToString())


def write_files(pb, folder):
    """All files that the nets below read; `pb` is caffe.proto.caffe_pb2."""
    for kind in ("raw", "float", "color", "gray", "sizes"):
        write_lmdb(
            os.path.join(folder, kind), [datum(pb, kind, i).SerializeToString() for i in range(10)]
        )
    write_mean(pb, os.path.join(folder, "mean.binaryproto"), (3, 8, 10))
    write_mean(pb, os.path.join(folder, "large_mean.binaryproto"), (3, 12, 12))
    lines = []
    for index in range(5):
        with open(os.path.join(folder, f"{index} .png"), "wb") as file:
            file.write(png(pixels((9, 11, 3) if index else (9, 11), index)))
        lines.append(f"{index} .png {index * 3 - 1}\n")
    write_text(folder, "images.txt", "".join(lines))
    for name, rows in (("a", 3), ("b", 4)):
        with h5py.File(os.path.join(folder, f"{name}.h5"), "w") as file:
            random = np.random.RandomState(rows)
            file["data"] = random.normal(size=(rows, 2, 3, 2)).astype(np.float32)
            file["label"] = random.normal(size=(rows, 1))
            file["count"] = random.randint(0, 99, rows)
    write_text(folder, "hdf5.txt", "".join(os.path.join(folder, f"{n}.h5\n") for n in "ab"))
    with open(os.path.join(folder, "window.png"), "wb") as file:
        file.write(png(pixels((9, 11, 3))))
    window_lines = ["# 0", "window.png", "3", "9", "11", "2"]
    window_lines += [" ".join(map(str, window)) for window in WINDOWS]
    write_text(folder, "windows.txt", "\n".join(window_lines) + "\n")


def write_text(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def data(kind, transform="", options="batch_size: 4", tops=("data", "label")):
    return _layer(
        "Data",
        tops,
        f'data_param {{ source: "FOLDER/{kind}" backend: LMDB {options} }} '
        f"transform_param {{ {transform} }}",
    )


def images(options="", transform=""):
    return _layer(
        "ImageData",
        ("data", "label"),
        'image_data_param { source: "FOLDER/images.txt" root_folder: "FOLDER/" '
        f"batch_size: 3 {options} }} transform_param {{ {transform} }}",
    )


def windows(options="", transform="crop_size: 6"):
    return _layer(
        "WindowData",
        ("data", "label"),
        'window_data_param { source: "FOLDER/windows.txt" root_folder: "FOLDER/" '
        f"batch_size: 4 fg_fraction: 0.5 {options} }} transform_param {{ {transform} }}",
    )


def hdf5(*tops):
    return _layer("HDF5Data", tops, 'hdf5_data_param { source: "FOLDER/hdf5.txt" batch_size: 4 }')


def dummy(options, tops=("data",)):
    return _layer("DummyData", tops, f"dummy_data_param {{ {options} }}")


def _layer(type, tops, options):
    return (
        f'layer {{ name: "source" type: "{type}" '
        + " ".join(f'top: "{top}"' for top in tops)
        + f" {options} }}"
    )


MEAN = 'mean_file: "FOLDER/mean.binaryproto"'
LARGE_MEAN = 'mean_file: "FOLDER/large_mean.binaryproto"'

# name: (the net, its phase); FOLDER stands for the folder of write_files
CASES = {
    "raw": (data("raw"), "TEST"),
    "raw_train": (data("raw"), "TRAIN"),
    "raw_without_labels": (data("raw", tops=("data",)), "TEST"),
    "raw_large_batch": (data("raw", options="batch_size: 13"), "TEST"),
    "float": (data("float"), "TEST"),
    "color": (data("color"), "TEST"),
    "gray": (data("gray"), "TEST"),
    "gray_to_color": (data("gray", "force_color: true"), "TEST"),
    "color_to_gray": (data("color", "force_gray: true"), "TEST"),
    "scale": (data("raw", "scale: 0.00390625"), "TEST"),
    "mean_value": (data("raw", "mean_value: 120"), "TEST"),
    "mean_values": (data("color", "mean_value: 104 mean_value: 117.5 mean_value: 123"), "TEST"),
    "mean_file": (data("raw", MEAN + " scale: 0.5"), "TRAIN"),
    "crop": (data("raw", "crop_size: 5"), "TEST"),
    "crop_even": (data("color", "crop_size: 6"), "TEST"),
    "crop_mean_file": (data("raw", f"crop_size: 5 {MEAN} scale: 2"), "TEST"),
    "crop_mean_values": (
        data("float", "crop_size: 7 mean_value: 1 mean_value: 2 mean_value: 3"),
        "TEST",
    ),
    "crop_of_sizes": (data("sizes", "crop_size: 7"), "TEST"),
    "sizes_one_by_one": (data("sizes", options="batch_size: 1"), "TEST"),
    "images": (images(), "TEST"),
    "images_gray": (images("is_color: false"), "TEST"),
    "images_resized": (images("new_height: 7 new_width: 6"), "TRAIN"),
    "images_enlarged": (images("new_height: 20 new_width: 31", "crop_size: 8 scale: 0.1"), "TEST"),
    "images_mean_values": (images("", "mean_value: 1 mean_value: 2 mean_value: 3"), "TRAIN"),
    "images_crop": (images("", "crop_size: 6"), "TEST"),
    "windows": (windows(), "TRAIN"),
    "windows_padded": (windows("context_pad: 1", "crop_size: 9"), "TRAIN"),
    "windows_padded_2": (windows("context_pad: 2", "crop_size: 8"), "TRAIN"),
    "windows_square": (windows('crop_mode: "square"'), "TRAIN"),
    "windows_square_padded": (
        windows('crop_mode: "square" context_pad: 2', "crop_size: 11"),
        "TRAIN",
    ),
    "windows_cached": (windows("cache_images: true"), "TRAIN"),
    "windows_mean_values": (
        windows("context_pad: 2", "crop_size: 9 mean_value: 10 mean_value: 20 mean_value: 30"),
        "TRAIN",
    ),
    "windows_mean_file": (
        windows("context_pad: 1 scale: 0.5", "crop_size: 9 " + LARGE_MEAN),
        "TRAIN",
    ),
    "hdf5": (hdf5("data", "label"), "TRAIN"),
    "hdf5_other_tops": (hdf5("count", "data"), "TEST"),
    "dummy_zeros": (dummy("shape { dim: 2 dim: 3 }"), "TRAIN"),
    "dummy_constants": (
        dummy(
            "shape { dim: 2 } shape { dim: 1 dim: 2 } data_filler { value: 3 } "
            "data_filler { value: -1 }",
            ("data", "label"),
        ),
        "TRAIN",
    ),
    "dummy_old_form": (
        dummy("num: 2 channels: 1 height: 3 width: 2 data_filler { value: 7 }", ("data", "label")),
        "TEST",
    ),
}


def make_net(caffe, folder, text, phase="TRAIN"):
    """The net of `text`, in which FOLDER stands for `folder`."""
    write_text(folder, "net.prototxt", text.replace("FOLDER", folder))
    return caffe.Net(os.path.join(folder, "net.prototxt"), getattr(caffe, phase))


def forwards(net, count=4):
    """[{top: values}] of `count` forwards."""
    return [{top: values.copy() for top, values in net.forward().items()} for _ in range(count)]


def run(caffe, name, folder):
    """[{top: values}] of some forwards of the case `name`."""
    return forwards(make_net(caffe, folder, *CASES[name]))


HDF5_OUTPUT = """
    layer { name: "data" type: "Input" top: "data" top: "label"
            input_param { shape { dim: 3 dim: 2 dim: 1 dim: 2 } shape { dim: 3 } } }
    layer { name: "out" type: "HDF5Output" bottom: "data" bottom: "label"
            hdf5_output_param { file_name: "FOLDER/out.h5" } }"""


def run_hdf5_output(caffe, folder):
    """{dataset: values} of what HDF5Output writes in one forward."""
    net = make_net(caffe, folder, HDF5_OUTPUT, "TEST")
    net.blobs["data"].data[...] = np.arange(12).reshape(3, 2, 1, 2)
    net.blobs["label"].data[...] = [5, 6, 7]
    net.forward()
    del net  # BVLC Caffe closes the file only now
    with h5py.File(os.path.join(folder, "out.h5"), "r") as file:
        return {name: file[name][...] for name in file}
