"""What NaN, infinity, odd settings and edits of blobs do, under either Caffe.

Each function of CASES returns numbers in nested lists and dicts. Under an original BVLC Caffe
(Python 3.9, numpy 1.19) tests/oracle/record_odd.py records them.
"""

import os
import tempfile

import numpy as np

import caffe

NAN, INF = np.nan, np.inf
ODD = [-INF, INF, NAN, 0, -2, 4, 1]


def net(text, phase=caffe.TEST, force=True):
    """The net of a prototxt's text."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.prototxt")
        with open(path, "w") as file:
            file.write(("force_backward: true " if force else "") + text)
        return caffe.Net(path, phase)


def one_layer(layer, *bottoms, phase=caffe.TEST):
    """A net whose layer "y" has bottoms "a", "b", ..., each the top of a layer that copies."""
    names = "abcd"[: len(bottoms)]
    text = "".join(
        'input: "in_%s" input_shape { %s } '
        % (name, " ".join("dim: %d" % size for size in np.shape(values)))
        for name, values in zip(names, bottoms)
    )
    text += "".join(
        'layer { name: "%s" type: "Power" bottom: "in_%s" top: "%s" } ' % (name, name, name)
        for name in names
    )
    made = net(
        text
        + 'layer { name: "y" top: "y" %s %s }'
        % (layer, " ".join('bottom: "%s"' % n for n in names)),
        phase,
    )
    for name, values in zip(names, bottoms):
        made.blobs["in_" + name].data[...] = values
    made.forward()
    return made


def diffs(made, names="a"):
    """The diffs of the bottoms for a diff of ones."""
    made.blobs["y"].diff[...] = 1
    made.backward(start="y")
    return [made.blobs[name].diff.tolist() for name in names]


IMAGES = [
    [[NAN, 1, 2, NAN], [3, NAN, NAN, -1], [NAN, NAN, -INF, 0], [NAN, 1, NAN, -INF]],
    [[INF, NAN, -INF, -INF], [NAN, INF, -INF, -5], [NAN, 7, 7, NAN], [7, NAN, NAN, 7]],
]
NO_NUMBER = [
    [[NAN, NAN, -INF, NAN], [NAN, NAN, NAN, NAN], [NAN, -INF, 1, NAN], [-INF, -INF, NAN, -INF]],
    [[NAN, NAN, 0, 1], [NAN, NAN, 2, 3], [-3.4028235e38, NAN, 4, 5], [NAN, NAN, 6, 7]],
]
POOLS = [
    "kernel_size: 2 stride: 2",
    "kernel_size: 3 stride: 2",
    "kernel_size: 2 stride: 1",
    "kernel_size: 3 stride: 1 pad: 1",
    "kernel_size: 1 stride: 3",
    "global_pooling: true",
]


def max_pooling(channels=1):
    """Tops and places; diffs where each window has a number (else BVLC Caffe writes anywhere)."""
    found = []
    for image in IMAGES + NO_NUMBER:
        for options in POOLS:
            x = [[image] * channels]
            layer = 'type: "Pooling" top: "places" pooling_param { %s }' % options
            made = one_layer(layer, x)
            found.append([made.blobs[name].data[:, :1].tolist() for name in ("y", "places")])
            if np.min(made.blobs["places"].data) >= 0:
                made = one_layer(layer.replace('top: "places"', ""), x)
                found[-1].append(np.array(diffs(made))[:, :, :1].tolist())
    return found


def dropout():
    """A ratio of 1, in both phases."""
    found = []
    for phase in (caffe.TRAIN, caffe.TEST):
        made = one_layer('type: "Dropout" dropout_param { dropout_ratio: 1 }', ODD, phase=phase)
        found.append([made.blobs["y"].data.tolist(), diffs(made)])
    return found


def power():
    """{options: top and diff} of the layer Power."""
    found = {}
    for exponent in (0.5, -0.5, 1.5, 0, 1, 2, 3, -1, -2):
        for scale, shift in ((1, 0), (-1, 0), (2, 1), (0, 0), (0, -1), (0, 2)):
            options = "power: %g scale: %g shift: %g" % (exponent, scale, shift)
            made = one_layer('type: "Power" power_param { %s }' % options, [*ODD, -0.0])
            found[options] = [made.blobs["y"].data.tolist(), diffs(made)]
    return found


EDITED = [
    '"ReLU"',
    '"ReLU" relu_param { negative_slope: 0.5 }',
    '"ReLU" relu_param { negative_slope: -0.5 }',
    '"PReLU"',
    '"ELU"',
    '"ELU" elu_param { alpha: 0 }',
    '"ELU" elu_param { alpha: -0.5 }',
    '"Sigmoid"',
    '"TanH"',
    '"Swish"',
    '"Swish" swish_param { beta: 0 }',
    '"Swish" swish_param { beta: 2 }',
    '"AbsVal"',
    '"BNLL"',
    '"Clip" clip_param { min: -1 max: 2 }',
    '"Power"',
    '"Power" power_param { power: 2 scale: 2 shift: 3 }',
    '"Power" power_param { power: 3 }',
    '"Power" power_param { power: 0.5 scale: 2 shift: 3 }',
    '"Power" power_param { power: -1 }',
    '"Exp"',
    '"Exp" exp_param { base: 2 scale: 2 shift: 3 }',
    '"Log" log_param { shift: 5 }',
    '"Softmax"',
    '"Scale" scale_param { filler { type: "constant" value: 2 } }',
    '"Bias"',
    '"Dropout"',
]
# those that BVLC Caffe cannot run in place read a bottom there that is gone
EDITED_IN_PLACE = [
    '"ReLU"',
    '"ReLU" relu_param { negative_slope: 0.5 }',
    '"PReLU"',
    '"ELU"',
    '"Sigmoid"',
    '"TanH"',
    '"Swish"',
    '"Exp"',
    '"Softmax"',
    '"Scale" scale_param { filler { type: "constant" value: 2 } }',
    '"Bias"',
]


def edits():
    """{layer: diffs of bottom and parameters after an edit of the top, the bottom, both}."""
    found = {}
    for layer in EDITED:
        found[layer] = []
        for edited in ("y", "a", "ya"):
            made = one_layer("type: " + layer, [[1, -2, 3]])
            _edit(made, edited)
            found[layer].append(diffs(made) + _parameter_diffs(made))
    return found


IMAGE, OTHER_IMAGE = (np.arange(18).reshape(1, 2, 3, 3) * step % 7 - 3 for step in (5, 4))
A, B = [[1, -2, 0.5], [0.25, 3, -1]], [[0, 1, 2], [-1, 0.5, 2]]
FIRST = "propagate_down: true propagate_down: false"
SAVING = {  # layer: bottoms, and what they are overwritten with
    '"LRN"': ([IMAGE], [OTHER_IMAGE]),
    '"LRN" lrn_param { local_size: 3 alpha: 2 }': ([IMAGE], [OTHER_IMAGE]),
    '"LRN" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }': ([IMAGE], [OTHER_IMAGE]),
    '"MVN"': ([IMAGE], [OTHER_IMAGE]),
    '"Pooling" pooling_param { kernel_size: 2 }': ([IMAGE], [OTHER_IMAGE]),
    '"Pooling" pooling_param { pool: AVE kernel_size: 2 }': ([IMAGE], [OTHER_IMAGE]),
    '"EuclideanLoss"': ([A, B], [B, A]),
    '"SigmoidCrossEntropyLoss" ' + FIRST: ([A, [[0, 1, 1], [0, 0, 1]]], [B, [[1, 0, 1]] * 2]),
    '"ContrastiveLoss" propagate_down: true ' + FIRST: ([A, B, [0, 1]], [B, A, [1, 0]]),
    '"ContrastiveLoss" contrastive_loss_param { legacy_version: true margin: 20 } '
    + "propagate_down: true "
    + FIRST: ([A, B, [0, 1]], [B, A, [1, 0]]),
    '"HingeLoss" ' + FIRST: ([A, [0, 2]], [B, [0, 2]]),
    '"HingeLoss" hinge_loss_param { norm: L2 } ' + FIRST: ([A, [0, 2]], [B, [0, 2]]),
    '"SoftmaxWithLoss" ' + FIRST: ([A, [0, 2]], [B, [0, 2]]),
    '"Reduction" reduction_param { operation: ASUM }': ([A], [B]),
    '"Reduction" reduction_param { operation: SUMSQ }': ([A], [B]),
}


def saved():
    """{layer: diffs of the bottoms after an edit of the top, of each bottom, of all}."""
    found = {}
    for layer, (bottoms, others) in SAVING.items():
        names = "abc"[: len(bottoms)]
        found[layer] = []
        for edited in ("y", *names, names + "y"):
            made = one_layer("type: " + layer, *bottoms)
            for name in edited:
                made.blobs[name].data[...] = 2 if name == "y" else others[names.index(name)]
            found[layer].append(diffs(made, names))
    return found


def edits_in_place():
    """{layer: the same for the one blob of a layer that runs in place}."""
    found = {}
    for layer in EDITED_IN_PLACE:
        made = net(
            'input: "x" input_shape { dim: 1 dim: 3 } '
            'layer { name: "a" type: "Power" bottom: "x" top: "y" } '
            'layer { name: "y" type: %s bottom: "y" top: "y" }' % layer
        )
        made.blobs["x"].data[...] = [[1, -2, 3]]
        made.forward()
        _edit(made, "y")
        found[layer] = diffs(made, "y") + _parameter_diffs(made)
    return found


def _edit(made, names):
    for name, values in (("y", [[-0.25, 0.25, 2]]), ("a", [[0.5, 0.75, -0.5]])):
        if name in names:
            made.blobs[name].data[...] = values


def _parameter_diffs(made):
    return [blob.diff.tolist() for blobs in made.params.values() for blob in blobs]


def eltwise():
    """{options: top, and the diffs of the bottoms after an edit of nothing, all, the top}."""
    bottoms = [[1, 2, NAN, INF, 3, 3], [3, -1, 2, NAN, 3, 2], [NAN, 0, 1, -INF, 3, 3]]
    plain = [[1, 2, 3, -1], [3, -1, 2, 3], [0.5, 2, 1, 9]]
    found = {}
    for operation in ("SUM", "PROD", "MAX", "PROD stable_prod_grad: false"):
        layer = 'type: "Eltwise" eltwise_param { operation: %s }' % operation
        for count in (2, 3):
            made = one_layer(layer, *bottoms[:count])
            results = [made.blobs["y"].data.tolist(), diffs(made, "abc"[:count])]
            for edited in ("abc"[:count], "y"):
                made = one_layer(layer, *plain[:count])
                for index, name in enumerate(edited):
                    made.blobs[name].data[...] = [[9, 1, 2, 4], [1, 2, 4, 2], [11, 0.5, 8, 1]][
                        index
                    ]
                results.append(diffs(made, "abc"[:count]))
            found["%s of %d" % (operation, count)] = results
    return found


FROZEN = """
input: "x" input_shape { dim: 1 dim: 2 }
layer { name: "label" type: "DummyData" top: "label"
        dummy_data_param { shape { dim: 1 dim: 1 } } }
