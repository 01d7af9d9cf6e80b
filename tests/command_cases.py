"""Command lines that BVLC Caffe's programs and this project's run on the same files.

Runs under Python 3.9 too: tests/oracle/record_command.py records what the originals print.
"""

import os
import re
import struct

import numpy as np

# Constant data and weights: every engine must print the same numbers.
NET = """
name: "constant"
layer { name: "data" type: "DummyData" top: "data" top: "target" dummy_data_param {
        shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
        data_filler { type: "constant" value: 0.5 } data_filler { value: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        param { lr_mult: 1 } param { lr_mult: 2 }
        inner_product_param { num_output: 2 weight_filler { type: "constant" value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss"
        loss_weight: 0.5 }
layer { name: "extra" type: "Reduction" bottom: "fc" top: "extra" include { stage: "extra" } }
layer { name: "test" type: "Power" bottom: "fc" top: "double" include { phase: TEST }
        power_param { scale: 2 } }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 5
max_iter: 6 momentum: 0.9 weight_decay: 0.01 display: 2 average_loss: 2 snapshot: 4
snapshot_prefix: "snap" test_iter: 2 test_interval: 3 clip_gradients: 1 test_compute_loss: true
"""
DEPLOY = """
name: "deploy"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 10 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 6 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
LABELS = ["n%02d a thing" % i for i in range(6)]
FEATURES = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 3 dim: 2 dim: 2
        dim: 2 } data_filler { value: 1 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
        pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "constant" value: 0.25 }
        bias_filler { type: "constant" value: 3 } } }
"""

# name -> words of the command line, in a folder with the files above
COMMANDS = {
    "train": ["caffe", "train", "-solver", "solver.prototxt"],
    "resume": ["caffe", "train", "--solver=solver.prototxt", "-snapshot=snap_iter_4.solverstate"],
    "finetune": [
        "caffe",
        "train",
        "-solver=solver.prototxt",
        "-weights",
        "snap_iter_4.caffemodel,snap_iter_6.caffemodel",
        "-stage=extra",
    ],
    "test": [
        "caffe",
        "test",
        "-model",
        "net.prototxt",
        "-weights",
        "snap_iter_6.caffemodel",
        "-iterations",
        "2",
    ],
    "time": ["caffe", "time", "--model", "net.prototxt", "--iterations=2"],
    "time_test": ["caffe", "time", "-model", "net.prototxt", "-phase", "TEST", "-iterations", "1"],
    "classification": [
        "classification",
        "deploy.prototxt",
        "deploy.caffemodel",
        "mean.binaryproto",
        "labels.txt",
        "image.png",
    ],
    "extract_features": [
        "extract_features",
        "features.caffemodel",
        "features.prototxt",
        "pool,fc",
        "pool_lmdb,fc_lmdb",
        "2",
        "lmdb",
    ],
}


def write_files(folder, caffe):
    """Everything that COMMANDS read, made with `caffe`."""
    for name, text in (
        ("net.prototxt", NET),
        ("solver.prototxt", SOLVER),
        ("deploy.prototxt", DEPLOY),
        ("features.prototxt", FEATURES),
        ("labels.txt", "\n".join(LABELS) + "\n"),
    ):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    net = caffe.Net(os.path.join(folder, "deploy.prototxt"), caffe.TEST)
    random = np.random.RandomState(2)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.shape) * 0.01
    net.save(os.path.join(folder, "deploy.caffemodel"))
    caffe.Net(os.path.join(folder, "features.prototxt"), caffe.TEST).save(
        os.path.join(folder, "features.caffemodel")
    )
    mean = np.stack([np.full((9, 7), value) for value in (100, 110, 120)])[np.newaxis]
    with open(os.path.join(folder, "mean.binaryproto"), "wb") as file:
        file.write(caffe.io.array_to_blobproto(mean).SerializeToString())
    write_png(os.path.join(folder, "image.png"), image())


def image():
    """A seeded smooth RGB image (H, W, 3) of bytes."""
    y, x = np.mgrid[0:18, 0:14] / 5.0
    planes = [np.sin(x + a) * np.cos(y + 2 * a) for a in range(3)]
    return (np.stack(planes, 2) * 100 + 128).astype(np.uint8)


def write_png(path, pixels):
    """An RGB image (H, W, 3) of bytes as a PNG file, without any image library."""
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    with open(path, "wb") as file:
        file.write(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b"")
        )


def plain(text):
    """[(source file, message)] of log lines, times as T; other lines have the source ""."""
    found = []
    for line in text.splitlines():
        match = re.match(r"[IWEF]\d{4} \S+ +\d+ (\w+)\.[ch]pp:\d+\] (.*)", line)
        source, message = match.groups() if match else ("", line)
        message = re.sub(r"\([^ ]+ iter/s, [^ ]+s/", "(T iter/s, Ts/", message)
        message = re.sub(r"[^ ]+ ms\.", "T ms.", message)
        found.append([source, message])
    return found


def features(folder):
    """{database/key: (shape, values)} of the databases that extract_features wrote."""
    import lmdb

    from caffe.proto import caffe_pb2

    found = {}
    for name in ("pool_lmdb", "fc_lmdb"):
        path = os.path.join(folder, name)
        with lmdb.open(path, readonly=True, lock=False) as database, database.begin() as records:
            for key, value in records.cursor():
                datum = caffe_pb2.Datum.FromString(value)
                found["%s/%s" % (name, key.decode())] = [
                    [datum.channels, datum.height, datum.width],
                    list(datum.float_data),
                ]
    return found
