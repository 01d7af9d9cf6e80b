"""The modified Split of Relay Backpropagation: its backward takes the running flow's tops only."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from caffe import layer_class


class Split(layer_class("Split")):
    """Hands one bottom to several consumers; the diff is the sum over the tops that run.

    bottom: any shape; tops: the same values (shared memory). `running` is None (every top, as in
    Caffe) or the positions of the tops that the flow now running passes. The others' diffs are
    left over from another flow and do not count, so every flow reuses the same diff memory.
    Shen, Lin, Huang, 2016, section 3.
    """

    type: str = "Split"
    running: Container[int] | None = None

    def can_replay(self) -> bool:
        return self.running is None

    def backward(self, diffs: Any, bottoms: Any, tops: Any, wanted: Any) -> Any:
        if self.running is not None:
            diffs = [diff for i, diff in enumerate(diffs) if i in self.running]
        return super().backward(diffs, bottoms, tops, wanted)