layer { name: "frozen" type: "InnerProduct" bottom: "x" top: "f" param { lr_mult: 0 }
        param { lr_mult: 0 } inner_product_param { num_output: 2 } }
layer { name: "relu" type: "ReLU" bottom: "f" top: "f" }
layer { name: "learns" type: "InnerProduct" bottom: "f" top: "y"
        inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
layer { name: "sum" type: "Reduction" bottom: "f" top: "sum" }
layer { name: "accuracy" type: "Accuracy" bottom: "y" bottom: "label" top: "accuracy" }
"""


def callbacks():
    """[callback, layer] for whole passes and parts of them."""
    return [
        _events(lambda made: (made.forward(), made.backward())),
        _events(lambda made: (made.forward(), made.backward(start="loss", end="learns"))),
        _events(
            lambda made: (made.forward(start="learns", end="loss"), made.backward(start="relu"))
        ),
    ]


def _events(run):
    made, events = net(FROZEN, caffe.TRAIN, force=False), []
    for number, when in enumerate(
        (made.before_forward, made.after_forward, made.before_backward, made.after_backward)
    ):
        when(lambda layer, number=number: events.append([number, layer]))
    run(made)
    return events


PARAMETER = """
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 1 dim: 3 } }
        param { name: "shared" } }
layer { name: "flat" type: "Flatten" bottom: "p" top: "flat" }
layer { name: "y" type: "Power" bottom: "flat" top: "y" power_param { power: 2 } }
layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }
"""
SHARING = """
layer { name: "q" type: "Parameter" top: "q" parameter_param { shape { dim: 1 dim: 3 } }
        param { name: "shared" } }
