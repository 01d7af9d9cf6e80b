"""Turn the images of a list file into an LMDB for Caffe's Data layer.

    python data_prep/convert_imageset.py [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME

LISTFILE: one image a line, "subfolder1/file1.jpg 7". The arguments, the keys and the records are
those of the original tool. The same command given again continues a killed run; DB_NAME does not
exist until it is complete. With --shard=I/N each of N commands makes one part, on any machine, and
merge_shards.py joins the parts into DB_NAME.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Callable, Union

import cv2
import numpy as np

from caffe.files.datum import decode_datum
from caffe_plain.class_names import difference, read_class_names
from caffe_plain.cores import usable_cores
from caffe_plain.files import checksum
from caffe_plain.flags import FlagParser
from caffe_plain.images import printable
from relaybp.data_prep.colour_order import BGR, FIELD
from relaybp.data_prep.datum_db import DatumDB, encoded_datum, key_of, key_problem, raw_datum
from relaybp.data_prep.errors import PrepError, run, some
from relaybp.data_prep.image_list import ImageList
from relaybp.data_prep.images import Image, Options, Shape, read_image
from relaybp.data_prep.shards import Shard
from relaybp.data_prep.workers import process_map
from relaybp.progress import Progress

Result = tuple[int, Union[Image, str]]  # a record, and its image or why there is none


def parser() -> FlagParser:
    """The original's flags and arguments, and the new ones."""
    flags = FlagParser(__doc__)
    flags.add_argument("root", metavar="ROOTFOLDER/", help="put before every file name")
    flags.add_argument("list", metavar="LISTFILE")
    flags.add_argument("db", metavar="DB_NAME", help="folder to make")
    flags.flag("gray", False, "store one channel")
    flags.flag("shuffle", False, "shuffle the list (see -seed)")
    flags.flag("backend", "lmdb", "only lmdb, which Data layers read with backend: LMDB")
    flags.flag("resize_width", 0, "resize to this width; needs -resize_height")
    flags.flag("resize_height", 0, "resize to this height; needs -resize_width")
    flags.flag("check_size", False, "every image must have the size of the first")
    flags.flag("encoded", False, "store encoded images instead of pixels")
    flags.flag("encode_type", "", "encode as this (jpg, png, ...); implies -encoded")
    flags.flag("resize_short", 0, "resize the shorter side to this, the longer in proportion")
    flags.flag("workers", usable_cores(), "processes that read images")
    flags.flag("seed", 0, "of -shuffle")
    flags.flag("skip_bad", False, "leave bad records out and list them, instead of stopping")
    flags.flag(
        "keep_damaged",
        False,
        "store what the decoder makes of a damaged JPEG, as the original does",
    )
    flags.flag(
        "keep_exif",
        False,
        "as the original, turn JPEG pixels upright, but neither encoded files nor other formats",
    )
    flags.flag("shard", "", "I/N: only part I (from 0) of N, as DB_NAME.shard-I-of-N")
    flags.flag("classes", "", "file of class names, one a line, in the order of the labels")
    return flags


