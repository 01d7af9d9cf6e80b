"""Databases and nets for the tests of the SceneData layer; BVLC Caffe's Python reads this, too."""

import os

import lmdb
import numpy as np

CLASSES = 5


def picture(index, height=12, width=14):
    """Record `index` as (3, H, W) uint8: no two pixels of a set are alike for long."""
    return np.random.RandomState(index).randint(0, 256, (3, height, width)).astype(np.uint8)


def label(index):
    """Classes of unequal sizes."""
    return min(index % 7, CLASSES - 1)


def write_lmdb(path, records):
    """An LMDB of serialized Datums under the keys that convert_imageset gives."""
    with (
        lmdb.open(str(path), map_size=1 << 26) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index, record in enumerate(records):
            transaction.put(b"%08d_%d.jpg" % (index, index), record)
    return str(path)


def raw(pb, pixels, label):
    datum = pb.Datum(data=pixels.tobytes(), label=label)
    datum.channels, datum.height, datum.width = pixels.shape
    return datum.SerializeToString()


def encoded(pb, data, label):
    return pb.Datum(data=data, label=label, encoded=True).SerializeToString()


def raw_lmdb(pb, path, count=30):
    """`count` raw pictures of 12 x 14."""
    return write_lmdb(path, [raw(pb, picture(k), label(k)) for k in range(count)])


def layer(source, options, tops=("data", "label")):
    return (
        'layer { name: "data" type: "Python" '
        + " ".join('top: "%s"' % top for top in tops)
        + ' python_param { module: "relaybp.layers.scene_data" layer: "SceneData" param_str: '
        + "'source: \"%s\" %s' } }" % (source, options)
    )


def make_net(caffe, folder, text, phase="TRAIN"):
    path = os.path.join(str(folder), "net.prototxt")
    with open(path, "w") as file:
        file.write(text)
    return caffe.Net(path, getattr(caffe, phase))


def forwards(net, count):
    """[{top: values}] of `count` forwards."""
    return [{top: values.copy() for top, values in net.forward().items()} for _ in range(count)]
