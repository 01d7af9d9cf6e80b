"""caffe time: how long each layer and the whole net take, forward and backward.

Layers are timed one by one; "Average Forward pass" and the lines after it are for whole passes, in
which the engine may run several layers as one. -ways says in which way each layer does what can be
done in several. -roofline adds, for each layer, operations and bytes per second, and the share of
what the machine can do.
"""

from caffe_plain.errors import CaffeError
from caffe_plain.glog import say

from .. import device
from ..kernels import choice
from ..net import Net
from ..proto.caffe_pb2 import TEST, TRAIN
from ..timer import Timer
from .flags import stages, use_gpus
from .net_lines import describe
from .roofline import Roofline, backward_work, forward_work

_PHASES = {"": TRAIN, "TRAIN": TRAIN, "TEST": TEST}


def time(options):
    """Run the command."""
    if not options.model:
        raise CaffeError("time needs -model, a model definition to time")
    if options.phase not in _PHASES:
        raise CaffeError(f"-phase {options.phase}: expected TRAIN or TEST")
    if options.iterations < 1:
        raise CaffeError(f"-iterations {options.iterations}: expected at least 1")
    use_gpus(options.gpu)
    device.set_precision(options.precision)
    if options.fixed_ways:
        choice.set_measured(False)
    device.keep_freed_memory()
    net = Net(
        options.model, _PHASES[options.phase], level=options.level, stages=stages(options.stage)
    )
    describe(net)
    last = len(net.nodes) - 1
    say("caffe", "Performing Forward")
    say("caffe", f"Initial loss: {net._forward(0, last):.6g}")
    say("caffe", "Performing Backward")
    net._backward(last, 0)
    if options.ways:
        _say_ways(net)
    by_layer = _benchmark(net, options.iterations)
    if options.roofline:
        _rate(net, by_layer)


def _say_ways(net):
    """Log in which way each layer does what can be done in several."""
    indices = range(len(net.nodes))
    ways = [[] for _ in indices]
    for run, order in ((net._forward, indices), (net._backward, reversed(indices))):
        for index in order:
            with choice.noting() as noted:
                run(index, index)
            ways[index] += noted
    net.clear_param_diffs()
    for node, noted in zip(net.nodes, ways, strict=True):
        for operation, way in noted:
            say("caffe", f"{node.name:>10}\t{operation.partition(', ')[2]}: {way}")


def _benchmark(net, iterations):
    """Log what the original logs; return (forward, backward) of each layer, in ms."""
    indices = range(len(net.nodes))
    last, total = indices[-1], Timer()
    say("caffe", "*** Benchmark begins ***")
    say("caffe", f"Testing for {iterations} iterations.")
    total.start()
    forward, backward, by_layer = 0.0, 0.0, [[0.0, 0.0] for _ in indices]
    for iteration in range(iterations):
        for index in indices:
            by_layer[index][0] += _ms(net._forward, index, index)
        for index in reversed(indices):
            by_layer[index][1] += _ms(net._backward, index, index)
        net.clear_param_diffs()
        passes = _ms(net._forward, 0, last), _ms(net._backward, last, 0)
        net.clear_param_diffs()
        forward, backward = forward + passes[0], backward + passes[1]
        say("caffe", f"Iteration: {iteration + 1} forward-backward time: {sum(passes):.6g} ms.")
    total.stop()
    say("caffe", "Average time per layer: ")
    for node, (down, up) in zip(net.nodes, by_layer, strict=True):
        say("caffe", f"{node.name:>10}\tforward: {down / iterations:.6g} ms.")
        say("caffe", f"{node.name:>10}\tbackward: {up / iterations:.6g} ms.")
    say("caffe", f"Average Forward pass: {forward / iterations:.6g} ms.")
    say("caffe", f"Average Backward pass: {backward / iterations:.6g} ms.")
    say("caffe", f"Average Forward-Backward: {(forward + backward) / iterations:.6g} ms.")
    say("caffe", f"Total Time: {total.ms:.6g} ms.")
    say("caffe", "*** Benchmark ends ***")
    return [(down / iterations, up / iterations) for down, up in by_layer]


def _rate(net, by_layer):
    """Log how close each layer came to the roofline, except layers that only pass blobs on."""
    roofline = Roofline()
    say("caffe", f"Roofline: {roofline}, measured")
    for node, (down, up) in zip(net.nodes, by_layer, strict=True):
        if node.layer.shares_data or not node.bottoms:
            continue
        say("caffe", f"{node.name:>10}\tforward: {roofline.rates(forward_work(node), down)}")
        if node.needs_backward:
            say("caffe", f"{node.name:>10}\tbackward: {roofline.rates(backward_work(node), up)}")


def _ms(function, *args):
    timer = Timer()
    timer.start()
    function(*args)
    return timer.ms
