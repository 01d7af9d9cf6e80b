"""Data layers of forks, in the TEST phase, where nothing is drawn: what their tops hold.

tests/test_fork_data.py makes the files: a list and a database of 3 images of 12 x 16 pixels. A row
is (type, name, options, definition); the definition makes the tops of the images (3, 3, 12, 16)
and their labels: of each pixel (3, 1, 12, 16), or of AnnotatedData the rows (G, 8) of objects.
"""

import numpy as np

SIZE = (12, 16)


def _listed(type, name, options, definition, transform=""):
    field = {"ImageSegData": "image_data_param", "DenseImageData": "dense_image_data_param"}[type]
    options = f"{field} {{ source: 'FOLDER/list.txt' {options} }}"
    return type, name, f"{options} transform_param {{ {transform} }}", definition


def _annotated(name, transform, definition, source="objects"):
    options = f"data_param {{ source: 'FOLDER/{source}' batch_size: 3 backend: LMDB }}"
    options += f" transform_param {{ {transform} }}"
    return "AnnotatedData", name, options, definition


def _sizes(count, height, width):
    return np.tile(np.float32([height, width]), (count, 1)).reshape(count, 1, 1, 2)


def _middle(values, height, width):
    top, left = (SIZE[0] - height) // 2, (SIZE[1] - width) // 2
    return values[..., top : top + height, left : left + width]


def _below(values, rows, value):
    """`rows` more of them, of one value."""
    return np.pad(values, [(0, 0)] * 2 + [(0, rows), (0, 0)], constant_values=value)


def _objects(rows, edges=(0, 0, 16, 12)):
    """What a window (left, top, right, bottom in pixels) of the images shows of all objects."""
    left, top, right, bottom = edges
    shown = np.copy(rows)
    for column, low, high, size in ((3, left, right, SIZE[1]), (4, top, bottom, SIZE[0])):
        for edge in (column, column + 2):
            shown[:, edge] = np.clip((rows[:, edge] * size - low) / (high - low), 0, 1)
    return shown[None, None]


DATA = [
    _listed(
        "ImageSegData",
        "pixel",
        "batch_size: 2 label_type: PIXEL",
        lambda images, labels: [images[:2], labels[:2], _sizes(2, *SIZE)],
    ),
    _listed(
        "ImageSegData",
        "none",
        "batch_size: 3 ignore_label: 9",
        lambda images, labels: [images, np.full_like(labels, 9)],
    ),
    _listed(
        "ImageSegData",
        "crop",
        "batch_size: 1 label_type: PIXEL",
        lambda images, labels: [
            _middle(images[:1] - 7, 8, 10) * 0.5,
            _middle(labels[:1], 8, 10),
            _sizes(1, 8, 10),
        ],
        "crop_h: 8 crop_w: 10 mean_value: 7 scale: 0.5",
    ),
    _listed(
        "ImageSegData",
        "padded",
        "batch_size: 3 label_type: PIXEL",
        lambda images, labels: [_below(images - 7, 4, 0), _below(labels, 4, 255), _sizes(3, *SIZE)],
        "crop_size: 16 mean_value: 7",
    ),
    _listed("DenseImageData", "plain", "batch_size: 3", lambda images, labels: [images, labels]),
    _listed(
        "DenseImageData",
        "crop",
        "batch_size: 2 crop_height: 6 crop_width: 4",
        lambda images, labels: [_middle(x[:2], 6, 4) for x in (images, labels)],
    ),
    _annotated("plain", "", lambda images, rows: [images, _objects(rows)]),
    _annotated(
        "crop",
        "crop_h: 8 crop_w: 12",
        lambda images, rows: [_middle(images, 8, 12), _objects(rows, (2, 2, 14, 10))],
    ),
    _annotated(
        "resize",
        "resize_param { height: 24 width: 48 interp_mode: NEAREST } mean_value: 3",
        lambda images, rows: [images.repeat(2, 2).repeat(3, 3) - 3, _objects(rows)],
    ),
    _annotated("labels", "", lambda images, rows: [images, np.arange(3)], source="labelled"),
]

REFUSED = [
    ("AnnotatedData", "", [], r"source \(the database's folder\) and batch_size must be given"),
    ("ImageSegData", "", [], "source .the list of images and labels. and batch_size must be given"),
    ("DenseImageData", "", [], "source .the list of images and labels. and batch_size must be"),
]
