"""A data folder as data_prep/README.md describes it, of a few records of several sizes."""

import numpy as np

from caffe.proto import caffe_pb2
from relaybp.data_prep.compute_image_mean import write_mean
from tests import scene_cases

SIZES = ((256, 300), (310, 256), (256, 256))  # height, width of the record of each class
MEANS = [104.5, 117.25, 123.125]


def write_folder(folder):
    """One record of each class, to train and to validate with, and a mean of 224 x 224."""
    folder.mkdir(parents=True)
    pixels = [scene_cases.picture(k, *size) for k, size in enumerate(SIZES)]
    records = [scene_cases.raw(caffe_pb2, each, k) for k, each in enumerate(pixels)]
    for name in ("train_lmdb", "val_lmdb"):
        scene_cases.write_lmdb(folder / name, records)
    rows = np.linspace(-1, 1, 224)[:, None] + np.zeros(224)  # around 0
    write_mean(folder / "mean.binaryproto", np.reshape(MEANS, (3, 1, 1)) + rows)
    (folder / "color.txt").write_text("0.2 1 0 0\n0.1 0 1 0\n0.05 0 0 1\n")
    (folder / "classes.txt").write_text("one\ntwo\nthree\n")
    return folder
