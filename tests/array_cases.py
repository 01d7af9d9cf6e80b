"""What scripts see when they hold, reshape and write into arrays of blobs, under either Caffe.

Each function of CASES makes its own net, with values that are exact in single precision, and
returns nested lists of numbers. Under an original BVLC Caffe (Python 3.9, numpy 1.19)
tests/oracle/record_arrays.py records them.
"""

import os
import tempfile

import numpy as np

import caffe

CONV = """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 3 kernel_size: 3
                            weight_filler { type: "constant" value: 0.5 }
                            bias_filler { type: "constant" value: 1 } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""
PLAIN = 'input: "x" input_shape { dim: 2 dim: 2 dim: 6 dim: 6 } force_backward: true' + CONV
PYTHON = """
layer { name: "user" type: "Python" bottom: "%s" top: "user"
        python_param { module: "user_layers" layer: "Flat" } }
"""
LEARNING = (
    'input: "x" input_shape { dim: 2 dim: 2 dim: 6 dim: 6 } force_backward: true'
    + CONV
    + 'layer { name: "loss" type: "Reduction" bottom: "pool" top: "loss" loss_weight: 0.25 }'
)
SHARING = [
    ("Split", ""),
    ("Flatten", ""),
    ("Reshape", "reshape_param { shape { dim: -1 } }"),
    ("Concat", ""),
    ("Slice", ""),
    ("Dropout", ""),
    ("Power", ""),
    ("Tile", "tile_param { tiles: 1 }"),
    ("ReLU", ""),
    ("AbsVal", ""),
    ("Scale", ""),
]


def net(text, phase=caffe.TEST):
    """The net of a prototxt's text."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        with open(path, "w") as file:
            file.write(text)
        return caffe.Net(path, phase)


def plain(text=PLAIN):
    """A net whose input counts up; it has not run yet."""
    made = net(text)
    made.blobs["x"].data[...] = counted(made.blobs["x"].data.shape)
    return made


def counted(shape):
    """0, 1, 2, ... in C order, modulo 7."""
    return (np.arange(np.prod(shape)) % 7).reshape(shape)


def values(array):
    return np.asarray(array, np.float64).tolist()


def views():
    """Writing through what numpy makes of an array without a copy."""
    made = net(PLAIN)
    x, weight = made.blobs["x"], made.params["conv"][0]
    found = []
    x.data.ravel()[:] = 5
    found.append(values(x.data.sum()))
    x.data.reshape(2, -1)[1] = 7
    found.append(values(x.data.sum()))
    flat = x.data
    flat.shape = (2, 72)
    flat[:, 3] = 1
    found.append([values(x.data[0, 0]), list(x.data.shape)])
    x.data.view(np.uint32)[0, 0] = 0
    memoryview(x.data.reshape(-1)).cast("B").cast("f")[40] = 9
    found.append(values(x.data[0]))
    weight.data.reshape(3, -1)[0] = 3
    weight.data.ravel()[-2:] = 8
    found.append(values(weight.data))
    weight.diff.reshape(-1)[...] = 2
    x.diff.swapaxes(0, 1)[1, 0] = 4
    found.append([values(weight.diff.sum()), values(x.diff.sum())])
    made.forward()
    found.append(values(made.blobs["conv"].data))
    return found + [
        [bool(blob.data.flags.c_contiguous), bool(blob.diff.flags.c_contiguous)]
        for blob in (x, weight, made.blobs["conv"], made.blobs["pool"])
    ]


def held_top():
    """An array of a top shows each pass, and a later start reads what was written into it."""
    made = plain()
    conv, second = made.blobs["conv"].data, made.blobs["conv"].data
    found = [values(conv)]
    made.forward()
    found += [values(conv), values(second)]
    conv[...] = 0
    made.forward(start="pool")
    found += [values(made.blobs["pool"].data), values(second)]
    second[0, 1].ravel()[:] = 6
    made.forward(start="pool")
    found.append(values(made.blobs["pool"].data))
    made.blobs["x"].data[...] *= 2
    made.forward()
    return found + [values(conv), values(second)]


def held_slice():
    """The same with views alone, whose array is gone."""
    made = plain()
    rows = made.blobs["conv"].data[1, 2].T
    made.forward()
    found = [values(rows)]
    rows[...] = 40
    made.forward(start="pool")
    return found + [values(made.blobs["pool"].data)]


