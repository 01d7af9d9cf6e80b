"""MemoryData: batches from arrays that the user passes in."""

import warnings

import numpy as np
import torch

from ... import device
from ...layer import register
from .source import Source, precision_of


@register
class MemoryData(Source):
    """The arrays given to `set_input_arrays`, batch after batch, over and over.

    tops: data (batch_size, channels, height, width) and labels (batch_size,), which a forward
    makes (batch_size, 1, 1, 1). Options: memory_data_param. Caffe's MemoryDataLayer.
    """

    top_count = (2, 2)
    param_name = "memory_data_param"
    arrays = None

    def setup(self, *shapes):
        options = self.options
        self.shape = (options.batch_size, options.channels, options.height, options.width)
        if min(self.shape) < 1:
            raise self.error(
                "batch_size, channels, height and width must be given, 1 or more; "
                f"found {self.shape}"
            )

    def reshape(self, *shapes):
        return [self.shape, self.shape[:1]]

    def set_input_arrays(self, data, labels):
        """Read from `data` (N, channels, height, width) and `labels` (N,), from the start.

        N must be a multiple of the batch size. As in Caffe, transform_param does not apply.
        """
        data = np.asarray(data, np.float32)
        labels = np.asarray(labels, np.float32).reshape(-1)
        if data.shape[1:] != self.shape[1:] or len(data) != len(labels):
            raise self.shape_error(
                f"expected data (N, {', '.join(map(str, self.shape[1:]))}) and "
                f"N labels; found {data.shape} and {len(labels)}"
            )
        if not len(data) or len(data) % self.shape[0]:
            raise self.shape_error(
                f"the number of items must be a multiple of the batch size "
                f"{self.shape[0]}; found {len(data)}"
            )
        if self.layer_param.HasField("transform_param"):
            warnings.warn(
                f"layer {self.name!r} (MemoryData): transform_param does not apply to "
                "arrays; transform them yourself",
                stacklevel=2,
            )
        self.arrays, self.next_item = (data, labels), 0

    def forward(self):
        if self.arrays is None:
            raise self.error("has no data yet; call set_input_arrays(data, labels) first")
        start, count = self.next_item, len(self.arrays[0])
        self.next_item = (start + self.shape[0]) % count
        data, labels = (
            torch.from_numpy(array[start : start + self.shape[0]].copy()) for array in self.arrays
        )  # copied: the tops may be changed
        data = device.upload(data).to(precision_of(data.shape))
        labels = device.upload(labels).to(device.master_dtype())
        return device.layout(data), labels.view(-1, 1, 1, 1)
