"""This repository's engine, as the driver uses it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import torch

from caffe import device
from caffe.arriving import Arriving, number
from caffe.files import weights
from caffe.kernels import choice
from caffe.kernels.native import LIBRARY

from .. import backward
from ..errors import RelayError
from ..flows import Flow
from ..graph import Graph
from ..layers import register
from ..layers.native.build import LIBRARIES
from ..layers.split import Split
from ..run_folder import read
from .interface import Engine, Step, check_same, refuse_missing


class Native(Engine):
    """Fused flows, steps of some parameters only, GPUs, several processes."""

    trains_together = True

    def register_layers(self) -> None:
        register(self.caffe)

    # ---- the machine -------------------------------------------------------------------------

    def use_device(self, gpu: str = "auto", precision: str = "fp32") -> str:
        refuse_missing([gpu], self.gpu_count())
        return super().use_device(gpu, precision)

    def set_precision(self, precision: str) -> None:
        self.caffe.set_precision(precision)

    def fix_ways(self) -> None:
        choice.set_measured(False)

    def gpu_count(self) -> int:
        return self.caffe.gpu_count()

    def keep_freed_memory(self) -> None:
        self.caffe.keep_freed_memory()

    def facts(self) -> list[tuple[str, str]]:
        capability = torch.backends.cpu.get_cpu_capability()
        cuda = torch.version.cuda or "not in this PyTorch"
        gpus = [
            (f"GPU {index}", _gpu(torch.cuda.get_device_properties(index)))
            for index in range(self.gpu_count())
        ]
        return [
            ("PyTorch", torch.__version__),
            ("CPU", f"{torch.get_num_threads()} threads, {capability}"),
            ("CUDA", f"{cuda}, cuDNN {torch.backends.cudnn.version() or 'none'}"),
            *(gpus or [("GPU", "none: nets run on the CPU")]),
            *((library.name, library.state()) for library in (LIBRARY, *LIBRARIES)),
            ("layers", f"{len(self.caffe.layer_type_list())} types"),
        ]

    # ---- solvers -----------------------------------------------------------------------------

    def make_solver(self, path: str, extra: str | None = None, prefix: str = "") -> Any:
        solver = self.caffe.get_solver(path, extra)
        solver.param.snapshot_prefix = prefix or solver.param.snapshot_prefix
        return solver

    def wrap(self, solver: Any, path: str | None) -> Any:
        if path:
            check_same(solver, read(path, self.pb.SolverParameter()), path)
        return solver

    def net_param(self, solver: Any) -> Any:
        return solver.net.param

    def test_net_param(self, solver: Any, index: int) -> Any:
        return solver.test_nets[index].param

    def make_steps(self, solver: Any, flows: list, own_momentum: bool, scaled: bool) -> list[Step]:
        return [
            NativeStep(self, solver, flow, own_momentum and flow is not flows[-1]) for flow in flows
        ]

    def count_iteration(self, solver: Any) -> None:
        solver.count_iteration()

    # ---- nets --------------------------------------------------------------------------------

    def forward(self, net: Any) -> Any:
        return net._loss(0, len(net.layers) - 1)

    def number(self, loss: Any, divisor: float = 1) -> Any:
        return number(loss, divisor)

    def value(self, blob: Any) -> Any:
        return number(blob.tensor)

    def backward(self, net: Any, flows: list | None, fused: bool = True) -> Callable[[], None]:
        if flows is None:
            return backward.Whole(net)
        if fused:
            return backward.Fused(net, flows)
        for name, layer in net.layer_dict.items():
            if layer.type == "Split" and not isinstance(layer, Split):
                raise RelayError(
                    f"layer {name!r}: one BackwardFromTo for each range needs the Split of "
                    "relaybp.layers, and the net was built before that was registered; call "
                    "relaybp.engines.load() first, or let the flows run fused"
                )
        return backward.Ranges(net, flows)

    def check_repeated(self, graph: Graph, flows: list, what: str) -> None:
        pass

    def freeze(self, solver: Any, names: set[str], source: str) -> None:
        net = solver.net
        chosen = [net.layer_dict[name] for name in names]
        still = {self.address(blob) for layer in chosen for blob in layer.blobs}
        for record in net.learnable:
            if self.address(record.blob) in still:
                record.lr_mult = 0
        for layer in chosen:
            layer.param_propagate_down = [False] * len(layer.blobs)

    def keep_values(self, net: Any, blobs: bool | list[str], diffs: bool) -> None:
        net.keep_blobs, net.keep_diffs = blobs, diffs

    @contextmanager
    def keeping_diffs(self, net: Any) -> Iterator[None]:
        before, net.keep_diffs = net.keep_diffs, True
        try:
            yield
        finally:
            net.keep_diffs = before

    @contextmanager
    def looking_inside(self, net: Any) -> Iterator[None]:
        before = net.keep_blobs, net.keep_diffs
        net.keep_blobs = net.keep_diffs = True
        try:
            yield
        finally:
            net.keep_blobs, net.keep_diffs = before

    def copies(self, blobs: list) -> Callable[[], None]:
        tensors = [blob.tensor for blob in blobs]
        kept = [torch.empty_like(tensor) for tensor in tensors]
        if kept:
            torch._foreach_copy_(kept, tensors)

        def put_back() -> None:
            for blob, values in zip(blobs, kept):
                blob.tensor.copy_(values)
                blob.show("data")

        return put_back

    def random_state(self) -> dict[str, torch.Tensor]:
        return device.random_state()

    def set_random_state(self, state: dict[str, torch.Tensor]) -> None:
        device.set_random_state(state)

    def finite(self, solver: Any, loss: Any) -> Any:
        diffs = [
            record.blob.diff_tensor
            for record in solver.net.learnable
            if record.lr_mult and not record.blob.diff_is_zero
        ]
        if isinstance(loss, Arriving) or (diffs and diffs[0].is_cuda):
            return self._finite_on_gpu(solver, diffs, loss)
        return float(math.isfinite(loss) and all(map(_is_finite, diffs)))

    def _finite_on_gpu(self, solver: Any, diffs: list, loss: Arriving | float) -> Any:
        values = list(torch._foreach_norm(diffs, math.inf))
        if isinstance(loss, Arriving):
            values.append(loss.tensor.reshape(()).to(diffs[0]))
        bad = torch.stack(values).isfinite().logical_not().any().float()
        solver.held = bad if solver.held is None else torch.maximum(bad, solver.held)
        return number(1 - solver.held)

    def release(self, solver: Any) -> None:
        solver.held = None

    def address(self, blob: Any) -> int:
        return blob.tensor.data_ptr()

    def scale_diff(self, blob: Any, factor: float) -> None:
        blob.diff_tensor.mul_(factor)
        blob.show("diff")


class NativeStep(Step):
    """An update of the records that a flow's layers use."""

    def __init__(self, engine: Native, solver: Any, flow: Flow, own_momentum: bool):
        self.solver, self.loss, self.own_momentum = solver, flow.loss, own_momentum
        users = {
            engine.address(blob): layers
            for blob, layers in Graph(solver.net).parameters(engine.address)
        }
        chosen = [
            index
            for index, record in enumerate(solver.net.learnable)
            if record.lr_mult and flow.layers.intersection(users[engine.address(record.blob)])
        ]
        self.learnable = [solver.net.learnable[index] for index in chosen]
        self.history = (
            solver.new_history(self.learnable)
            if own_momentum
            else [[kept[index] for index in chosen] for kept in solver.history]
        )

    def __call__(self, factor: float) -> None:
        self.solver.update(self.learnable, self.history, factor)

    def save(self, path: str) -> None:
        arrays = [kept.cpu().numpy() for kept_list in self.history for kept in kept_list]
        weights.write_state(path, self.solver.iter, "", 0, arrays)

    def restore(self, path: str) -> None:
        saved = weights.read_state(path).history
        mine = [kept for kept_list in self.history for kept in kept_list]
        if [array.size for array in saved] != [kept.numel() for kept in mine]:
            raise RelayError(
                f"{path}: its {len(saved)} history blobs do not fit the {len(mine)} "
                f"of the flow of {self.loss!r}: another net, relay file or solver"
            )
        for kept, array in zip(mine, saved):
            kept.copy_(torch.from_numpy(array.reshape(tuple(kept.shape))))


def _is_finite(tensor: torch.Tensor) -> bool:
    """The sum tells in one fast pass, unless it overflows."""
    return math.isfinite(tensor.sum()) or bool(tensor.isfinite().all())


def _gpu(properties: Any) -> str:
    """A description of one GPU."""
    return (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
        f"compute capability {properties.major}.{properties.minor}"
    )
