"""Databases of AnnotatedDatums whose objects can be seen: bright rectangles on a dark ground."""

import numpy as np

from caffe.proto import caffe_pb2
from caffe_plain.database import new_database

COLORS = {1: (200, 0, 0), 2: (0, 200, 0), 3: (0, 0, 200)}  # of labels, BGR


def picture(size, objects):
    """(3, H, W) bytes; objects: (label, left, top, right, bottom, difficult) in pixels."""
    image = np.zeros((3, *size), np.uint8)
    for label, left, top, right, bottom, _ in objects:
        image[:, top:bottom, left:right] = np.reshape(COLORS[label], (3, 1, 1))
    return image


def record(size, objects, is_typed=True, label=-1):
    datum = caffe_pb2.AnnotatedDatum()
    image = picture(size, objects)
    datum.datum.MergeFrom(
        caffe_pb2.Datum(channels=3, height=size[0], width=size[1], data=image.tobytes())
    )
    datum.datum.label = label
    if is_typed:
        datum.type = caffe_pb2.AnnotatedDatum.BBOX
    for label, left, top, right, bottom, difficult in objects:
        box = caffe_pb2.NormalizedBBox(
            xmin=left / size[1],
            ymin=top / size[0],
            xmax=right / size[1],
            ymax=bottom / size[0],
            difficult=bool(difficult),
        )
        datum.annotation_group.add(group_label=label).annotation.add(bbox=box)
    return datum


def database(path, records):
    with new_database(path) as put:
        for number, datum in enumerate(records):
            put(b"%08d" % number, datum.SerializeToString())
    return path


def drawn_records(count, seed=0, size=(60, 80)):
    """Images with one object of each of two labels, apart from each other."""
    random, records = np.random.RandomState(seed), []
    for _ in range(count):
        objects = []
        for label, offset in ((1, 0), (2, size[1] // 2)):
            left = offset + random.randint(0, 10)
            top = random.randint(0, 25)
            right, bottom = left + random.randint(12, 25), top + random.randint(15, 30)
            objects.append((label, left, top, right, bottom, label - 1))
        records.append(record(size, objects))
    return records


def seen_box(pixels, label):
    """(xmin, ymin, xmax, ymax) in parts of pixels (3, H, W), of what has the label's color."""
    channel = int(np.argmax(COLORS[label]))
    bright = pixels[channel] > 100
    if not bright.any():
        return None
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    height, width = bright.shape
    return np.array(
        [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
    )