def held_input():
    """An array of an input is filled again and again."""
    made = plain()
    x = made.blobs["x"].data
    found = []
    for factor in (1, 2, 3):
        x[...] = counted(x.shape) * factor
        out = made.forward()["pool"]
        found.append(values(out))
    x.reshape(-1)[0] = 900
    made.forward()
    return found + [values(out)]


def held_diffs():
    """Arrays of diffs over two passes, written into between them."""
    made = plain(LEARNING)
    below, weight = made.blobs["x"].diff, made.params["conv"][0].diff
    top = made.blobs["pool"].diff
    found = []
    for _ in range(2):
        made.forward()
        made.backward()
        found.append([values(below), values(weight), values(top)])
    weight[...] = 1
    top[...] = 3
    made.backward(start="pool")
    found.append([values(below), values(weight), values(top)])
    made.clear_param_diffs()
    return found + [values(weight)]


def held_over_steps():
    """Arrays of parameters over updates, written into between them."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "solver.prototxt")
        with open(os.path.join(folder, "net.prototxt"), "w") as file:
            file.write(LEARNING.replace("force_backward: true", ""))
        with open(path, "w") as file:
            file.write(
                'net: "%s/net.prototxt" base_lr: 0.125 momentum: 0.5 lr_policy: "fixed" '
                "max_iter: 9 random_seed: 1" % folder
            )
        solver = caffe.SGDSolver(path)
    made = solver.net
    made.blobs["x"].data[...] = counted(made.blobs["x"].data.shape)
    weight, bias, loss = [blob.data for blob in made.params["conv"]] + [made.blobs["loss"].data]
    found = []
    for _ in range(2):
        solver.step(1)
        found.append([values(weight), values(bias), values(loss)])
    weight.reshape(3, -1)[1] = 0.25
    solver.step(1)
    return found + [[values(weight), values(bias), values(loss)]]


def shared_nets():
    """share_with and copy_from: whose arrays show what."""
    one, other = plain(), plain()
    one.params["conv"][0].data[...] = 2
    other.share_with(one)
    found = [values(other.params["conv"][0].data)]
    one.params["conv"][0].data.ravel()[0] = 5
    found.append(values(other.params["conv"][0].data))
    other.params["conv"][1].data[...] = 7
    one.forward()
    found.append(values(one.blobs["conv"].data))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "w.caffemodel")
        one.save(path)
        third = plain()
        held = third.params["conv"][0].data
        third.copy_from(path)
    return found + [values(held)]


def reshaped():
    """An array of an earlier shape whose memory is used again."""
    made = plain()
    x = made.blobs["x"]
    held = x.data
    x.reshape(1, 2, 6, 6)
    found = [values(x.data.sum())]
    x.data[...] = 3
    found.append(values(held))
    held[...] = 4
    made.forward()
    found.append(values(made.blobs["conv"].data))
    x.reshape(2, 2, 6, 6)
    found.append(values(x.data))
    x.diff[...] = 2
    x.reshape(2, 36, 1, 2)
    return found + [values(x.diff), values(held), list(x.data.shape)]


def python_layers():
    """A user's layer that writes through reshape(-1) and ravel()."""
    found = []
    for text in (
        PYTHON % "x",
        CONV.replace('"pool"', '"p"') + PYTHON % "p",
        PYTHON % "x" + CONV.replace('bottom: "x"', 'bottom: "user"'),
    ):
        made = plain(PLAIN.replace(CONV, "") + text)
        made.forward()
        made.forward()
        user, last = made.blobs["user"], made.blobs[made.outputs[0]]
        last.diff.reshape(-1)[...] = 1
        made.backward()
        found.append([values(user.data), values(made.blobs["x"].diff)])
    return found


def shares_memory():
    """{layer: what a write into the bottom does to the top, and vice versa}."""
    found = {}
    for kind, options in SHARING:
        made = net(
            'input: "x" input_shape { dim: 1 dim: 3 } '
            'layer { name: "y" type: "%s" bottom: "x" top: "y" %s }' % (kind, options)
        )
        x, y = made.blobs["x"], made.blobs["y"]
        found[kind] = []
        for written, read, value in ((x, y, 5), (y, x, 9)):
            x.data[...] = 1
            made.forward()
            written.data[...] = value
            found[kind].append(values(read.data.ravel()))
    return found


CASES = {
    case.__name__: case
    for case in (
        views,
        held_top,
        held_slice,
        held_input,
        held_diffs,
        held_over_steps,
        shared_nets,
        reshaped,
        python_layers,
        shares_memory,
    )
}