def convert(
    root: str,
    list_file: str | Path,
    db: str | Path,
    *,
    gray: bool = False,
    shuffle: bool = False,
    resize_width: int = 0,
    resize_height: int = 0,
    resize_short: int = 0,
    check_size: bool = False,
    encoded: bool = False,
    encode_type: str = "",
    workers: int = 1,
    seed: int = 0,
    skip_bad: bool = False,
    keep_damaged: bool = False,
    keep_exif: bool = False,
    classes: str | Path = "",
    shard: str = "",
    say: Callable[[str], None] = lambda line: None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int, str]:
    """Convert as the command does; returns (records written, records left out, their folder).

    watch: told after each image how many are done, and of how many.
    """
    encoding = encode_type if encoded or encode_type else None
    options = Options(
        gray, resize_height, resize_width, resize_short, encoding, keep_damaged, keep_exif
    )
    _check_options(options, workers)
    names = _read_classes(classes, list_file)
    images = ImageList(list_file, names, skip_bad)
    part = Shard.parse(shard, len(images))
    order = np.arange(len(images))
    if shuffle:
        order = np.random.RandomState(seed).permutation(order)  # its stream is frozen by numpy
    settings = {
        "list": checksum(list_file),
        "root": root,
        "shuffle": seed if shuffle else None,
        "check_size": check_size,
        "classes": names,
        **options._asdict(),
        FIELD: BGR,
    }
    del settings["keep_damaged"]  # as skip_bad: up to the first bad record, it changes nothing
    say(f"A total of {part.end - part.start} images.")
    with DatumDB(part.folder(db), {**settings, **part.settings}) as out:
        first = max(out.next_record, part.start)
        if out.next_record:
            say(f"Continuing after {first - part.start} of them.")
        todo = order[first : part.end]
        if not skip_bad:
            _check_files(root, images, todo)
        with closing(_read(root, images, todo, options, workers)) as results:
            checked = _of_one_size(results, _first_shape(out)) if check_size else results
            checked = _watched(checked, first - part.start, part.end - part.start, watch)
            _write(
                out, images, enumerate(checked, first), part, encoding is not None, skip_bad, say
            )
        counts = _finish(out, images, order[part.start : part.end], part, names, say)
        return (*counts, part.folder(db))


def _read(
    root: str, images: ImageList, todo: np.ndarray, options: Options, workers: int
) -> Iterator[Result]:
    """Yield each record of `todo` with its Image, or with the reason why there is none."""
    paths = (_path(root, images.name(record)) for record in todo if images.labels[record] >= 0)
    results = process_map(partial(read_image, options), paths, workers)
    for record in todo:
        yield record, images.problems.get(record) or next(results)


def _of_one_size(results: Iterator[Result], expected: Shape | None) -> Iterator[Result]:
    """`results` with a reason in place of each image whose shape differs from the first."""
    for record, image in results:
        if not isinstance(image, str):
            expected = expected or image.shape
            if image.shape != expected:
                image = _size_problem(image.shape, expected)
        yield record, image


def _watched(
    results: Iterator[Result], done: int, total: int, watch: Callable[[int, int], None]
) -> Iterator[Result]:
    """`results`; after each, `watch` is told."""
    for count, result in enumerate(results, done + 1):
        yield result
        watch(count, total)


def _write(
    out: DatumDB,
    images: ImageList,
    results: Iterable[tuple[int, Result]],
    part: Shard,
    encoded: bool,
    skip_bad: bool,
    say: Callable[[str], None],
) -> None:
    """Put the images into `out`; note or raise the reason where there is none."""
    for position, (record, image) in results:
        where, done = images.where(record), position - part.start
        if not isinstance(image, str):
            image = key_problem(position, images.name(record)) or image
        if not isinstance(image, str):
            label = int(images.labels[record])
            datum = (
                encoded_datum(image.data, label)
                if encoded
                else raw_datum(image.data, image.shape, label, encoded=False)
            )
            out.put(key_of(position, images.name(record)), datum)
        elif skip_bad:
            out.skip(position, where, image)
            say(f"Left out: {where}: {image}")
        else:
            out.flush()
            raise PrepError(
                f"{where}: {image}\n{done} of {part.end - part.start} records before "
                "it are done: correct the file and give the same command again, or add "
                "--skip_bad to leave bad records out, or --keep_damaged for those "
                "that the decoder reads in part"
            )
        if (done + 1) % 1000 == 0:
            say(f"Processed {done + 1} files.")


