"""Make the demo set of detection: drawn shapes with their boxes, in VOC's folders, no download.

    python data_prep/demo_detection.py [FLAGS] OUT

Makes the folder OUT with JPEGImages/, Annotations/, ImageSets/Main/ (trainval.txt, test.txt),
labelmap.prototxt, lists for convert_annoset (trainval.txt, test.txt), test_name_size.txt, and the
databases trainval_lmdb and test_lmdb. On plain or grainy grounds lie one to four circles, squares
and triangles of any colour, which may hide parts of each other. The same seed gives the same set.
If OUT exists, nothing is done.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffe_plain.files import complete_folder
from caffe_plain.flags import FlagParser
from relaybp.data_prep.brushes import Color, any_color
from relaybp.data_prep.convert_annoset import convert
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.images import Options
from relaybp.data_prep.voc import (
    Annotation,
    Object,
    read_label_map,
    write_annotation,
    write_label_map,
)

SHAPES = ("circle", "square", "triangle")
FIRST_SEED = {"trainval": 0, "test": 500_000}  # of an image; seeds a million apart share none
_MOST_HIDDEN = 0.3  # of an object's box, by one other


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("out", metavar="OUT", help="folder to make")
    flags.flag("train", 800, "images to train with")
    flags.flag("test", 200, "images to test with")
    flags.flag("size", 160, "pixels of the longer side of an image")
    flags.flag("seed", 0, "another seed gives another set")
    return flags


def make_demo(
    out: str | Path, train: int = 800, test: int = 200, size: int = 160, seed: int = 0
) -> dict[str, tuple[int, int]]:
    """Make the set; returns {split: (images, objects)}."""
    if not min(train, test) >= 1 or max(train, test) > FIRST_SEED["test"] or size < 32:
        raise PrepError(
            f"--train={train} --test={test} --size={size}: expected 1 to 500000 images, of 32 "
            "pixels or more"
        )
    counts = {}
    with complete_folder(out) as folder:
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (folder / name).mkdir(parents=True)
        write_label_map(folder / "labelmap.prototxt", list(SHAPES))
        for split, number in (("trainval", train), ("test", test)):
            _draw_split(folder, split, number, size, seed * 1_000_000 + FIRST_SEED[split])
            counts[split] = convert(
                str(folder),
                folder / f"{split}.txt",
                folder / f"{split}_lmdb",
                read_label_map(folder / "labelmap.prototxt"),
                Options(False, 0, 0, 0, "", keep_damaged=False),
            )
    return counts


def _draw_split(folder: Path, split: str, number: int, size: int, first_seed: int) -> None:
    names, sizes = [], []
    for index in range(number):
        name = f"{split}_{index:06d}"
        image, objects = draw(np.random.RandomState((first_seed + index) % 2**32), size)
        file = f"JPEGImages/{name}.jpg"
        (folder / file).write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
        write_annotation(
            folder / f"Annotations/{name}.xml", f"{name}.jpg", Annotation(image.shape[:2], objects)
        )
        names.append(name)
        sizes.append(image.shape[:2])
    lines = [f"JPEGImages/{name}.jpg Annotations/{name}.xml\n" for name in names]
    (folder / f"{split}.txt").write_text("".join(lines))
    (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / f"{split}_name_size.txt").write_text(
        "".join(f"{name} {h} {w}\n" for name, (h, w) in zip(names, sizes, strict=True))
    )


def draw(rng: np.random.RandomState, size: int) -> tuple[np.ndarray, list[Object]]:
    """An image (H, W, 3) and its objects, the last of which lies on top."""
    height, width = (size, round(size * rng.uniform(0.7, 1)))[:: 1 if rng.rand() < 0.5 else -1]
    image = np.full((height, width, 3), any_color(rng), np.float32)
    image += rng.normal(0, rng.uniform(0, 12), image.shape)
    objects: list[Object] = []
    for _ in range(rng.randint(1, 5)):
        side = rng.uniform(0.15, 0.5) * min(height, width)
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        name = SHAPES[rng.randint(len(SHAPES))]
        box = tuple(map(float, np.rint([left, top, left + side, top + side])))
        if any(_hidden(other.box, box) > _MOST_HIDDEN for other in objects):
            continue
        _paint(image, name, box, any_color(rng))
        objects.append(Object(name, box, difficult=side < 0.18 * min(height, width)))
    return image.clip(0, 255).astype(np.uint8), objects


def _hidden(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The share of `box` that lies under `other`."""
    across = min(box[2], other[2]) - max(box[0], other[0])
    down = min(box[3], other[3]) - max(box[1], other[1])
    return max(across, 0) * max(down, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def _paint(image: np.ndarray, name: str, box: tuple[float, ...], color: Color) -> None:
    left, top, right, bottom = map(int, box)
    if name == "square":
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), color, -1)
    elif name == "circle":
        middle, half = ((left + right) // 2, (top + bottom) // 2), (right - left) // 2
        cv2.circle(image, middle, half, color, -1, cv2.LINE_AA)
    else:
        corners = [((left + right) // 2, top), (right - 1, bottom - 1), (left, bottom - 1)]
        cv2.fillPoly(image, [np.array(corners)], color, cv2.LINE_AA)


def main(args: list[str] | None = None) -> None:
    options = vars(parser().parse_args(args))
    out = options["out"]
    if (Path(out) / "test_lmdb").is_dir():
        print(f"{out} stands already")
        return
    for split, (images, objects) in make_demo(**options).items():
        print(f"{out}/{split}_lmdb: {images} images, {objects} objects")


if __name__ == "__main__":
    run(main)
