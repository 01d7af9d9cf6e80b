"""What a tested run gets right and wrong: by class, between classes, and image by image."""

from __future__ import annotations

from itertools import chain, zip_longest
from typing import Any

import numpy as np

from ..evaluation.results import Result
from ..figures.run_tables import spread
from .source import Source

MATRIX = 30  # classes that a confusion matrix shows
PAIRS = 12
EXAMPLES = 12  # images, right and wrong


def classes(source: Source) -> dict[str, Any]:
    """The errors of each class in %, and what they were measured on.

    rows: [name, images, top-1 error, top-5 error] by label; with five classes and fewer the last is
    of as many guesses as there are classes, less one.
    """
    result = source.result
    one = {label: (images, error) for label, images, error in result.class_errors(1)}
    five = {label: error for label, _, error in result.class_errors(5)}
    return {
        "protocol": result.protocol,
        "weights": result.weights.get("file", ""),
        "images": result.images,
        "k": min(5, result.scores.shape[1] - 1),
        "rows": [[result.class_name(label), *one[label], five[label]] for label in sorted(one)],
    }


def confusion(source: Source) -> dict[str, Any]:
    """The confusion matrix of the classes that are confused most, and the worst pairs.

    counts[i][j]: images of class i that the net takes for class j; totals: all of each class;
    pairs: [true class, predicted class, images, their share of the true class in %], the most
    images first.
    """
    result = source.result
    counts = confusion_matrix(result)
    wrong = counts - np.diag(np.diag(counts))
    worst = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:MATRIX]
    shown = np.sort(worst)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [divmod(int(place), len(counts)) for place in order if wrong.flat[place]]
    return {
        "classes": [result.class_name(int(label)) for label in shown],
        "of": len(counts),
        "counts": counts[np.ix_(shown, shown)].tolist(),
        "totals": counts.sum(1)[shown].tolist(),
        "pairs": [
            [
                result.class_name(true),
                result.class_name(taken),
                int(wrong[true, taken]),
                100 * float(wrong[true, taken] / counts[true].sum()),
            ]
            for true, taken in pairs
        ],
    }


def confusion_matrix(result: Result) -> np.ndarray:
    """(classes, classes): how many images of a row's class get a column's as the likeliest."""
    size = result.scores.shape[1]
    predicted = result.scores.argmax(1)
    pairs = np.bincount(result.labels * size + predicted, minlength=size * size)
    return pairs.reshape(size, size)


def choose(result: Result, right: bool, count: int = EXAMPLES) -> list[int]:
    """Images that the likeliest class gets right or wrong, of as many classes as there are.

    Of each class those come first of which the net is most sure.
    """
    predicted = result.scores.argmax(1)
    fitting = np.flatnonzero((predicted == result.labels) == right)
    sure = fitting[np.argsort(-result.scores[fitting].max(1), kind="stable")]
    by_class: dict[int, list[int]] = {}
    for index in sure.tolist():
        by_class.setdefault(int(result.labels[index]), []).append(index)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    order = [index for index in chain.from_iterable(turns) if index is not None]
    return spread(order[: max(count, len(by_class))], count)


def example(result: Result, index: int) -> dict[str, Any]:
    """An image's name, its class, and the likeliest classes with their scores in %."""
    label = int(result.labels[index])
    return {
        "name": result.names[index],
        "class": result.class_name(label),
        "guesses": [
            [result.class_name(guess), 100 * score, guess == label]
            for guess, score in result.guesses(index)
        ],
    }
