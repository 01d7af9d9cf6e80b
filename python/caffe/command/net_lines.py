"""The lines that the original logs while it builds a net, as existing log readers expect them."""

from caffe_plain.glog import say


def describe(net):
    """Log a net's layers, shapes, memory and which layers back-propagate."""
    say("net", f"Initializing net from parameters: \n{net.filtered_param}")
    bytes_needed = 0
    for node in net.nodes:
        say("net", f"Creating Layer {node.name}")
        for name in node.bottom_names:
            say("net", f"{node.name} <- {name}")
        for name in node.top_names:
            place = " (in-place)" if name in node.bottom_names else ""
            say("net", f"{node.name} -> {name}{place}")
        say("net", f"Setting up {node.name}")
        for blob, weight in zip(node.tops, node.loss_weights, strict=True):
            say("net", "Top shape: " + " ".join([*map(str, blob.shape), f"({blob.count})"]))
            if weight:
                say("net", f"    with loss weight {weight:.6g}")
            bytes_needed += 4 * blob.count
        say("net", f"Memory required for data: {bytes_needed}")
    for node in reversed(net.nodes):
        verb = "needs" if node.needs_backward else "does not need"
        say("net", f"{node.name} {verb} backward computation.")
    for name in net.outputs:
        say("net", f"This network produces output {name}")
    say("net", "Network initialization done.")
