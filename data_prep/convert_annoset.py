"""Turn images and their VOC annotations into a database for AnnotatedData layers.

    python data_prep/convert_annoset.py [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME

LISTFILE: an image and its annotation a line, "JPEGImages/1.jpg Annotations/1.xml". The arguments
and the records are those of SSD's tool; DB_NAME does not exist until it is complete. The same
command given again continues the LMDB of a killed run, and starts a LevelDB over. The images are
stored as files, unless -encoded=false says as pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np

from caffe.proto import caffe_pb2
from caffe_plain.class_names import without_mark
from caffe_plain.cores import usable_cores
from caffe_plain.database import new_database
from caffe_plain.errors import nearest
from caffe_plain.files import checksum
from caffe_plain.flags import FlagParser
from relaybp.data_prep.datum_db import key_of
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.growing_db import GrowingDB
from relaybp.data_prep.images import Image, Options, read_image
from relaybp.data_prep.voc import Annotation, read_annotation, read_label_map
from relaybp.data_prep.workers import process_map


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("root", metavar="ROOTFOLDER/", help="put before every file name")
    flags.add_argument("list", metavar="LISTFILE")
    flags.add_argument("db", metavar="DB_NAME", help="folder to make")
    flags.flag("label_map_file", "", "the labels of the names, as SSD's labelmap_voc.prototxt")
    flags.flag("anno_type", "detection", "only detection")
    flags.flag("label_type", "xml", "only xml, of PASCAL VOC")
    flags.flag("backend", "lmdb", "lmdb or leveldb")
    flags.flag("gray", False, "store one channel")
    flags.flag("shuffle", False, "shuffle the list (see -seed)")
    flags.flag("resize_width", 0, "resize to this width; needs -resize_height")
    flags.flag("resize_height", 0, "resize to this height; needs -resize_width")
    flags.flag("min_dim", 0, "resize the shorter side to this, the longer in proportion")
    flags.flag("encoded", True, "store encoded images instead of pixels")
    flags.flag("encode_type", "", "encode as this (jpg, png, ...)")
    flags.flag("workers", usable_cores(), "processes that read images")
    flags.flag("seed", 0, "of -shuffle")
    return flags


def convert(
    root: str,
    list_file: str | Path,
    db: str | Path,
    label_map: dict[str, int],
    options: Options,
    backend: str = "lmdb",
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 1,
) -> tuple[int, int]:
    """Convert as the command does; returns how many images and objects the database has."""
    lines = read_list(list_file)
    if shuffle:
        order = np.random.RandomState(seed).permutation(len(lines))
        lines = [lines[index] for index in order]
    settings = {
        "list": checksum(list_file),
        "root": root,
        "shuffle": seed if shuffle else None,
        "label_map": label_map,
        **options._asdict(),
    }
    with _writer(db, backend, settings, len(lines)) as (first, put):
        files = [[os.path.join(root, name) for name in line] for line in lines]
        count = sum(len(read_annotation(path).objects) for _, path in files[:first])
        images = process_map(
            partial(read_image, options), (image for image, _ in files[first:]), workers
        )
        for number, image in enumerate(images, first):
            path, annotation = files[number]
            if isinstance(image, str):
                raise PrepError(f"{list_file}: {path}: {image}")
            datum = annotated(image, annotation, label_map, options)
            put(key_of(number, os.fsencode(lines[number][0])), datum.SerializeToString())
            count += sum(len(group.annotation) for group in datum.annotation_group)
    return len(lines), count


@contextmanager
def _writer(
    db: str | Path, backend: str, settings: dict[str, Any], expected: int
) -> Iterator[tuple[int, Callable[[bytes, bytes], object]]]:
    """(how many records are there from an earlier run, put(key, record)); completes the database.

    A PrepError leaves an LMDB of what came before it.
    """
    if backend != "lmdb":
        with new_database(db, backend) as put:
            yield 0, put
        return
    with GrowingDB(db, settings) as out:
        try:
            yield out.next_record, out.put
        except PrepError:
            out.flush()
            raise
        out.complete(expected)


def read_list(path: str | Path) -> list[tuple[str, str]]:
    """(image, annotation) of each line; names have no blanks, as in SSD's lists."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PrepError(f"cannot read the list file {path}: {error.strerror}") from None
    found = []
    for number, line in enumerate(os.fsdecode(without_mark(data, path)).splitlines(), 1):
        parts = line.split()
        if len(parts) not in (0, 2):
            raise PrepError(f"{path}, line {number}: expected 'IMAGE ANNOTATION'; found {line!r}")
        if parts:
            found.append((parts[0], parts[1]))
    if not found:
        raise PrepError(f"{path}: no images in this list: expected lines 'IMAGE ANNOTATION'")
    return found


