"""BN: batch normalization with its scale and shift, of PSPNet's and of SegNet's fork."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...blob import show
from ...layer import Diffs, Shape, TensorLayer, Tensors, register
from ...proto import caffe_pb2

_SEGNET_EPS = 1e-9
_OF = {
    "PSPNet": ("slope_filler", "bias_filler", "momentum", "frozen", "eps"),
    "SegNet": ("scale_filler", "shift_filler", "bn_mode"),
}


@register
class BN(TensorLayer):
    """y = slope (x - mean) / sqrt(var + eps) + bias for each channel.

    bottom, top: (N, C, ...). PSPNet (momentum, eps, frozen, slope_filler, bias_filler): blobs
    slope, bias, mean and variance, (1, C, 1, 1) each; statistics of the batch while training, of
    which the stored ones take 1 - momentum, else the stored ones; frozen: those too in training,
    and nothing learns. SegNet (bn_mode, scale_filler, shift_filler): blobs scale and shift;
    LEARN uses the batch's statistics in every phase, INFERENCE none: y = scale x + shift.
    Without any of these, 4 `param`s or 4 blobs say PSPNet, 2 blobs SegNet. As in both forks, what
    no filler fills is 0, slope and scale too. Options: bn_param.
    """

    param_name = "bn_param"
    fork_fields = ("scale_filler", "shift_filler", "bn_mode")

    def setup(self, *shapes: Shape) -> None:
        if len(shapes[0]) < 2:
            raise self.shape_error(f"needs a channel axis; bottom has shape {tuple(shapes[0])}")
        self.fork = self._which()
        options, shape = self.options, (1, shapes[0][1], 1, 1)
        fillers = ("slope_filler", "bias_filler")
        if self.fork == "SegNet":
            fillers = ("scale_filler", "shift_filler")
        for name in fillers:
            self.add_param(shape, getattr(options, name))
        if self.fork == "PSPNet":
            self.add_param(shape)
            self.add_param(shape, caffe_pb2.FillerParameter(value=float(options.frozen)))

    def _which(self) -> str:
        """The fork whose BN this is."""
        found = [fork for fork, names in _OF.items() if any(map(self.options.HasField, names))]
        if not found:
            count = len(self.layer_param.blobs) or len(self.layer_param.param)
            found = ["PSPNet"] if count == 4 else ["SegNet"] if self.layer_param.blobs else []
        if len(found) != 1:
            raise self.error(
                "bn_param has "
                + ("fields of both" if found else "no field of either")
                + " PSPNet's BN (momentum, eps, frozen, slope_filler, bias_filler) and SegNet's "
                "(bn_mode, scale_filler, shift_filler); say which: momentum: 0.9 or bn_mode: LEARN"
            )
        return found[0]

    def param_specs(self) -> list[caffe_pb2.ParamSpec]:
        """The solver leaves statistics alone, and with frozen all blobs."""
        specs = super().param_specs()
        specs += [caffe_pb2.ParamSpec() for _ in self.blobs[len(specs) :]]
        for spec in specs[0 if self.options.frozen else 2 :]:
            spec.lr_mult = spec.decay_mult = 0
        return specs

    def reshape(self, *shapes: Shape) -> list[Shape]:
        if self.blobs[0].shape[1] != shapes[0][1]:
            raise self.shape_error(
                f"is for {self.blobs[0].shape[1]} channels; bottom has shape {tuple(shapes[0])}"
            )
        return [shapes[0]]

    @property
    def _uses_batch(self) -> bool:
        if self.fork == "SegNet":
            return self.options.bn_mode == self.options.LEARN
        return self.training and not self.options.frozen

    @property
    def _eps(self) -> float:
        return _SEGNET_EPS if self.fork == "SegNet" else self.options.eps

    def forward(self, x: Tensor) -> Tensor:
        slope, bias = (blob.tensor.flatten() for blob in self.blobs[:2])
        self.mean, self.variance = self._stored(slope)
        self.inverse_std = (self.variance + self._eps).rsqrt()
        if not self._uses_batch:
            return torch.batch_norm(
                x, slope, bias, self.mean, self.variance, False, 0, self._eps, False
            )
        y, self.mean, self.inverse_std = torch.native_batch_norm(
            x, slope, bias, None, None, True, 0, self._eps
        )
        if self.fork == "PSPNet":
            self._remember()
        return y

    def _stored(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance, (C,) each; of SegNet's, such that nothing happens."""
        if self.fork == "SegNet":
            return torch.zeros_like(like), torch.full_like(like, 1 - self._eps)
        mean, variance = (blob.tensor.flatten() for blob in self.blobs[2:])
        return mean, variance

    def _remember(self) -> None:
        variance = self.inverse_std.double().pow(-2) - self._eps
        share = 1 - self.options.momentum
        for blob, value in zip(self.blobs[2:], (self.mean, variance), strict=True):
            blob.tensor.lerp_(value.to(blob.tensor.dtype).view(blob.shape), share)
        show(self.blobs[2:], "data")

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        return [self._gradients(diffs[0], bottoms[0], (True, False, False))[0]]

    def backward_params(self, diffs: Diffs, bottoms: Tensors, tops: Tensors) -> None:
        mask = (False, *self.param_propagate_down[:2])
        found = self._gradients(diffs[0], bottoms[0], mask)[1:]
        for blob, gradient in zip(self.blobs, found, strict=False):
            if gradient is not None:
                blob.accumulate_diff(gradient.view(blob.shape))

    def _gradients(self, dy: Tensor, x: Tensor, mask: tuple[bool, ...]) -> Sequence[Tensor | None]:
        """The diffs of x, slope and bias that `mask` asks for."""
        found = torch.ops.aten.native_batch_norm_backward(
            dy.to(x.dtype),
            x,
            self.blobs[0].tensor.flatten(),
            self.mean,
            self.variance,
            self.mean,
            self.inverse_std,
            self._uses_batch,
            self._eps,
            mask,
        )
        return [value if want else None for value, want in zip(found, mask, strict=True)]
