"""CTPN's Python layer of proposals: slices of lines of text, where its package is not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffe_plain.errors import LayerError
from caffe_plain.python_layers import STAND_INS

from ...blob import Blob
from ...layer import Layer
from .boxes import growth
from .proposal import options_of, shifted

_HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)


def slices() -> np.ndarray:
    """The anchors (10, 4) of the first pixel: 16 pixels wide, of 10 heights.

    NOTE: as in CTPN halves of heights are rounded down, and then ends towards 0.
    """
    ends = np.array([[-0.5, 7.5 - height // 2, 15.5, 7.5 + height // 2] for height in _HEIGHTS])
    return np.trunc(ends)


class TextProposalLayer(Layer):
    """layers.text_proposal_layer.ProposalLayer of CTPN, where that package is not there.

    bottom 0: scores, (1, 20, H, W), those of being text last; bottom 1: codes of center and height,
    (1, 20, H, W); bottom 2: the image's height, width and scale, (1, 3); top 0: all regions, cut
    off at the image, (10 H W, 4); top 1: their scores, (10 H W, 1). param_str: 'feat_stride'.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the stride, make the anchors."""
        try:
            self.stride = float(options_of(self.param_str)["feat_stride"])
        except (KeyError, ValueError):
            raise LayerError(
                f"param_str {self.param_str!r}: expected \"'feat_stride': 16\""
            ) from None
        self.anchors = slices()
        self.reshape(bottom, top)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """A region for each anchor of each pixel."""
        count = len(self.anchors)
        if len(bottom) < 3 or any(blob.shape[:2] != (1, 2 * count) for blob in bottom[:2]):
            raise LayerError(
                f"needs scores and codes (1, {2 * count}, H, W) and the image's height, width and "
                f"scale; found {[tuple(blob.shape) for blob in bottom]}"
            )
        for blob, columns in zip(top, (4, 1), strict=True):
            blob.reshape(count * int(np.prod(bottom[0].shape[2:])), columns)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """All regions and their scores."""
        scores, codes, image = (blob.data[0] for blob in bottom)
        height, width = scores.shape[1:]
        boxes = shifted(self.anchors, height, width, self.stride)
        codes = codes.transpose(1, 2, 0).reshape(-1, 2).astype(float)
        own = boxes[:, 3] - boxes[:, 1] + 1
        size = growth(codes[:, 1]) * own
        boxes[:, 1] = codes[:, 0] * own + (boxes[:, 1] + boxes[:, 3]) / 2 - size / 2
        boxes[:, 3] = boxes[:, 1] + size
        top[0].data[...] = np.clip(boxes, 0, np.tile([image[1] - 1, image[0] - 1], 2))
        top[1].data[...] = scores[len(self.anchors) :].transpose(1, 2, 0).reshape(-1, 1)

    def backward(
        self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """No gradient reaches the scores and codes."""
        for blob in bottom:
            blob.diff[...] = 0


STAND_INS["layers.text_proposal_layer", "ProposalLayer"] = TextProposalLayer
