"""caffe test: score a model on its test data."""

import numpy as np

from caffe_plain.errors import CaffeError
from caffe_plain.glog import say

from .. import device
from ..net import Net
from ..proto.caffe_pb2 import TEST
from .flags import stages, use_gpus
from .net_lines import describe


def test(options):
    """Run the command."""
    if not options.model:
        raise CaffeError("test needs -model, a model definition (train_val.prototxt)")
    if not options.weights:
        raise CaffeError("test needs -weights, the model's weights (.caffemodel)")
    if options.iterations < 1:
        raise CaffeError(f"-iterations {options.iterations}: expected at least 1")
    use_gpus(options.gpu)
    device.set_precision(options.precision)
    net = Net(options.model, TEST, level=options.level, stages=stages(options.stage))
    describe(net)
    for path in options.weights.split(","):
        net.copy_from(path.strip())
    say("caffe", f"Running for {options.iterations} iterations.")
    loss, means = _mean_outputs(net, options.iterations)
    say("caffe", f"Loss: {loss:.6g}")
    weights = net.blob_loss_weights
    for name, values in means.items():
        for value in values:
            weight = weights[name]
            share = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            say("caffe", f"{name} = {value:.6g}{share}")


def _mean_outputs(net, batches):
    """The mean loss and {output name: its values' means} over some batches."""
    loss, sums = 0.0, {}
    for batch in range(batches):
        loss += net._forward(0, len(net.nodes) - 1)
        for name in net.outputs:
            values = net.blobs[name].data.astype(np.float64).ravel()
            for value in values:
                say("caffe", f"Batch {batch}, {name} = {value:.6g}")
            sums[name] = sums.get(name, 0) + values
    return loss / batches, {name: total / batches for name, total in sums.items()}
