"""caffe test: score a model on its test data."""

from caffe_plain.average_precision import Detections
from caffe_plain.errors import CaffeError
from caffe_plain.glog import say
from caffe_plain.means import mean_outputs

from .. import device
from ..kernels import choice
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
    if options.fixed_ways:
        choice.set_measured(False)
    net = Net(options.model, TEST, level=options.level, stages=stages(options.stage))
    describe(net)
    for path in options.weights.split(","):
        net.copy_from(path.strip())
    net.keep_blobs = False
    say("caffe", f"Running for {options.iterations} iterations.")

    detections = Detections(net).outputs  # have a meaning all together

    def log_batch(batch):
        for name in (name for name in net.outputs if name not in detections):
            for value in net.blobs[name].data.ravel():
                say("caffe", f"Batch {batch}, {name} = {value:.6g}")

    loss, means = mean_outputs(net, options.iterations, observe=log_batch)
    say("caffe", f"Loss: {loss:.6g}")
    weights = net.blob_loss_weights
    for name, values in means.items():
        for value in values.ravel():
            weight = weights[name]
            share = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            say("caffe", f"{name} = {value:.6g}{share}")
