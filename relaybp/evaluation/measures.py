"""Error rates of class scores: of all images, of each class, of several nets together."""

import numpy as np

from ..errors import RelayError


def ranks(scores, labels):
    """How many classes score as high as the true one or higher, for each image.

    As in Caffe's Accuracy layer, a tie counts against the net.
    """
    return (scores >= scores[np.arange(len(labels)), labels][:, None]).sum(1) - 1


def errors(scores, labels, ks=(1, 5)):
    """{k: top-k error in %}, for each k below the number of classes."""
    found = ranks(scores, labels)
    return {k: 100 * float((found >= k).mean()) for k in ks if k < scores.shape[1]}


def class_errors(scores, labels, k=5):
    """[(label, images, top-k error in %)] of each class that has images, the best first."""
    k = min(k, scores.shape[1] - 1)
    wrong = ranks(scores, labels) >= k
    found = [
        (int(label), int((labels == label).sum()), 100 * float(wrong[labels == label].mean()))
        for label in np.unique(labels)
    ]
    return sorted(found, key=lambda row: (row[2], row[0]))


def ensemble(members):
    """(mean scores, labels) of [(scores, labels)], which must be of the same images."""
    scores, labels = members[0]
    for other, own in members[1:]:
        if other.shape != scores.shape or not np.array_equal(own, labels):
            raise RelayError(
                f"ensemble: {other.shape[0]} images with {other.shape[1]} classes "
                f"beside {scores.shape[0]} with {scores.shape[1]}, or other labels; "
                "every member must test the same database"
            )
    return np.mean([member[0] for member in members], 0), labels
