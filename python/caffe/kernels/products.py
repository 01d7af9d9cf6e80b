"""Convolutions as matrix products: images as rows of channels, as channels-last images are stored.

Convolutions of 1 x 1, forward and backward: x: (N, C, H, W), or another number of spatial axes; y:
(N, K, H, W); weight: (K, C, 1, 1). Also the weight gradient of any convolution with stride 1.
"""

import torch


def take(x, stride):
    """Every stride-th pixel of x, channels last."""
    if max(stride) == 1:
        return x
    return _pixels(x, stride).movedim(1, -1).contiguous().movedim(-1, 1)


def spread(taken, x, stride):
    """The diff of x from `taken`, the diff of what `take` returned; skipped pixels get zero."""
    if max(stride) == 1:
        return taken
    dx = torch.zeros_like(x)
    _pixels(dx, stride).copy_(taken)
    return dx


def _pixels(x, stride):
    return x[(..., *(slice(None, None, step) for step in stride))]


def rows(x):
    """x as (N H W, C); no copy for channels last."""
    channels = x.shape[1]
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.as_strided((x.numel() // channels, channels), (channels, 1))
    return x.movedim(1, -1).reshape(-1, channels)


def images(rows, like):
    """Rows as images of the size of `like` (N, ., H, W), channels last."""
    if like.dim() == 4:
        (count, _, height, width), channels = like.shape, rows.shape[1]
        return rows.as_strided(
            (count, channels, height, width),
            (height * width * channels, 1, width * channels, channels),
        )
    return rows.view(like.shape[0], *like.shape[2:], -1).movedim(-1, 1)


def forward(x, weight, bias):
    """y = x W^T + b."""
    return images(torch.nn.functional.linear(rows(x), weight.flatten(1), bias), x)


def data_gradient(dy, weight):
    """dx = dy W."""
    return images(rows(dy) @ weight.flatten(1), dy)


def weight_gradient(dy, x, weight):
    """dW = dy^T x."""
    return (rows(dy).T @ rows(x)).view(weight.shape)


def kernel_gradient(dy, x, kernel, pad):
    """dW (K, C, h, w), channels last: dy^T times what the kernel sees of x at each place.

    x: (N, C, H, W); dy: (N, K, H + 2 pad - h + 1, W + 2 pad - w + 1).
    """
    (pad_h, pad_w), (h, w), channels = pad, kernel, x.shape[1]
    padded = torch.nn.functional.pad(x.movedim(1, -1), (0, 0, pad_w, pad_w, pad_h, pad_h))
    padded = padded.contiguous()
    image, row, pixel, _ = padded.stride()
    seen = padded.as_strided(
        (len(x), *dy.shape[2:], h, w * channels), (image, row, pixel, row, 1)
    ).reshape(-1, h * w * channels)
    return (rows(dy).T @ seen).view(-1, h, w, channels).movedim(-1, 1)
