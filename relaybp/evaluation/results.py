"""Results of tests, kept in RUN/results/ with the identity of all that they were measured on.

A result is NAME.json, which says what was tested and the errors, and NAME.npz with the scores. What
has been tested with the same weights, net, data and protocol is not tested again.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from caffe_plain.class_names import distinct
from caffe_plain.files import write_atomically
from caffe_plain.images import printable
from caffe_plain.snapshots import newest_weights

from ..errors import RelayError
from . import measures
from .identity import FP32, class_names, file_name, identify, net_of_run
from .protocol import Protocol
from .scoring import Tester
from .validation_set import record_names

FOLDER = "results"
GUESSES = 5  # of an image that are shown
_OF_A_MEMBER = (
    "protocol",
    "precision",
    "weights",
    "net",
    "data",
    "images",
)  # what an ensemble keeps


class Member(NamedTuple):
    """A run in an ensemble, tested in its own way; weights None: its newest snapshot."""

    run: str
    protocol: Protocol
    weights: str | None = None


class Result:
    """A stored result; `path` is that of its .json.

    errors: {k: top-k error in %}; images: how many were tested; whole: whether those are all of the
    database; protocol: its name; precision: fp32, tf32 or bf16; weights: {"file", "sha256"}; data:
    {"source", "records", "index", "mean", "classes"}, the last three being checksums; members: of
    an ensemble, what each was measured on.
    """

    def __init__(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                facts = dict(json.load(file))
        except (OSError, ValueError, TypeError) as error:
            raise RelayError(f"{path}: {error}; delete it and test again") from error
        self.path = path
        self.errors: dict[int, float] = {int(k): error for k, error in facts["errors"].items()}
        self.images: int = facts["images"]
        self.whole: bool = facts["whole"]
        self.protocol: str = facts["protocol"]
        self.precision: str = facts["precision"]
        self.weights: dict[str, str] = facts["weights"]
        self.data: dict[str, Any] = facts["data"]
        self.members: list[dict[str, Any]] = facts["members"]
        self.class_names: list[str] = facts["class_names"]
        self.facts: dict[str, Any] = facts

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the .npz: scores, labels, ranks and names."""
        path = self.path[: -len(".json")] + ".npz"
        try:
            with open(path, "rb") as file, np.load(file) as saved:
                return {name: saved[name] for name in saved.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RelayError(f"{path}: {error}; delete {self.path} and test again") from error

    @property
    def scores(self) -> np.ndarray:
        """The mean softmax scores (N, classes), float32."""
        return self.arrays["scores"]

    @property
    def labels(self) -> np.ndarray:
        """The labels (N,) of the images."""
        return self.arrays["labels"]

    @property
    def names(self) -> list[str]:
        """The keys of the N images in their database."""
        return self.arrays["names"].tolist()

    def class_errors(self, k: int = 5) -> list[tuple[int, int, float]]:
        """[(label, images, top-k error in %)] of each class, the best first."""
        return measures.class_errors(self.arrays["ranks"], self.labels, self.scores.shape[1], k)

    def guesses(self, index: int) -> list[tuple[int, float]]:
        """[(label, score)] of the GUESSES likeliest classes of image `index`, the best first."""
        scores = self.scores[index]
        order = np.argsort(-scores, kind="stable")[:GUESSES]
        return [(int(label), float(scores[label])) for label in order]

    def class_name(self, label: int) -> str:
        """What classes.txt calls a label, `distinct`, for people; without that file, its number."""
        return self._shown_names[label] if label < len(self.class_names) else str(label)

    @functools.cached_property
    def _shown_names(self) -> list[str]:
        return distinct([printable(name) for name in self.class_names])

    def line(self) -> str:
        """The errors, the images, and where they do not count for all of them, in one line."""
        rates = ", ".join(f"top-{k} error {error:.2f} %" for k, error in self.errors.items())
        part = "" if self.whole else f", only the first of {self.data['records']}"
        return f"{rates} on {self.images} images{part}"


def measure(
    engine: Any,
    run: str,
    protocol: Protocol,
    weights: str | None = None,
    gpu: str = "auto",
    precision: str = FP32,
) -> Result:
    """Test a run, or return what was measured before on the same weights, net, data and protocol.

    run: its folder; weights: a .caffemodel, by default its newest snapshot; gpu: auto, none or a
    GPU's number; precision: fp32, tf32 or bf16. Raises RelayError where the scores are not finite
    or a label has no score.
    """
    weights = weights or newest_weights(run)
    net_param = net_of_run(engine.pb, run)
    identity = identify(engine.pb, net_param, weights, protocol, precision)
    path = os.path.join(run, FOLDER, file_name(identity))
    if os.path.exists(path):
        return _kept(path)
    _check_folder(run)
    engine.use_device(gpu, precision)
    title = f"{os.path.basename(os.path.normpath(run))} {identity['protocol']}"
    tester = Tester(engine.caffe, net_param, weights, protocol, title)
    scores, labels = tester.score_database(identity["images"])
    feed = tester.feed
    names = record_names(feed.source, len(labels))
    return _store(run, identity, scores, labels, names, class_names(feed), f"{run}, {weights}")


def _check_folder(run: str) -> None:
    """Raise OSError, before anything is tested, where no result can be kept."""
    for path in (run, os.path.join(run, FOLDER)):
        if os.path.exists(path) and not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if os.path.exists(path) and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def ensemble(
    engine: Any, members: Sequence[Member], out: str, gpu: str = "auto", precision: str = FP32
) -> Result:
    """The mean of the scores of several runs, each tested in its own way; kept in OUT/results/.

    Raises RelayError where the members have not tested the same images in the same order.
    """
    if len(members) < 2:
        raise RelayError(f"an ensemble of {len(members)}: expected two runs or more")
    results = [measure(engine, *member, gpu, precision) for member in members]
    identity = _identify_ensemble(members, results)
    path = os.path.join(out, FOLDER, file_name(identity))
    if os.path.exists(path):
        return _kept(path)
    first = results[0]
    scores = np.zeros(first.scores.shape)
    for member, result in zip(members, results):
        _check_same_images(members[0].run, first, member.run, result)
        scores += result.scores / len(results)
    return _store(out, identity, scores, first.labels, first.names, first.class_names, out)


def _identify_ensemble(members: Sequence[Member], results: Sequence[Result]) -> dict[str, Any]:
    first, whole = results[0], all(result.whole for result in results)
    return {
        "precision": first.precision,
        "protocol": f"ensemble-{len(results)}" + ("" if whole else f"_limit{first.images}"),
        "weights": {},
        "data": first.data,
        "images": first.images,
        "whole": whole,
        "members": [
            {"run": member.run, **{name: result.facts[name] for name in _OF_A_MEMBER}}
            for member, result in zip(members, results)
        ],
    }


def _kept(path: str) -> Result:
    try:
        return Result(path)
    except KeyError as error:
        raise RelayError(f"{path}: there is no {error} in it; delete it and test again") from error


def _store(
    run: str,
    identity: dict[str, Any],
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    classes: list[str],
    what: str,
) -> Result:
    """Check and write a result, the .json last; `what` names it in errors."""
    _check_scores(scores, labels, names, what)
    ranks = measures.ranks(scores, labels)
    path = os.path.join(run, FOLDER, file_name(identity))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        scores=scores.astype(np.float32),
        labels=labels.astype(np.int32),
        ranks=ranks.astype(np.int32),
        names=np.array(names),
    )
    write_atomically(path[: -len(".json")] + ".npz", file.getvalue())
    errors = measures.errors(ranks, scores.shape[1])
    facts = {**identity, "errors": errors, "class_names": classes}
    write_atomically(path, json.dumps(facts, indent=1) + "\n")
    return Result(path)


