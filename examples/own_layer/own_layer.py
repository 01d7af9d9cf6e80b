"""A layer of one's own, with a message of its own: python examples/own_layer/own_layer.py"""

from pathlib import Path

import torch

import caffe

HERE = Path(__file__).parent
STEP = 0.01  # of the bias, for the difference quotient
caffe.proto.extend(HERE / "gate.proto")  # before any net is made


@caffe.register_layer
class Gate(caffe.TensorLayer):
    """y = x sigmoid(slope x + bias), one bias for each channel.

    bottom, top: (N, C, ...). Options: gate_param (gate.proto).
    """

    param_name = "gate_param"  # self.options is layer_param.gate_param

    def setup(self, shape):
        self.add_param((shape[1],), self.options.bias_filler)

    def _gate(self, x):
        bias = self.blobs[0].tensor.view(1, -1, *[1] * (x.dim() - 2))  # (1, C, 1, ...)
        return torch.sigmoid(self.options.slope * x + bias)

    def forward(self, x):
        return x * self._gate(x)

    def backward(self, diffs, bottoms, tops, wanted):
        (dy,), (x,) = diffs, bottoms
        gate = self._gate(x)
        return [dy * (gate + self.options.slope * x * gate * (1 - gate))]

    def backward_params(self, diffs, bottoms, tops):
        (dy,), (x,) = diffs, bottoms
        gate = self._gate(x)
        dbias = dy * x * gate * (1 - gate)
        self.blobs[0].accumulate_diff(dbias.transpose(0, 1).flatten(1).sum(1))  # (C,)


def main():
    net = caffe.Net(str(HERE / "net.prototxt"), caffe.TRAIN)
    net.blobs["x"].data[...] = 1
    loss = float(net.forward()["loss"])
    net.backward()
    bias = net.params["gate"][0]
    slope = float(bias.diff[0])
    losses = []
    for step in (STEP, -2 * STEP):
        bias.data[0] += step
        losses.append(float(net.forward()["loss"]))
    quotient = (losses[0] - losses[1]) / (2 * STEP)
    print("The layer Gate, with the gate_param of net.prototxt, on ones:")
    print(f"loss {loss:.4f}; its derivative by the bias of channel 0")
    print(f"  by the layer's backward       {slope:.4f}")
    print(f"  by a difference quotient      {quotient:.4f}")


if __name__ == "__main__":
    main()
