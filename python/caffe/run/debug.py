"""debug_info: the mean magnitudes of what every layer computes, in Caffe's lines."""

import logging

import torch

from caffe_plain.glog import say


class DebugInfo:
    """A net's callbacks that log after every layer's forward and backward."""

    def __init__(self, nodes):
        self.nodes = nodes

    def forward(self, index):
        """The means of a layer's tops and parameters."""
        node = self.nodes[index]
        for name, blob in zip(node.top_names, node.tops, strict=True):
            _log(f"[Forward] Layer {node.name}, top blob {name} data: {_mean(blob.tensor)}")
        for number, blob in enumerate(node.layer.blobs):
            _log(
                f"[Forward] Layer {node.name}, param blob {_name(node, number)} data: "
                f"{_mean(blob.tensor)}"
            )

    def backward(self, index):
        """The means of the diffs of a layer's bottoms and parameters, if it runs backward."""
        node = self.nodes[index]
        if not node.needs_backward:
            return
        for name, blob, wanted in zip(
            node.bottom_names, node.bottoms, node.propagate_down, strict=True
        ):
            if wanted:
                _log(
                    f"[Backward] Layer {node.name}, bottom blob {name} diff: "
                    f"{_mean(blob.diff_tensor)}"
                )
        for number, (blob, wanted) in enumerate(
            zip(node.layer.blobs, node.layer.param_propagate_down, strict=True)
        ):
            if wanted:
                _log(
                    f"[Backward] Layer {node.name}, param blob {number} diff: "
                    f"{_mean(blob.diff_tensor)}"
                )


def log_norms(net):
    """The L1 and L2 norms of all parameters and of their diffs."""
    data = [p.blob.tensor for p in net.learnable]
    diff = [p.blob.diff_tensor for p in net.learnable]
    say(
        "net",
        "    [Backward] All net params (data, diff): "
        f"L1 norm = ({_norm(data, 1):.6g}, {_norm(diff, 1):.6g}); "
        f"L2 norm = ({_norm(data, 2):.6g}, {_norm(diff, 2):.6g})",
        logging.ERROR,
    )


def _name(node, number):
    """A parameter's own name, else its number in the layer."""
    specs = node.param.param
    return specs[number].name if number < len(specs) and specs[number].name else number


def _norm(tensors, order):
    norms = torch._foreach_norm(tensors, order)
    return torch.linalg.vector_norm(torch.stack(norms), order) if norms else 0.0


def _mean(tensor):
    return f"{tensor.abs().sum(dtype=torch.float64) / max(tensor.numel(), 1):.6g}"


def _log(text):
    say("net", "    " + text)