def _check_scores(scores: np.ndarray, labels: np.ndarray, names: Sequence[str], what: str) -> None:
    """Refuse what no error rate can be made of."""
    bad = np.flatnonzero(~np.isfinite(scores).all(1))
    if len(bad):
        raise RelayError(
            f"{what}: the scores of {len(bad)} of {len(scores)} images are not finite, first of "
            f"{names[bad[0]]!r}: the training has diverged; test an earlier snapshot (--weights)"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= scores.shape[1]))
    if len(wrong):
        raise RelayError(
            f"{what}: image {names[wrong[0]]!r} has the label {labels[wrong[0]]}, the net scores "
            f"the classes 0 to {scores.shape[1] - 1}: it was trained on other classes"
        )


def _check_same_images(one: str, first: Result, other: str, second: Result) -> None:
    """Refuse members whose scores are not of the same images and classes."""
    if first.scores.shape != second.scores.shape:
        raise RelayError(
            "ensemble: {} has tested {} images with {} classes, {} {} with {}; every member must "
            "test the same images".format(one, *first.scores.shape, other, *second.scores.shape)
        )
    for index, (name, label, name2, label2) in enumerate(
        zip(first.names, first.labels, second.names, second.labels)
    ):
        if (name, label) != (name2, label2):
            raise RelayError(
                f"ensemble: image {index} is {name!r} with label {label} in {one}, and {name2!r} "
                f"with label {label2} in {other}; every member must test the same images in the "
                "same order: make their databases from one list"
            )
