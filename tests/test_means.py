"""Which mean the data layers of a net subtract."""

import numpy as np
import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from relaybp.data_layers import as_scene, data_layers
from relaybp.data_prep.small_images import write_set
from relaybp.means import fit_means

LAYER = """
layer {{ name: "{name}" type: "Data" top: "{name}" top: "label" include {{ phase: {phase} }}
        data_param {{ source: "{source}_lmdb" }}
        transform_param {{ crop_size: 16 mean_file: "{folder}/mean.binaryproto" }} }}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two data sets with a mean image: of "mixed" the images to validate with are larger."""
    monkeypatch.chdir(tmp_path)
    for name, side in (("even", 24), ("mixed", 32)):
        splits = {
            "train": [(images(24, 90), np.zeros(4, int))],
            "val": [(images(side, 30), np.zeros(4, int))],
        }
        write_set(name, splits, ["thing"], lmdb=True)
    return tmp_path


def images(side, level):
    """Four images whose channels are level, level + 1 and level + 2."""
    return np.full((4, 3, side, side), np.arange(level, level + 3)[:, None, None], np.uint8)


def net_of(*names):
    text = "".join(
        LAYER.format(name=name, phase=phase, folder=name, source=f"{name}/{split}")
        for name in names
        for phase, split in (("TRAIN", "train"), ("TEST", "val"))
    )
    return text_format.Parse(text, caffe_pb2.NetParameter())


def means(net):
    """What each data layer subtracts: a file, or values."""
    layers = data_layers(net.layer)
    return [layer.get("mean_file") or [*layer.get("mean_value")] for layer in layers]


def test_training_and_test_of_a_blob_change_together_and_other_blobs_stay(folder):
    net = net_of("even", "mixed")
    (note,) = fit_means(caffe_pb2, net, None)
    assert means(net) == [*2 * ["even/mean.binaryproto"], *2 * [[90, 91, 92]]]
    assert note == (
        "Layer 'mixed': mixed/val_lmdb has images of 32 x 32 pixels, mixed/mean.binaryproto of "
        "24 x 24: 'mixed' is less the mean of each channel"
    )


def test_where_the_image_fits_nothing_changes(folder):
    net = net_of("even")
    assert fit_means(caffe_pb2, net, 20) == []
    assert net == net_of("even")


def test_a_crop_of_scenedata_that_changes_is_tested_with_the_same_mean(folder):
    net = net_of("even")
    as_scene(net.layer[0])
    assert fit_means(caffe_pb2, net, None) == [] and means(net) == 2 * ["even/mean.binaryproto"]
    assert fit_means(caffe_pb2, net, 24) == [] and means(net) == 2 * ["even/mean.binaryproto"]
    assert fit_means(caffe_pb2, net, 20) == [] and means(net) == 2 * [[90, 91, 92]]
