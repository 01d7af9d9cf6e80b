"""Net: pycaffe's network on the engine's graph."""

import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np

from caffe_plain.errors import CaffeError, OutOfMemoryError, ShapeError, UnknownNameError, nearest
from caffe_plain.phases import state_of

from . import device
from .files.text import read_net
from .graph.build import build, reshape
from .graph.net_weights import copy_weights, save_hdf5, save_weights, share_weights
from .graph.rewrite import filter_net, insert_splits
from .graph.shortage import advised
from .proto import caffe_pb2
from .run import batches
from .run.debug import DebugInfo
from .run.sweep import Sweep


class Net:
    """A network: `Net("net.prototxt", caffe.TEST, level=0, stages=None, weights="w.caffemodel")`.

    `network_file` is a path or a NetParameter. The old order `Net(file, weights, phase)` works.
    Blobs, params and layers are live: `net.blobs["conv1"].data` is a writable array.
    """

    def __init__(self, network_file, *args, phase=None, level=0, stages=None, weights=None):
        phase, level, stages, weights = _arguments(args, phase, level, stages, weights)
        source = read_net(network_file)
        state = state_of(source, phase, level, stages or ())
        self.filtered_param = filter_net(source, state)
        self.param = insert_splits(self.filtered_param)
        self.phase = phase
        self.name = self.param.name
        self._graph = build(self.param)
        self._params = OrderedDict((n.name, n.layer.blobs) for n in self.nodes if n.layer.blobs)
        self._callbacks = {
            "before_forward": [],
            "after_forward": [],
            "before_backward": [],
            "after_backward": [],
        }
        self._on_gradients = []
        self._precision = device.precision()  # of the last forward pass
        self._sweep = Sweep(self.nodes, self._callbacks, self._on_gradients)
        self._debug = DebugInfo(self.nodes)
        self.debug_info = source.debug_info
        for path in [weights] if isinstance(weights, (str, os.PathLike)) else weights or ():
            self.copy_from(path)

    # ---- what the net is made of -------------------------------------------------------------

    @property
    def nodes(self):
        """The engine's nodes: one per layer, in order."""
        return self._graph.nodes

    @property
    def learnable(self):
        """The engine's records of the learnable blobs, shared ones once."""
        return self._graph.params

    @property
    def blobs(self):
        """OrderedDict of blob name -> Blob."""
        return self._graph.blobs

    @property
    def params(self):
        """OrderedDict of layer name -> its parameter blobs."""
        return self._params

    @property
    def layers(self):
        """The layers in order; a Python layer is the user's own object."""
        return [node.layer.public for node in self.nodes]

    @property
    def layer_dict(self):
        """OrderedDict of layer name -> layer."""
        return OrderedDict((node.name, node.layer.public) for node in self.nodes)

    @property
    def top_names(self):
        """OrderedDict of layer name -> names of its tops."""
        return OrderedDict((node.name, list(node.top_names)) for node in self.nodes)

    @property
    def bottom_names(self):
        """OrderedDict of layer name -> names of its bottoms."""
        return OrderedDict((node.name, list(node.bottom_names)) for node in self.nodes)

    @property
    def blob_loss_weights(self):
        """OrderedDict of blob name -> its weight in the loss."""
        weights = OrderedDict((name, 0.0) for name in self.blobs)
        for node in self.nodes:
            weights.update(
                (name, weight)
                for name, weight in zip(node.top_names, node.loss_weights, strict=True)
                if weight
            )
        return weights

    @property
    def inputs(self):
        """The names of the blobs that the user fills."""
        return list(self._graph.inputs)

    @property
    def outputs(self):
        """The names of the blobs that no layer consumes."""
        return list(self._graph.outputs)

    # pycaffe's lists behind these; a blob's index is its place in `blobs`

    _layer_names = property(lambda self: [node.name for node in self.nodes])
    _blobs = property(lambda self: list(self.blobs.values()))
    _blob_names = property(lambda self: list(self.blobs))
    _blob_loss_weights = property(lambda self: list(self.blob_loss_weights.values()))
    _inputs = property(lambda self: self._blob_ids(self.inputs))
    _outputs = property(lambda self: self._blob_ids(self.outputs))

    def _top_ids(self, layer):
        return self._blob_ids(self.nodes[layer].top_names)

    def _bottom_ids(self, layer):
        return self._blob_ids(self.nodes[layer].bottom_names)

    def _blob_ids(self, names):
        all_names = list(self.blobs)
        return [all_names.index(name) for name in names]

    # ---- running it --------------------------------------------------------------------------

    def forward(self, blobs=None, start=None, end=None, **kwargs):
        """Run the layers named `start` to `end` and return {output name: array}.

        `kwargs` fill the inputs; `blobs` lists further blobs to return.
        """
        first = self._index(start) if start is not None else 0
        last = self._index(end) if end is not None else len(self.nodes) - 1
        outputs = self.nodes[last].top_names if end is not None else self._graph.outputs
        if kwargs:
            self._fill(kwargs, self._graph.inputs, "data")
        self._forward(first, last)
        return {name: self._blob(name).data for name in [*outputs, *(blobs or ())]}

    def backward(self, diffs=None, start=None, end=None, **kwargs):
        """Run backward from layer `start` down to `end` and return {input name: diff array}.

        `kwargs` fill the diffs of the outputs; `diffs` lists further blobs to return.
        """
        first = self._index(start) if start is not None else len(self.nodes) - 1
        last = self._index(end) if end is not None else 0
        outputs = self.nodes[last].bottom_names if end is not None else self._graph.inputs
        if kwargs:
            self._fill(kwargs, self._graph.outputs, "diff")
        self._backward(first, last)
        return {name: self._blob(name).diff for name in [*outputs, *(diffs or ())]}

    def forward_all(self, blobs=None, **kwargs):
        """`forward` for inputs of any number of items, in batches: {output name: array}."""
        return batches.forward_all(self, blobs, kwargs)

    def forward_backward_all(self, blobs=None, diffs=None, **kwargs):
        """`forward` and `backward` in batches, for inputs and diffs of outputs of any length."""
        return batches.forward_backward_all(self, blobs, diffs, kwargs)

    def _batch(self, blobs):
        return batches.batches(self, blobs)

    def set_input_arrays(self, data, labels):
        """Let the first layer, a MemoryData, read from `data` (N, C, H, W) and `labels` (N,)."""
        layer = self.nodes[0].layer
        if layer.type != "MemoryData":
            raise CaffeError(
                "set_input_arrays: the first layer must be a MemoryData; this net's "
                f"is {self.nodes[0].name!r} ({layer.type})"
            )
        layer.set_input_arrays(data, labels)

    _set_input_arrays = set_input_arrays

    def _forward(self, start, end):
        """Run layers `start` to `end` (indices, both included); return their weighted loss."""
        return float(self._loss(start, end))

    def _loss(self, start, end):
        """`_forward` without waiting for a GPU: the loss as a number or a tensor without axes."""
        self._check_range(start, end)
        self._precision = device.precision()
        with self._running():
            return self._sweep.forward(start, end)

    def _backward(self, start, end):
        """Caffe's BackwardFromTo: layers `start` down to `end` (indices, both included)."""
        self._check_range(end, start)
        with self._running():
            self._sweep.backward(end, start)

    def backward_flows(self, flows):
        """Run several backward flows in one sweep.

        A flow is a list of (start, end) index ranges, each as `_backward` takes them: the layers
        that it passes through. It starts at the losses among them, and a blob's diff holds only
        what came through the flow's own layers. The sum over the flows is added to the parameter
        diffs.
        """
        with self._running():
            self._sweep.backward_flows(flows)

    @contextmanager
    def _running(self):
        """A context for passes: backward has the precision of the forward pass that it follows."""
        device.make_current()
        try:
            with device.in_precision(self._precision):
                yield
        except OutOfMemoryError as error:
            raise advised(error, self.nodes) from error

    @property
    def keep_diffs(self):
        """Whether blobs keep their diffs after backward, as in Caffe (default: True).

        False frees each as soon as it is used; a blob's `.diff` is then meaningless.
        Parameters always keep theirs.
        """
        return self._sweep.keep_diffs

    @keep_diffs.setter
    def keep_diffs(self, keep):
        self._sweep.keep_diffs = bool(keep)

    @property
    def keep_blobs(self):
        """Whether every blob keeps its values after forward, as in Caffe (default: True).

        False lets the engine skip values that only other layers read, or let them go: while
        training, what a residual block adds to its shortcut; in the TEST phase all except the
        inputs and outputs. The `.diff` of such a blob is then meaningless, like that of a blob that
        a Split copies. Its `.data` is an error while training; in the TEST phase it takes another
        pass. A set of names is False for all other blobs.
        """
        return self._sweep.keep_blobs or False

    @keep_blobs.setter
    def keep_blobs(self, keep):
        keep = keep if isinstance(keep, bool) else frozenset(self._checked(keep))
        if keep != self.keep_blobs:
            self._sweep.spread()
            self._sweep = Sweep(
                self.nodes,
                self._callbacks,
                self._on_gradients,
                keep or frozenset(),
                self.keep_diffs,
            )

    def _checked(self, names):
        for name in names:
            self._blob(name)
        return names

    def reshape(self):
        """Pass the shapes of the input blobs on through all layers."""
        for node in self.nodes:
            reshape(node)

    def clear_param_diffs(self):
        """Zero the gradient of every parameter."""
        for param in self.learnable:
            param.blob.clear_diff()

    @property
    def debug_info(self):
        """Whether every layer logs the mean magnitudes of what it computes; settable."""
        return self._debug.forward in self._callbacks["after_forward"]

    @debug_info.setter
    def debug_info(self, wanted):
        for event, log in (
            ("after_forward", self._debug.forward),
            ("after_backward", self._debug.backward),
        ):
            if wanted and log not in self._callbacks[event]:
                self._callbacks[event].insert(0, log)
            elif not wanted and log in self._callbacks[event]:
                self._callbacks[event].remove(log)

    def _check_range(self, first, last):
        if not 0 <= first <= last < len(self.nodes):
            has = f"has layers 0 to {len(self.nodes) - 1}" if self.nodes else "has no layer"
            raise CaffeError(f"layers {first} to {last}: this net {has}")

    def _fill(self, arrays, names, what):
        if set(arrays) != set(names):
            raise CaffeError(
                f"expected an array for each of {sorted(names)}; found {sorted(arrays)}"
            )
        for name, array in arrays.items():
            array, blob = np.asarray(array), self.blobs[name]
            if array.shape[:1] != blob.shape[:1]:
                raise CaffeError(
                    f"blob {name!r} has a batch of {blob.shape[0]}; the array has "
                    f"shape {array.shape}: reshape the blob first"
                )
            try:
                if what == "data" and array.shape == blob.shape:
                    blob.copy_from(array)
                else:
                    getattr(blob, what)[...] = array
            except ValueError:
                raise ShapeError(
                    f"blob {name!r} has shape {blob.shape}; the array has shape "
                    f"{array.shape}: reshape the blob first"
                ) from None

    def _index(self, name):
        names = self._layer_names
        if name not in names:
            raise UnknownNameError(f"no layer {name!r}; " + nearest(name, names))
        return names.index(name)

    def _blob(self, name):
        if name not in self.blobs:
            raise UnknownNameError(f"no blob {name!r}; " + nearest(name, self.blobs))
        return self.blobs[name]

    # ---- weights -----------------------------------------------------------------------------

    def copy_from(self, path):
        """Load the parameters of equally named layers from a .caffemodel or .caffemodel.h5."""
        copy_weights(self.nodes, self.learnable, path)

    def save(self, path, write_diff=False):
        """Write a .caffemodel, or HDF5 if `path` ends in .h5."""
        save_weights(self.name, self.nodes, path, write_diff)

    def load_hdf5(self, path):
        """Load the parameters of equally named layers from HDF5."""
        self.copy_from(path)

    def save_hdf5(self, path, write_diff=False):
        """Write the parameters as HDF5, whatever `path` ends in."""
        save_hdf5(self.nodes, path, write_diff)

    def share_with(self, other):
        """Use the parameter memory of equally named layers of another net."""
        share_weights(self.nodes, other.nodes)

    # ---- callbacks: f(layer index) -----------------------------------------------------------

    def before_forward(self, callback):
        """Call `callback(layer_index)` before each layer's forward."""
        self._callbacks["before_forward"].append(callback)

    def after_forward(self, callback):
        """Call `callback(layer_index)` after each layer's forward."""
        self._callbacks["after_forward"].append(callback)

    def before_backward(self, callback):
        """Call `callback(layer_index)` before each layer's backward."""
        self._callbacks["before_backward"].append(callback)

    def after_backward(self, callback):
        """Call `callback(layer_index)` after each layer's backward."""
        self._callbacks["after_backward"].append(callback)

    def after_gradients(self, callback: Callable[[list], None]) -> None:
        """Call `callback(blobs)` with a layer's parameters when backward is through with it.

        That is after the last of the flows that pass the layer, and layers stay fused; where a GPU
        replays the pass, several layers' parameters come at a time. A backward pass over a part of
        the net does not call it: another part may come to the same layer.
        """
        self._on_gradients.append(callback)


def _arguments(args, phase, level, stages, weights):
    """pycaffe's argument orders: (phase, level, stages, weights) or the old (weights, phase)."""
    args = list(args)
    if args and isinstance(args[0], (str, os.PathLike)):
        weights = args.pop(0)
    if args:
        phase = args.pop(0)
    level = args.pop(0) if args else level
    stages = args.pop(0) if args else stages
    weights = args.pop(0) if args else weights
    if args or phase not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        raise CaffeError(
            "Net(network_file, phase, level=0, stages=None, weights=None): phase must "
            f"be caffe.TRAIN or caffe.TEST; found {phase!r}"
        )
    return phase, level, stages, weights
