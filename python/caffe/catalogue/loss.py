"""Loss layers. The diff of a loss top holds its loss_weight; backward multiplies by it."""

import torch

from ..layer import TensorLayer, register
from ..proto import caffe_pb2

_MODE = caffe_pb2.LossParameter


class _Loss(TensorLayer):
    """A scalar top with loss_weight 1 unless told."""

    is_loss = True
    auto_tops = True
    bottom_count = (2, 2)


class _NormalizedLoss(_Loss):
    """A loss divided by a count of its terms, as loss_param says."""

    def _read_normalization(self, default=_MODE.VALID):
        options = self.layer_param.loss_param
        self.ignore_label = options.ignore_label if options.HasField("ignore_label") else None
        if not options.HasField("normalization") and options.HasField("normalize"):
            self.mode = _MODE.VALID if options.normalize else _MODE.BATCH_SIZE
        elif options.HasField("normalization"):
            self.mode = options.normalization
        else:
            self.mode = default

    def _normalizer(self, outer, inner, valid):
        """What the sum of losses is divided by: at least 1."""
        count = {_MODE.FULL: outer * inner, _MODE.BATCH_SIZE: outer, _MODE.NONE: 1}.get(self.mode)
        if count is None:
            count = valid if self.ignore_label is not None else outer * inner
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)
