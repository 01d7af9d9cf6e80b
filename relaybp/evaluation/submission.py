"""Answers for a test set without labels, in the format of the ILSVRC challenge.

A line an image, in the order of the images: its five likeliest classes, the likeliest first, as the
challenge's numbers, which start at 1. ILSVRC 2012 numbers its classes in an order of its own
(ILSVRC2012_ID in the development kit), not in the alphabetical order of Caffe's labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import numpy as np

from caffe_plain.class_names import without_mark
from caffe_plain.database import count_records, data_file
from caffe_plain.files import write_atomically
from caffe_plain.images import printable
from caffe_plain.snapshots import newest_weights

from ..data_prep.archives import is_archive
from ..data_prep.colour_order import check_colour_orders
from ..data_prep.image_tree import ImageTree
from ..data_prep.imagenet_labels import read_truth
from ..errors import RelayError
from .identity import class_names, net_of_run
from .photos import prepare
from .preparation import of_database
from .results import Member
from .scoring import Tester
from .validation_set import Feed, Record, read, test_feed

ANSWERS = 5  # an image
SYNSET = re.compile(r"n[0-9]{8}\b")


def write(
    engine: Any,
    members: Sequence[Member],
    images: str,
    path: str,
    ids: str | None = None,
    gpu: str = "auto",
    say: Callable[[str], None] = print,
) -> str:
    """Write the answers of the members' mean scores to `path`; returns a line that says so.

    images: a folder (its images in the order of their names), a list file (a path a line, relative
    to the list; a label behind it is ignored), or an LMDB (in the order of its keys). Files are
    prepared as the records of the run's validation database were. ids: see `numbers_of`. say: told
    what of a folder is left out.
    """
    engine.use_device(gpu)
    is_database = os.path.isdir(images) and os.path.isfile(data_file(images))
    files = None if is_database else list_images(images, say)
    mean = np.mean([_scores(engine, member, images, files) for member in members], 0)
    if not np.isfinite(mean).all():
        raise RelayError(f"{', '.join(m.run for m in members)}: scores that are not finite")
    feed = test_feed(net_of_run(engine.pb, members[0].run))
    numbers = numbers_of(class_names(feed), mean.shape[1], ids)
    best = np.argsort(-mean, axis=1, kind="stable")[:, :ANSWERS]
    lines = [" ".join(str(numbers[label]) for label in row) for row in best.tolist()]
    write_atomically(path, "\n".join(lines) + "\n")
    return f"{path}: {best.shape[1]} classes for each of {len(lines)} images of {images}"


def numbers_of(names: Sequence[str], classes: int, path: str | None) -> list[int]:
    """The challenge's number of each label; names: of the classes.

    path: ImageNet's development kit, which knows the numbers of the synsets in `names`, or a file
    with one number a line. Without either it is the label plus one; where the names are synsets
    that would be wrong, and is an error.
    """
    if path is None:
        if names and SYNSET.match(names[0]):
            raise RelayError(
                f"the classes are ImageNet's synsets ({names[0]}, ...), which the challenge "
                "numbers in another order: give the development kit with --ids"
            )
        return list(range(1, classes + 1))
    words = _numbers_in(path, names)
    found = sum(word.isdecimal() for word in words)
    if found != classes or len(words) != classes:
        raise RelayError(
            f"{path}: {found} numbers for {len(words)} classes; expected one for each of the "
            f"{classes} that the net scores"
        )
    return [int(word) for word in words]


def _numbers_in(path: str, names: Sequence[str]) -> list[str]:
    """The words of a file; of a development kit the number of each synset, or ""."""
    if os.path.isdir(path) or is_archive(path):
        ids = read_truth(path).ids
        return [str(ids.get(name.partition(" ")[0], "")) for name in names]
    with open(path, encoding="utf-8") as file:
        return file.read().split()


def _scores(engine: Any, member: Member, images: str, files: list[str] | None) -> np.ndarray:
    """The scores (N, classes) that a member gives to files, or without any to an LMDB."""
    run, protocol, weights = member
    net_param = net_of_run(engine.pb, run)
    feed = test_feed(net_param)
    if files is None:
        check_colour_orders([images, feed.source])
        number, records = count_records(images), read(engine.caffe, images, feed.decoding)
    else:
        number, records = len(files), _read_files(engine.pb, feed, files)
    weights = weights or newest_weights(run)
    title = f"{os.path.basename(os.path.normpath(run))} {protocol.name}"
    tester = Tester(engine.caffe, net_param, weights, protocol, title)
    return tester.score(records, number)[0]


def list_images(images: str, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """The image files in a folder, by name, or in a list file, in its order.

    say: told what of a folder is left out, a line for each kind. RelayError where there are none.
    """
    left_out: list[str] = []
    if os.path.isdir(images):
        tree = ImageTree(images)
        folders, names = tree.top()
        found = [os.path.join(images, name) for name in names]
        left_out = list(tree.lines())
        left_out += [f"left out: {len(folders)} folders ({folders[0]}, ...)"] if folders else []
    elif os.path.isfile(images):
        lines = _lines(images)
        found = [_listed(os.path.dirname(images), line) for line in lines]
    else:
        raise RelayError(f"{images}: neither a folder, a list of images, nor an LMDB")
    if not found:
        raise RelayError("\n".join([f"{images}: no images there", *left_out]))
    for line in left_out:
        say(line)
    return found


def _lines(path: str) -> list[str]:
    """The lines of a list file that are not empty; a name can be any bytes."""
    with open(path, "rb") as file:
        text = os.fsdecode(without_mark(file.read(), path))
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def _listed(folder: str, line: str) -> str:
    """The file that a line of a list names, with a label behind it or without."""
    for name in (line, line.rsplit(maxsplit=1)[0]):
        if os.path.isfile(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise RelayError(f"{printable(os.path.join(folder, line))}: no such file")


def _read_files(pb: Any, feed: Feed, paths: Sequence[str]) -> Iterator[Record]:
    """Yield the Record of each file, prepared as those were that the run was tested on."""
    preparation = of_database(pb, feed.source)
    if not preparation["known"]:
        raise RelayError(
            f"{feed.source}: no settings.json there, as convert_imageset writes, says how the "
            "images that the run was tested on were prepared: make an LMDB of the images instead, "
            "in the same way"
        )
    for path in paths:
        pixels = prepare(path, preparation, feed.decoding, keep_damaged=False)
        if isinstance(pixels, str):
            raise RelayError(f"{printable(path)}: {pixels}")
        yield Record(path, pixels, -1)
