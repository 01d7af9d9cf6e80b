"""Data layers of forks: the rows of tests/catalogue_cases/fork_data.py against their definition."""

import cv2
import numpy as np
import pytest

import caffe
from annotated import database, record
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2
from catalogue_cases.fork_data import DATA, SIZE

BOXES = [  # label, left, top, right, bottom, difficult: an image has those of its number
    [(1, 3, 1, 9, 7, 0)],
    [(2, 4, 4, 12, 11, 1), (1, 0, 0, 5, 6, 0)],
    [(3, 1, 1, 15, 11, 0)],
]


def images():
    random = np.random.RandomState(4)
    return random.randint(0, 256, (3, 3, *SIZE)), random.randint(0, 20, (3, 1, *SIZE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, (pixels, labels) = tmp_path_factory.mktemp("data"), images()
    typed, untyped, lines = [], [], []
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        cv2.imwrite(f"{folder}/{i}.png", image.transpose(1, 2, 0))
        cv2.imwrite(f"{folder}/{i}_labels.png", label[0])
        lines.append(f"{folder}/{i}.png {folder}/{i}_labels.png\n")
        for made, one in ((typed, record(SIZE, BOXES[i])), (untyped, record(SIZE, [], False, i))):
            one.datum.data = image.astype(np.uint8).tobytes()
            made.append(one)
    (folder / "list.txt").write_text("".join(lines))
    database(folder / "objects", typed)
    database(folder / "labelled", untyped)
    return folder


def rows_of_objects():
    """Rows (image, label, instance, xmin, ymin, xmax, ymax, difficult)."""
    (height, width), rows = SIZE, []
    for image, boxes in enumerate(BOXES):
        for label, left, top, right, bottom, difficult in boxes:
            box = [left / width, top / height, right / width, bottom / height]
            rows.append([image, label, 0, *box, difficult])
    return np.array(rows)


@pytest.mark.parametrize(
    "type, name, options, definition", DATA, ids=[f"{type}/{name}" for type, name, _, _ in DATA]
)
def test_tops_hold_what_the_definition_says(folder, type, name, options, definition):
    pixels, labels = images()
    expected = definition(pixels, rows_of_objects() if type == "AnnotatedData" else labels)
    tops = " ".join(f'top: "top{i}"' for i in range(len(expected)))
    options = options.replace("FOLDER", str(folder))
    text = f'layer {{ name: "layer" type: "{type}" {tops} {options} }}'
    net = caffe.Net(parse_text(text, caffe_pb2.NetParameter()), caffe.TEST)
    net.forward()
    for i, values in enumerate(expected):
        np.testing.assert_allclose(net.blobs[f"top{i}"].data, values, rtol=1e-5, atol=1e-5)