def _finish(
    out: DatumDB,
    images: ImageList,
    order: np.ndarray,
    part: Shard,
    names: list[str] | None,
    say: Callable[[str], None],
) -> tuple[int, int]:
    """Count the classes and complete the database."""
    skipped = out.skipped()
    good = np.zeros(len(images), dtype=bool)
    good[order] = True
    good[order[[position - part.start for position in skipped]]] = False
    if not good.any():
        where, reason = next(iter(skipped.values()))
        raise PrepError(f"not one of {len(order)} records is good; the first: {where}: {reason}")
    labels = images.labels[good]
    names = names or [str(label) for label in range(labels.max() + 1)]
    lost = sorted(set(images.labels[order].tolist()).difference(labels.tolist(), [-1]))
    if lost:
        shown = [printable(names[k]) if k < len(names) else k for k in lost]
        say(f"Left out: all images of {len(lost)} classes:\n{some(shown)}")
    out.finish(np.bincount(labels, minlength=len(names)).tolist(), names)
    return int(good.sum()), len(skipped)


def _check_options(options: Options, workers: int) -> None:
    width, height, short = options.width, options.height, options.short
    if min(width, height, short) < 0:
        raise PrepError("a size to resize to cannot be negative: 0 means no resizing")
    if bool(width) != bool(height):
        raise PrepError(
            f"-resize_width={width} -resize_height={height}: give both, or "
            "--resize_short for the shorter side"
        )
    if width and short:
        raise PrepError("give either -resize_width and -resize_height, or --resize_short")
    if workers < 1:
        raise PrepError(f"--workers={workers}: expected 1 or more")
    if options.encoding and not cv2.haveImageWriter("." + options.encoding):
        raise PrepError(
            f"-encode_type={options.encoding}: OpenCV cannot encode that; use jpg or png"
        )


def _check_files(root: str, images: ImageList, todo: np.ndarray) -> None:
    """Stop before the work if files are missing, rather than hours into it."""
    missing = [record for record in todo if not os.path.isfile(_path(root, images.name(record)))]
    if missing:
        found = [
            f"{images.where(record)}: {printable(_path(root, images.name(record)))}"
            for record in sorted(missing)[:5]
        ]
        raise PrepError(
            f"{len(missing)} of {len(images)} files are missing:\n"
            f"{some(found)}\ncorrect ROOTFOLDER ({root}) or the list, or leave them "
            "out with --skip_bad"
        )


def _read_classes(path: str | Path, list_file: str | Path) -> list[str] | None:
    """The names in the class file, which the list's own classes must not contradict."""
    if not path:
        return None
    names = read_class_names(path)
    if not names or not all(name.strip() for name in names):
        raise PrepError(f"{path}: expected one class name a line, found an empty line or file")
    own = Path(list_file).with_name("classes.txt")
    differs = own.exists() and difference(read_class_names(own), names)
    if differs:
        raise PrepError(
            f"{list_file} was numbered by the {own} beside it, where {differs} in {path}: make the "
            f"list again with make_list.py --classes={path}"
        )
    return names


def _path(root: str, name: bytes) -> str:
    """ROOTFOLDER and the file name, simply concatenated."""
    return root + ("" if not root or root.endswith("/") else "/") + os.fsdecode(name)


def _first_shape(out: DatumDB) -> Shape | None:
    first = out.first_record()
    return None if first is None else decode_datum(first, "0").shape


def _size_problem(shape: Shape, expected: Shape) -> str:
    return (
        f"-check_size: expected {' x '.join(map(str, expected))} (channels x height x width) "
        f"as the first image, found {' x '.join(map(str, shape))}"
    )


def main(args: list[str] | None = None) -> None:
    options = vars(parser().parse_args(args))
    root, list_file, db = options.pop("root"), options.pop("list"), options.pop("db")
    backend = options.pop("backend")
    if backend != "lmdb":
        raise PrepError(f"-backend={backend}: expected lmdb; let the Data layer say backend: LMDB")
    with Progress(os.path.basename(db), 0, every_s=math.inf) as progress:
        written, skipped, made = convert(
            root, list_file, db, **options, say=progress.say, watch=progress.of
        )
    classes = len(read_class_names(Path(made) / "classes.txt"))
    left_out = f"; {skipped} left out, see {made}/skipped.tsv" if skipped else ""
    print(f"{made}: {written} records, {classes} classes{left_out}")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