def annotated(
    image: Image, path: str, label_map: dict[str, int], options: Options
) -> caffe_pb2.AnnotatedDatum:
    """The record of an image whose annotation is the file `path`."""
    datum = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    datum.datum.data, datum.datum.label = image.data, -1
    datum.datum.encoded = options.encoding is not None
    datum.datum.channels, datum.datum.height, datum.datum.width = image.shape
    resizes = bool(options.height or options.short)
    size = image.shape[1:]
    annotation = read_annotation(path)
    if all(annotation.size) and not resizes and annotation.size != size:
        raise PrepError(
            f"{path}: says height and width {annotation.size}, the image has {size}: correct it"
        )
    for label, instance, box in _boxes(annotation, path, label_map, size):
        _group(datum, label).annotation.add(instance_id=instance, bbox=box)
    return datum


def _boxes(
    annotation: Annotation, path: str, label_map: dict[str, int], size: tuple[int, ...]
) -> Iterator[tuple[int, int, caffe_pb2.NormalizedBBox]]:
    """(label, number of that label in the image, box in parts of the image) of each object."""
    height, width = annotation.size if all(annotation.size) else size
    counts: dict[int, int] = {}
    for one in annotation.objects:
        if one.name not in label_map:
            raise PrepError(
                f"{path}: object {one.name!r} is not in the label map; "
                + nearest(one.name, label_map)
            )
        xmin, ymin, xmax, ymax = one.box
        if not (0 <= xmin <= xmax <= width and 0 <= ymin <= ymax <= height):
            raise PrepError(
                f"{path}: object {one.name!r}: box {one.box} does not lie in the image of height "
                f"and width {(height, width)}"
            )
        label = label_map[one.name]
        counts[label] = counts.get(label, -1) + 1
        yield (
            label,
            counts[label],
            caffe_pb2.NormalizedBBox(
                xmin=xmin / width,
                ymin=ymin / height,
                xmax=xmax / width,
                ymax=ymax / height,
                difficult=one.difficult,
            ),
        )


def _group(datum: caffe_pb2.AnnotatedDatum, label: int) -> caffe_pb2.AnnotationGroup:
    """The group of a label, made where there is none."""
    for group in datum.annotation_group:
        if group.group_label == label:
            return group
    return datum.annotation_group.add(group_label=label)


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    if options.anno_type != "detection" or options.label_type != "xml":
        raise PrepError("only -anno_type=detection with -label_type=xml can be converted")
    if not options.label_map_file:
        raise PrepError("give -label_map_file, which says the label of each name")
    if bool(options.resize_width) != bool(options.resize_height):
        raise PrepError("give both -resize_width and -resize_height, or --min_dim")
    wanted = Options(
        options.gray,
        options.resize_height,
        options.resize_width,
        options.min_dim,
        options.encode_type if options.encoded or options.encode_type else None,
        keep_damaged=False,
    )
    images, objects = convert(
        options.root,
        options.list,
        options.db,
        read_label_map(options.label_map_file),
        wanted,
        options.backend,
        options.shuffle,
        options.seed,
        options.workers,
    )
    print(f"{options.db}: {images} images, {objects} objects")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
