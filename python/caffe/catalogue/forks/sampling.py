"""Windows of an image, drawn as batch_sampler says (SSD)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...layer import TensorLayer
from ...proto import caffe_pb2
from .boxes import overlaps
from .objects import coverage


def check(layer: TensorLayer, samplers: Sequence[caffe_pb2.BatchSampler]) -> None:
    """Raise a LayerError for a sampler that can draw nothing."""
    for index, batch_sampler in enumerate(samplers):
        sampler, where = batch_sampler.sampler, f"batch_sampler {index}"
        if not 0 < sampler.min_scale <= sampler.max_scale <= 1:
            raise layer.error(
                f"{where}: expected 0 < min_scale <= max_scale <= 1; found {sampler.min_scale} "
                f"and {sampler.max_scale}"
            )
        if not 0 < sampler.min_aspect_ratio <= sampler.max_aspect_ratio:
            raise layer.error(
                f"{where}: expected 0 < min_aspect_ratio <= max_aspect_ratio; found "
                f"{sampler.min_aspect_ratio} and {sampler.max_aspect_ratio}"
            )


def draw_window(
    samplers: Sequence[caffe_pb2.BatchSampler], boxes: np.ndarray, random: np.random.Generator
) -> np.ndarray | None:
    """One of all windows (xmin, ymin, xmax, ymax) that the samplers find around objects `boxes`.

    None if they find none.
    """
    found = [window for sampler in samplers for window in _windows(sampler, boxes, random)]
    return found[random.integers(len(found))] if found else None


def _windows(
    batch_sampler: caffe_pb2.BatchSampler, boxes: np.ndarray, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """At most max_sample windows of max_trials that are drawn."""
    if not batch_sampler.use_original_image:
        return
    count = 0
    for _ in range(batch_sampler.max_trials):
        if batch_sampler.HasField("max_sample") and count >= batch_sampler.max_sample:
            return
        window = _draw(batch_sampler.sampler, random)
        if _satisfies(window, boxes, batch_sampler.sample_constraint):
            count += 1
            yield window


def _draw(sampler: caffe_pb2.Sampler, random: np.random.Generator) -> np.ndarray:
    """A window of a drawn size and shape at a drawn place."""
    scale = random.uniform(sampler.min_scale, sampler.max_scale)
    ratio = random.uniform(sampler.min_aspect_ratio, sampler.max_aspect_ratio)
    ratio = min(max(ratio, scale**2), 1 / scale**2)  # so that it fits into the image
    size = np.minimum(scale * np.array([ratio**0.5, ratio**-0.5]), 1)
    low = random.uniform(0, 1, 2) * (1 - size)
    return np.concatenate([low, low + size])


def _satisfies(
    window: np.ndarray, boxes: np.ndarray, constraint: caffe_pb2.SampleConstraint
) -> bool:
    """Whether there is a limit on no measure, or an object that is within all limits."""
    if not constraint.ListFields():
        return True
    if not len(boxes):
        return False
    within = np.ones(len(boxes), bool)
    for name, values in (
        ("jaccard_overlap", lambda: overlaps(window, boxes)),
        ("sample_coverage", lambda: _covered(window, boxes)),
        ("object_coverage", lambda: coverage(boxes, window)),
    ):
        if constraint.HasField(f"min_{name}"):
            within &= values() >= getattr(constraint, f"min_{name}")
        if constraint.HasField(f"max_{name}"):
            within &= values() <= getattr(constraint, f"max_{name}")
    return bool(within.any())


def _covered(window: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The share of the window that each object covers."""
    return np.array([coverage(window[None], box)[0] for box in boxes])
