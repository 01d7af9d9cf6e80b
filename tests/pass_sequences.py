"""Random sequences of what people do to a net: passes over all or a part of it, reads, edits,
reshapes, changed settings. What a sequence shows must not depend on how passes are run.
"""

import numpy as np
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2

_CONVOLUTION = """
layer { name: "NAME" type: "Convolution" bottom: "BELOW" top: "NAME"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1
                            weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "NAME_bn" type: "BatchNorm" bottom: "NAME" top: "NAME" }
layer { name: "NAME_scale" type: "Scale" bottom: "NAME" top: "NAME"
        scale_param { bias_term: true } }
"""
_HEAD = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 3 dim: 4 dim: 5 dim: 5 } shape { dim: 3 } } }
"""
_RELU = 'layer { name: "relu_NAME" type: "ReLU" bottom: "NAME" top: "NAME" }'
_TAIL = """
layer { name: "fc" type: "InnerProduct" bottom: "BELOW" top: "fc"
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def _convolution(name, below):
    return _CONVOLUTION.replace("NAME", name).replace("BELOW", below)


def _relu(name):
    return _RELU.replace("NAME", name)


# a residual block, whose layers run in groups
BLOCK = (
    _HEAD
    + _convolution("c1", "data")
    + _relu("c1")
    + _convolution("c2", "c1")
    + 'layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "c2" top: "sum" }'
    + _relu("sum")
    + _convolution("c3", "sum")
    + 'layer { name: "sum2" type: "Eltwise" bottom: "sum" bottom: "c3" top: "sum2" }'
    + _relu("sum2")
    + 'layer { name: "drop" type: "Dropout" bottom: "sum2" top: "sum2" }'
    + _TAIL.replace("BELOW", "sum2")
)
# two losses, parameters of their own, and memory that several blobs share
BRANCHES = (
    _HEAD
    + _convolution("c1", "data")
    + """
layer { name: "prelu" type: "PReLU" bottom: "c1" top: "c1" }
layer { name: "learnt" type: "Parameter" top: "learnt"
        parameter_param { shape { dim: 3 dim: 4 dim: 5 dim: 5 } } }
layer { name: "mixed" type: "Eltwise" bottom: "c1" bottom: "learnt" top: "mixed" }
layer { name: "flat" type: "Flatten" bottom: "mixed" top: "flat" }
layer { name: "slice" type: "Slice" bottom: "mixed" top: "one" top: "two"
        slice_param { slice_point: 1 } }
layer { name: "concat" type: "Concat" bottom: "two" bottom: "one" top: "swapped" }
layer { name: "aux" type: "InnerProduct" bottom: "flat" top: "aux" param { name: "w" }
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "aux_loss"
        loss_weight: 0.5 }
layer { name: "tanh" type: "TanH" bottom: "swapped" top: "tanh" }
layer { name: "fc" type: "InnerProduct" bottom: "tanh" top: "fc" param { name: "w" }
        inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
)
# layers that no graph records, at the beginning and in the middle
FED = (
    """
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 3 dim: 4 dim: 5 dim: 5 } shape { dim: 3 }
                           data_filler { type: "gaussian" } data_filler { value: 1 } } }
"""
    + _convolution("c1", "data")
    + _relu("c1")
    + """
layer { name: "noise" type: "DummyData" top: "noise"
        dummy_data_param { shape { dim: 3 dim: 4 dim: 5 dim: 5 } data_filler { type: "uniform" } } }
