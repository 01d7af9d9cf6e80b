"""What SSD's transform_param does to an image (H, W, C) of bytes before it is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ...proto import caffe_pb2

_RESIZE = caffe_pb2.ResizeParameter
_INTERPOLATION = {
    _RESIZE.LINEAR: cv2.INTER_LINEAR,
    _RESIZE.AREA: cv2.INTER_AREA,
    _RESIZE.NEAREST: cv2.INTER_NEAREST,
    _RESIZE.CUBIC: cv2.INTER_CUBIC,
    _RESIZE.LANCZOS4: cv2.INTER_LANCZOS4,
}
_PADDING = {
    _RESIZE.CONSTANT: cv2.BORDER_CONSTANT,
    _RESIZE.MIRRORED: cv2.BORDER_REFLECT_101,
    _RESIZE.REPEAT_NEAREST: cv2.BORDER_REPLICATE,
}


def resize(
    image: np.ndarray, param: caffe_pb2.ResizeParameter, random: np.random.Generator
) -> np.ndarray:
    """The image in the size that `param` asks for; of several interp_mode one is drawn."""
    height, width = _resized_size(image.shape[:2], param)
    modes = list(param.interp_mode) or [_RESIZE.LINEAR]
    mode = modes[random.integers(len(modes))] if len(modes) > 1 else modes[0]
    image = cv2.resize(image, (width, height), interpolation=_INTERPOLATION[mode])
    if param.resize_mode != _RESIZE.FIT_LARGE_SIZE_AND_PAD:
        return image
    top, left = (param.height - height) // 2, (param.width - width) // 2
    bottom, right = param.height - height - top, param.width - width - left
    value = list(param.pad_value) or [0]
    value = value * (4 if len(value) == 1 else 1)
    return cv2.copyMakeBorder(
        image, top, bottom, left, right, _PADDING[param.pad_mode], value=value
    )


def _resized_size(size: Sequence[int], param: caffe_pb2.ResizeParameter) -> tuple[int, int]:
    """Height and width before padding."""
    own, made = size[1] / size[0], param.width / param.height  # width / height
    if param.resize_mode == _RESIZE.WARP:
        return param.height, param.width
    by_width = own < made if param.resize_mode == _RESIZE.FIT_SMALL_SIZE else own > made
    if by_width:
        return max(math.floor(param.width / own), 1), param.width
    return param.height, max(math.floor(own * param.height), 1)


def cut(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The pixels in `window` (xmin, ymin, xmax, ymax), in parts of the image; at least one."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip(window, 0, 1) * [width, height, width, height]
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    return image[top : top + max(int(y2 - y1), 1), left : left + max(int(x2 - x1), 1)]


def expand(
    image: np.ndarray, largest: float, fill: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The image somewhere in one up to `largest` times as high and wide, and that one as a window.

    fill: the value of each channel around it, (C,) or (1,).
    """
    ratio = random.uniform(1, largest)
    height, width = image.shape[:2]
    size = int(height * ratio), int(width * ratio)
    top = int(random.uniform(0, size[0] - height))
    left = int(random.uniform(0, size[1] - width))
    made = np.empty((*size, image.shape[2]), image.dtype)
    made[:] = np.rint(fill) if image.dtype == np.uint8 else fill
    made[top : top + height, left : left + width] = image
    corners = [-left / width, -top / height, (size[1] - left) / width, (size[0] - top) / height]
    return made, np.array(corners)


def distort(
    image: np.ndarray, param: caffe_pb2.DistortionParameter, random: np.random.Generator
) -> np.ndarray:
    """The image (H, W, 3) with other brightness, contrast, saturation and hue, as drawn."""
    steps = [_brightness, _contrast, _saturation, _hue]
    if random.random() <= 0.5:  # contrast last
        steps.append(steps.pop(1))
    for step in (*steps, _order):
        image = step(image, param, random)
    return image


def _brightness(image, param, random):
    if random.random() >= param.brightness_prob:
        return image
    return _add(image, random.uniform(-param.brightness_delta, param.brightness_delta))


def _contrast(image, param, random):
    if random.random() >= param.contrast_prob:
        return image
    return _bytes(image * np.float32(random.uniform(param.contrast_lower, param.contrast_upper)))


def _saturation(image, param, random):
    if random.random() >= param.saturation_prob:
        return image
    factor = np.float32(random.uniform(param.saturation_lower, param.saturation_upper))
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 1] = _bytes(hsv[..., 1] * factor)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _hue(image, param, random):
    if random.random() >= param.hue_prob:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = _add(hsv[..., 0], random.uniform(-param.hue_delta, param.hue_delta))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _order(image, param, random):
    if random.random() >= param.random_order_prob:
        return image
    return image[..., random.permutation(image.shape[2])]


def _add(image, delta):
    return _bytes(image + np.float32(delta))


def _bytes(values):
    """Rounded and cut off at 0 and 255, as OpenCV does."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
