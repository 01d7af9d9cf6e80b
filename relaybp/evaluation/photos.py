"""The classes of image files, which are prepared as the records were that a run was tested on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from caffe_plain import images
from caffe_plain.class_names import distinct, read_class_names
from caffe_plain.trained import Trained

from .. import identity, run_folder
from ..data_layers import DataLayer
from ..data_prep.image_tree import ImageTree
from ..data_prep.images import Options, read_image
from ..errors import RelayError
from .identity import net_of_run
from .preparation import FIELDS, Preparation, of_database
from .protocol import Protocol
from .scoring import Tester
from .validation_set import Decoding, Record, test_feed


class Answers(NamedTuple):
    """What a run says of image files.

    files: the N that could be read; scores: (N, classes); names: of the classes; bad: {file: why it
    could not be read}.
    """

    files: list[str]
    scores: np.ndarray
    names: list[str]
    bad: dict[str, str]

    def best(self, index: int, count: int) -> list[tuple[str, float]]:
        """[(class, score)] of a file's likeliest classes, the likeliest first."""
        order = np.argsort(-self.scores[index], kind="stable")[:count]
        return [(self.names[label], float(self.scores[index, label])) for label in order]


def list_photos(path: str) -> list[str]:
    """An image file itself, or all image files below a folder, by name."""
    if not os.path.isdir(path):
        return [path]
    tree = ImageTree(path)
    found = [os.path.join(path, name) for name in tree.images()]
    if not found:
        raise RelayError("\n".join([f"{path}: no images there", *tree.lines()]))
    return found


def classify(caffe: Any, run: str, trained: Trained, paths: Sequence[str]) -> Answers:
    """The scores that a run's newest net gives to image files; trained: the files of its folder.

    Raises RelayError where none of the files can be read.
    """
    net_param = net_of_run(caffe.proto.caffe_pb2, run)
    feed = test_feed(net_param)
    if feed.mean_file:
        DataLayer(feed.layer).set("mean_file", _mean_file(run, feed.mean_file, trained))
    preparation = _preparation(caffe.proto.caffe_pb2, run, feed.source)
    if not feed.crop:  # the net takes whole images, all of one size
        height, width = _input_size(caffe.proto.caffe_pb2, trained.deploy)
        preparation.update(height=height, width=width, short=0)
    files: list[str] = []
    bad: dict[str, str] = {}
    records = _records(paths, preparation, feed.decoding, files, bad)
    first = next(records, None)
    if first is None:
        raise RelayError("\n".join(f"{images.printable(path)}: {why}" for path, why in bad.items()))
    title = os.path.basename(os.path.normpath(run))
    tester = Tester(caffe, net_param, trained.weights, Protocol(), title)
    scores, _ = tester.score(chain([first], records), len(paths))
    return Answers(files, scores[: len(files)], _names(trained, scores.shape[1]), bad)


def _mean_file(run: str, named: str, trained: Trained) -> str:
    """That of when the run began, wherever its data are now; else the one that the net names."""
    found = trained.mean or (named if os.path.isfile(named) else "")
    if not found:
        raise RelayError(
            f"{run}: no mean.binaryproto there, and {named}, which its net subtracts, is gone too; "
            "copy the mean image that it was trained with to one of the two"
        )
    return found


def _preparation(pb: Any, run: str, source: str) -> Preparation:
    """What run.json says; of a folder without that, what the database says."""
    record = identity.read(run)
    found = record.get("images") if record else None
    return found or of_database(pb, source)


def _input_size(pb: Any, deploy: str) -> list[int]:
    """[H, W] of the images that a run's deploy net takes."""
    net = run_folder.read(deploy, pb.NetParameter())
    return list(net.layer[0].input_param.shape[0].dim[2:])


def _records(
    paths: Sequence[str],
    preparation: Preparation,
    decoding: Decoding,
    files: list[str],
    bad: dict[str, str],
) -> Iterator[Record]:
    """Yield the Record of each file that can be read; note which can, and of others why not."""
    for path in paths:
        pixels = prepare(path, preparation, decoding, keep_damaged=True)
        if isinstance(pixels, str):
            bad[path] = pixels
            continue
        files.append(path)
        yield Record(path, pixels, -1)


def prepare(
    path: str, preparation: Preparation, decoding: Decoding, keep_damaged: bool
) -> np.ndarray | str:
    """The pixels (H, W, C) of an image file as a data layer finds them in its record.

    decoding: the layer's; keep_damaged: take what the decoder makes of a damaged file. Where there
    are none, a string says why.
    """
    options = Options(**{name: preparation[name] for name in FIELDS}, keep_damaged=keep_damaged)
    image = read_image(options, path)
    if isinstance(image, str):
        return image
    if options.encoding is None:
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.shape).transpose(1, 2, 0)
    else:
        color = not options.gray if decoding.color is None else decoding.color
        try:
            pixels = images.decode(image.data, color, decoding.upright)
        except ValueError as error:
            return str(error)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., ::-1] if preparation["rgb"] else pixels


def _names(trained: Trained, classes: int) -> list[str]:
    """The names of the classes, their numbers where the run has none."""
    names = read_class_names(trained.classes) if trained.classes else []
    if names and len(names) != classes:
        raise RelayError(f"{trained.classes}: {len(names)} names; the net scores {classes} classes")
    return distinct(names) or [str(label) for label in range(classes)]