layer { name: "noisy" type: "Eltwise" bottom: "c1" bottom: "noise" top: "noisy" }
"""
    + _convolution("c2", "noisy")
    + _relu("c2")
    + _TAIL.replace("BELOW", "c2")
)
NETS = {"block": BLOCK, "branches": BRANCHES, "fed": FED}
FIRST_FED = FED.replace('name: "noise" type', 'name: "noise" include { stage: "x" } type').replace(
    'bottom: "noise"', 'bottom: "data"'
)
NETS["fed_at_first"] = FIRST_FED


class Sequence:
    """One net and the random operations on it; `run` gives all that they showed."""

    def __init__(self, text, seed):
        caffe.set_random_seed(seed)
        self.net = caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN)
        self.seed, self.random = seed, np.random.RandomState(seed)
        self.shown, self.held, self.done = [], [], []
        self.last = len(self.net.layers) - 1

    def run(self, length):
        """[(operation, array), ...] of `length` operations, and of all that there is then."""
        # half of the time an iteration: recordings are made of what repeats
        names = [*self.operations, *["do_train"] * len(self.operations)]
        return self.follow(self.random.choice(names) for _ in range(length))

    def follow(self, names):
        """The same of these operations."""
        self.do_fill()
        self.do_train()
        for name in names:
            self.done.append(name)
            try:
                getattr(self, name)()
            except caffe.CaffeError:  # a part of the net that was not reshaped with the rest
                self._show(-1)
        self.net.reshape()
        self.do_train()
        self.do_look()
        return self.shown

    def _show(self, values):
        self.shown.append((self.done[-1] if self.done else "start", np.array(values)))

    def _layer(self):
        return self.random.randint(self.last + 1)

    def _blob(self):
        return self.net.blobs[self.random.choice(list(self.net.blobs))]

    def _param(self):
        params = [blob for blobs in self.net.params.values() for blob in blobs]
        return params[self.random.randint(len(params))]

    def do_fill(self):
        for name in self.net.inputs:
            blob = self.net.blobs[name]
            values = self.random.randn(*blob.shape)
            blob.data[...] = np.abs(values).astype(int) % 3 if name == "label" else values

    def do_train(self):
        net = self.net
        net.clear_param_diffs()
        self._show(net._forward(0, self.last))
        self._backward()
        for blobs in net.params.values():
            for blob in blobs:
                if not blob.diff_is_zero:
                    blob.tensor = blob.tensor - 0.05 * blob.diff_tensor

    def _backward(self):
        self.net._backward(self.last, 0)

    def do_two_passes(self):
        self.net.clear_param_diffs()
        for _ in range(2):
            self.net._forward(0, self.last)
            self._backward()
        self._show(self._param().diff)

    def do_forward_to(self):
        self.net._forward(0, self._layer())

    def do_forward_from(self):
        self._show(self.net._forward(self._layer(), self.last))

    def do_forward_from_and_backward(self):
        self.net._forward(self._layer(), self.last)
        self._backward()

    def do_forward_in_two_parts(self):
        cut = 1 + self.random.randint(self.last)
        self.net._forward(0, cut - 1)
        self.net._forward(cut, self.last)
        self._backward()

    def do_backward_in_two_parts(self):
        cut = 1 + self.random.randint(self.last)
        self.net._forward(0, self.last)
        self.net._backward(self.last, cut)
        self.net._backward(cut - 1, 0)

    def do_backward_to(self):
        self.net._forward(0, self.last)
        self.net._backward(self.last, self._layer())

    def do_flows(self):
        cut = 1 + self.random.randint(self.last)
        self.net.clear_param_diffs()
        self.net._forward(0, self.last)
        self.net.backward_flows([[(self.last, cut)], [(self.last, 0)]])
        self._show(self._param().diff)

    def do_edit_between(self):
        self.net._forward(0, self.last)
        blob = self._blob()
        if not blob.hidden:
            blob.data[...] *= 0.9
        self._backward()

    def do_edit_all_between(self):
        self.net._forward(0, self.last)
        for blob in self.net.blobs.values():
            if not blob.hidden:
                blob.data[...] *= 0.9
        self._backward()
        self.do_look()

    def do_edit_a_diff_between(self):
        self.net._forward(0, self.last)
        self._blob().diff[...] = 0.1
        self._backward()

    def do_edit_a_weight(self):
        self._param().data[...] *= 0.9

    def do_put_a_weight(self):
        blob = self._param()
        blob.tensor = blob.tensor * 0.9

    def do_hold(self):
        blob = self._blob() if self.random.rand() < 0.5 else self._param()
        if not blob.hidden:
            self.held.append(blob.data if self.random.rand() < 0.5 else blob.diff)

    def do_write_held(self):
        if self.held:
            self.held[self.random.randint(len(self.held))][...] *= 0.9

    def do_let_go(self):
        self.held.clear()

    def do_look(self):
        for blobs in [self.net.blobs, *[dict(enumerate(b)) for b in self.net.params.values()]]:
            for blob in blobs.values():
                if not blob.hidden:
                    self._show(blob.data)
        for blobs in self.net.params.values():
            for blob in blobs:
                self._show(blob.diff)

    def do_look_at_held(self):
        for array in self.held:
            self._show(array)

    def do_reshape_there_and_back(self):
        net, blobs = self.net, [self.net.blobs[name] for name in self.net.inputs]
        shapes, factor = [blob.shape for blob in blobs], self.random.choice([1, 2, 3])
        forward = self.random.rand() < 0.3 and net.name != "branches"
        for blob, shape in zip(blobs, shapes, strict=True):
            blob.reshape(shape[0] * factor, *shape[1:])
        if "learnt" not in net.blobs:
            net.reshape()
            if forward:
                self._show(net._forward(0, self.last))
        for blob, shape in zip(blobs, shapes, strict=True):
            blob.reshape(*shape)
        self.do_fill()
        if self.random.rand() < 0.5:
            net.reshape()

    def do_keep_blobs(self):
        self.net._forward(0, self.last)
        self.net.keep_blobs = not self.net.keep_blobs
        self._backward()

    def do_keep_diffs(self):
        self.net.keep_diffs = not self.net.keep_diffs

    def do_seed(self):
        caffe.set_random_seed(self.random.randint(100))

    def do_freeze(self):
        layers = [layer for layer in self.net.layers if layer.blobs]
        layer = layers[self.random.randint(len(layers))]
        flags = list(layer.param_propagate_down)
        place = self.random.randint(len(flags))
        flags[place] = not flags[place]
        layer.param_propagate_down = flags

    def do_watch(self):
        self.net.after_forward(lambda index: None)
        self.do_train()
        self.net._callbacks["after_forward"].clear()


Sequence.operations = sorted(name for name in vars(Sequence) if name.startswith("do_"))