layer { name: "end" type: "Silence" bottom: "q" }
"""


def parameter():
    """What is seen where after a write into the parameter and each blob that shares its memory."""
    made = net(PARAMETER + SHARING, caffe.TRAIN, force=False)
    other = net(PARAMETER + SHARING, caffe.TRAIN, force=False)
    other.share_with(made)
    blobs = [made.params["p"][0], made.params["q"][0]]
    blobs += [made.blobs[name] for name in ("p", "q", "flat")]
    found = []
    for each in (made, other):
        each.forward()
    blobs.append(other.blobs["p"])
    held = [blob.data for blob in blobs]
    for number, blob in enumerate(blobs):
        blob.data[...] = number + 1
        found.append([array.tolist() for array in held])
        made.forward()
        found.append([made.blobs["loss"].data.tolist(), *(array.tolist() for array in held)])
    return found


def parameter_learns():
    """The values of a parameter and its top over updates, with arrays held and one written into."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "solver.prototxt")
        with open(os.path.join(folder, "net.prototxt"), "w") as file:
            file.write(PARAMETER.replace("Flatten", "TanH"))
        with open(path, "w") as file:
            file.write(
                'net: "%s/net.prototxt" base_lr: 0.125 momentum: 0.5 lr_policy: "fixed" '
                "random_seed: 1" % folder
            )
        solver = caffe.SGDSolver(path)
    made = solver.net
    made.params["p"][0].data[...] = [[1, -2, 3]]
    made.forward()
    top, found = made.blobs["p"].data, []
    for step in range(4):
        solver.step(1)
        found.append([top.tolist(), made.params["p"][0].data.tolist()])
        top[0, step % 3] = 2
    return found


