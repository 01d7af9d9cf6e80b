"""Small nets, databases and runs that the tests of `relay evaluate` share."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import lmdb
import numpy as np
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from relaybp.evaluation import nets

ROOT = Path(__file__).parent.parent
CLASSES = 7
CROP, STRIDE = 13, 2
HEAD = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { crop_size: 13 mean_value: 100 scale: 0.02 }
        data_param { source: "DATA/train_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 13 mean_value: 100 scale: 0.02 }
        data_param { source: "DATA/val_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 6 kernel_size: 3 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
"""
TAIL = """
layer { name: "fc" type: "InnerProduct" bottom: "BOTTOM" top: "fc"
        inner_product_param { num_output: 7 weight_filler { type: "msra" } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "aux_loss"
        include { phase: TRAIN } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
        include { phase: TEST } }
"""
# what is between the 6 x 6 map and the scores: all windows of that size are positions
TOPS = {
    "fully connected": TAIL.replace("BOTTOM", "conv1"),
    "two": """layer { name: "fc6" type: "InnerProduct" bottom: "conv1" top: "fc6"
        inner_product_param { num_output: 9 weight_filler { type: "msra" } } }
        layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
        layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" }
        """
    + TAIL.replace("BOTTOM", "fc6"),
    "global pooling": """layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool"
        pooling_param { pool: AVE global_pooling: true } }
        """
    + TAIL.replace("BOTTOM", "pool"),
    "pyramid": """layer { name: "spp1" type: "Pooling" bottom: "conv1" top: "spp1"
        pooling_param { pool: MAX kernel_size: 6 stride: 6 } }
        layer { name: "flat1" type: "Flatten" bottom: "spp1" top: "flat1" }
        layer { name: "spp4" type: "Pooling" bottom: "conv1" top: "spp4"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "flat4" type: "Flatten" bottom: "spp4" top: "flat4" }
        layer { name: "spp" type: "Concat" bottom: "flat1" bottom: "flat4" top: "spp" }
        """
    + TAIL.replace("BOTTOM", "spp"),
}


def net_param(top="two", data="data", edit=lambda text: text):
    """The NetParameter of one of TOPS on DATA/val_lmdb; edit: changes its text."""
    text = edit((HEAD + TOPS[top]).replace("DATA", str(data)))
    return text_format.Parse(text, caffe_pb2.NetParameter())


def save_weights(param, path, seed=5, shape=(3, CROP, CROP)):
    """Write a .caffemodel with seeded weights for a net of inputs `shape`; returns its path."""
    layers, _ = nets.prediction_layers(caffe_pb2, param)
    caffe.set_random_seed(seed)
    nets.net_of(caffe, layers, "data", (1, *shape), None).save(str(path))
    return str(path)


def write_database(path, images, labels=None):
    """Write (H, W, 3) images as encoded records 0000, 0001, ..."""
    with (
        lmdb.open(str(path), map_size=1 << 22) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, pixels in enumerate(images):
            label = index % CLASSES if labels is None else labels[index]
            encoded = cv2.imencode(".png", pixels)[1].tobytes()
            datum = caffe_pb2.Datum(label=int(label), encoded=True, data=encoded)
            transaction.put(b"%04d" % index, datum.SerializeToString())


def draw_images(count, height=16, width=20, seed=0):
    """`count` images (H, W, 3) of noise."""
    return np.random.RandomState(seed).randint(0, 255, (count, height, width, 3)).astype(np.uint8)


def make_run(folder, data, top="two", seed=5, edit=lambda text: text, shape=(3, CROP, CROP)):
    """A run's folder with net, solver and snapshot, on the database DATA/val_lmdb."""
    folder.mkdir(parents=True, exist_ok=True)
    param = net_param(top, data, edit)
    (folder / "train_val.prototxt").write_text(text_format.MessageToString(param))
    (folder / "solver.prototxt").write_text(
        f'net: "{folder}/train_val.prototxt" test_iter: 3 test_interval: 1 base_lr: 1'
    )
    save_weights(param, folder / "a_iter_7.caffemodel", seed, shape)
    return folder


def make_data(folder, images, labels=None):
    """A data folder with val_lmdb and classes.txt."""
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"class {k}\n" for k in range(CLASSES)))
    write_database(folder / "val_lmdb", images, labels)
    return folder


def evaluate(*arguments, status=0):
    """Run tools/evaluate.py; returns what it printed, its error where the status is not 0."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "evaluate.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout
