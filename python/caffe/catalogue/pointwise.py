"""1 x 1 convolutions as matrix products: images as rows of channels, which channels-last ones are.

x: (N, C, H, W), or another number of spatial axes; y: (N, K, H', W'), of every stride-th pixel.
"""

import torch


def _rows(x):
    """x as (N H W, C); no copy for channels last."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _images(rows, like):
    """Rows as images of the size of `like` (N, ., H, W), channels last."""
    return rows.view(like.shape[0], *like.shape[2:], -1).movedim(-1, 1)


def _taken(x, stride):
    """The pixels of x that the stride takes."""
    return x if max(stride) == 1 else x[(..., *(slice(None, None, step) for step in stride))]


def forward(x, weight, bias, stride):
    """y = x W^T + b."""
    x = _taken(x, stride)
    rows, columns = _rows(x), weight.flatten(1).T
    y = rows @ columns if bias is None else torch.addmm(bias, rows, columns)
    return _images(y, x)


def backward(dy, x, weight, stride):
    """dx = dy W, and zero where the stride passed over."""
    taken = _images(_rows(dy) @ weight.flatten(1), dy)
    if max(stride) == 1:
        return taken
    dx = torch.zeros_like(x)
    _taken(dx, stride).copy_(taken)
    return dx


def backward_weight(dy, x, weight, stride):
    """dW = dy^T x, of the shape of the weight."""
    return (_rows(dy).T @ _rows(_taken(x, stride))).view(weight.shape)


def backward_bias(dy):
    """db: the sum over images and pixels."""
    return _rows(dy).sum(0)
