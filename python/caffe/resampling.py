"""Image resampling, axis by axis: what pycaffe takes from scikit-image and scipy.

An output pixel is a weighted sum of `taps` neighbouring samples along an axis. Samples beyond the
border count as 0.
"""

import cv2
import numpy as np


def resize_in_unit_range(image, new_dims, order):
    """An (H, W, K) image of values in [0, 1] at new_dims, smoothed before it shrinks."""
    scales = [old / new for old, new in zip(image.shape[:2], new_dims, strict=True)]
    image = _smooth(image, *(max(0.0, (scale - 1) / 2) for scale in scales))
    low, high = image.min(), image.max()
    for axis, (scale, new) in enumerate(zip(scales, new_dims, strict=True)):
        at = (np.arange(new) + 0.5) * scale - 0.5
        image = _gather(image, axis, *_taps(at, order))
    # Cubic overshoots and blends with the border are cut, but a pixel wholly outside stays 0.
    return np.where(image == 0, 0, image.clip(low, high))


def zoom(array, new_dims, order):
    """An (H, W, K) array at new_dims with its corner pixels in the corners, not smoothed."""
    for axis, new in enumerate(new_dims):
        old = array.shape[axis]
        at = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
        if order == 3 and old > 1:
            array = _zoom_spline(array, axis, at)
        else:
            array = _gather(array, axis, *_taps(at, order if old > 1 else 0))
    return array


def _taps(at, order):
    """For each position: its first sample's index (n,) and the weights from there on (n, taps)."""
    if order == 0:
        return np.floor(at + 0.5).astype(int), np.ones((len(at), 1))
    first = np.floor(at).astype(int)
    x = at - first
    if order == 1:
        return first, np.stack([1 - x, x], axis=1)
    if order == 3:
        catmull_rom = [
            (-x + 2 * x**2 - x**3) / 2,
            (2 - 5 * x**2 + 3 * x**3) / 2,
            (x + 4 * x**2 - 3 * x**3) / 2,
            (x**3 - x**2) / 2,
        ]
        return first - 1, np.stack(catmull_rom, axis=1)
    raise ValueError(
        f"resize_image: interp_order {order} is unknown: use 0 (nearest), 1 (linear) or 3 (cubic)"
    )


def _gather(image, axis, first, weights):
    """The weighted sums of samples along `axis`; indices outside contribute nothing."""
    image = np.moveaxis(image, axis, 0)
    result = 0
    for tap, weight in enumerate(weights.astype(image.dtype).T):
        index = first + tap
        inside = (index >= 0) & (index < len(image))
        weight = np.where(inside, weight, 0).reshape(-1, *[1] * (image.ndim - 1))
        result = result + weight * image[index.clip(0, len(image) - 1)]
    return np.moveaxis(result, 0, axis)


def _zoom_spline(array, axis, at):
    """The cubic B-spline through all samples along `axis`, mirrored at both ends."""
    array = np.moveaxis(array, axis, 0)
    size = len(array)
    system = np.diag(np.full(size, 4.0)) + np.eye(size, k=1) + np.eye(size, k=-1)
    system[0, 1] = system[-1, -2] = 2.0
    flat = array.reshape(size, -1)
    coefficients = np.linalg.solve(system / 6, flat)
    coefficients = np.concatenate([coefficients[1:2], coefficients, coefficients[-2:-1]])
    first = np.floor(at).astype(int)
    x = at - first
    basis = (
        np.stack(
            [(1 - x) ** 3, 4 - 6 * x**2 + 3 * x**3, 1 + 3 * x + 3 * x**2 - 3 * x**3, x**3], axis=1
        )
        / 6
    )
    result = _gather(coefficients, 0, first, basis)
    return np.moveaxis(result.reshape(-1, *array.shape[1:]), 0, axis)


def _smooth(image, sigma_y, sigma_x):
    """A Gaussian blur, cut at four sigma; 0 beyond the border."""
    if sigma_y == sigma_x == 0:
        return image
    smoothed = cv2.sepFilter2D(
        np.ascontiguousarray(image),
        -1,
        _gaussian(sigma_x),
        _gaussian(sigma_y),
        borderType=cv2.BORDER_CONSTANT,
    )
    return smoothed.reshape(image.shape)


def _gaussian(sigma):
    if sigma == 0:
        return np.ones(1)
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return kernel / kernel.sum()