SPELLINGS = {
    'layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { shift: %s } }': (
        "2 +2 +.5 -2 -.5 1_0 1_0.5 1.5_0 1.e3 1e3 1e+3 1e3_0 1e 1e+ .5 5. . 1.5f 1.5F 0f inf -inf "
        "+inf nan Infinity 0x10 010 1u 1..5 1-1 1+1 -+1 +-1 --1 1e40 \\u0663 \\uff11 2\\u0663"
    ),
    'layer { name: "i" type: "InnerProduct" bottom: "x" top: "i" '
    "inner_product_param { num_output: %s } }": (
        "2 +2 1_0 0x2 0X2 0x_2 02 010 08 2. 2e0 -1 2u 0b10 0o2 \\uff12 0x0_2 [2] 2, 2;"
    ),
    'layer { name: "j" type: "Input" top: "j" input_param { shape { dim: %s } } }': (
        "2 +2 1_0 0x2 02 [2,3] [+2] [2,+3] [1_0] [2,0x3] [2,]"
    ),
    'layer { name: "i" type: "InnerProduct" bottom: "x" top: "i" '
    "inner_product_param { num_output: 2 bias_term: %s } }": (
        "true True TRUE t false False f 1 0 01 00 0x1 +1 -1 +0 1_0 0_1 2 1.0 1f yes 0b1"
    ),
    'layer { name: "e" type: "Eltwise" bottom: "x" bottom: "x" top: "e" '
    "eltwise_param { operation: %s } }": "SUM sum 1 01 0x1 +1 1_0 7 +SUM 0b1",
    'layer { name: %s type: "ReLU" bottom: "x" top: "r" }': (
        r""""a" 'a' "\\z" "\z" "\\\z" "\a\b\f\n\r\t\v\\\'\"\?" "\x41" "\X41" "\x" "\xg" "\8" """
        r""""\9" "\12" "\400" "\u00e9" "\u41" "\U0001f600" "\ud83d\ude00" "\e" "\c" """
        r""""\d" "\s" "\%" "\/" "\-" "\{" "+1_0" '+\z' +"a" a "+" "\u2028" """
    ),
    'layer { name: "r" type: "ReLU"%sbottom: "x" top: "r" }': (
        "\\x20 \\t \\n \\r \\v \\f #+1_0\\n \\x1c \\x85 \\u00a0 \\u2028 \\u3000 ; , ;; + _"
    ),
}


def spellings():
    """Nets, each with a value in one of the spellings above."""
    for layer, values in SPELLINGS.items():
        for value in values.split():
            if "name: %s" not in layer:
                value = value.encode().decode("unicode_escape")
            yield 'input: "x" input_shape { dim: 1 dim: 1 } ' + layer.replace("%s", value)


CASES = {
    case.__name__: case
    for case in (
        max_pooling,
        dropout,
        power,
        edits,
        saved,
        edits_in_place,
        eltwise,
        callbacks,
        parameter,
        parameter_learns,
    )
}
