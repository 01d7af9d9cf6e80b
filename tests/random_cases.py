"""Rows like those of tests/catalogue_cases, with random legal parameters: ROWS of every type.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19). `rows(type, seed)` draws them; a
drawer takes a RandomState and returns the options, the bottoms and what else a Case takes. Illegal
sets are not tested here: BVLC Caffe would end the process.
"""

import zlib

import numpy as np

from catalogue_cases import Case, run

ROWS = 10
PROJECTIONS = 6
# a sum that happens to cancel has fewer right digits
CANCELLING = ("Bias", "InnerProduct", "LSTM", "PReLU", "RNN", "Reduction", "Scale")
DRAWERS = {}  # layer type: what draws one row


def drawer(*types, **more):
    """Decorator: `draw(random, type)` draws rows of these types."""

    def register(draw):
        DRAWERS.update((type, (draw, more)) for type in types)
        return draw

    return register


def rows(type, seed, count=ROWS):
    """`count` rows of a layer type."""
    draw, more = DRAWERS[type]
    random = np.random.RandomState(zlib.crc32(type.encode()) ^ seed)
    made = []
    for index in range(count):
        options, bottoms, *own = draw(random, type)
        made.append(
            Case(
                type,
                f"random_{seed}_{index}",
                options,
                *bottoms,
                tolerance=1e-5 if type in CANCELLING else 1e-6,
                **dict(more, **(own[0] if own else {})),
            )
        )
    return made


def digest(arrays, key):
    """{what: (shape, projections)}: each array seen from a few random directions.

    Two digests are as far apart as their arrays, within a factor of about two.
    """
    found = {}
    for what, array in arrays.items():
        random = np.random.RandomState(zlib.crc32(f"{key}/{what}".encode()))
        flat = np.asarray(array, np.float64).ravel()
        found[what] = (array.shape, random.normal(size=(PROJECTIONS, flat.size)) @ flat)
    return found


def run_row(net, case):
    """The digest of what a pycaffe Net of the row's prototxt computes."""
    return digest(run(net, case, 0), case.key)


# ---- what drawers draw with ----------------------------------------------------------------------


def shape(random, axes, most=5):
    return [int(size) for size in random.randint(1, most + 1, axes)]


def text(sizes):
    return "x".join(map(str, sizes)) if len(sizes) else "scalar"


def number(random, low, high):
    """A number as prototxts have them."""
    return f"{random.uniform(low, high):.3g}"


def pick(random, *values):
    return values[random.randint(len(values))]


def maybe(random, *fields):
    """Some of the fields."""
    return " ".join(field for field in fields if random.randint(2))


def flag(random):
    return pick(random, "true", "false")


def signed(random, axis, axes):
    """An axis, counted from the front or from the back."""
    return pick(random, axis, axis - axes)


# ---- activation ----------------------------------------------------------------------------------


@drawer("AbsVal", "BNLL", "Sigmoid", "TanH")
def _plain(random, type):
    return "", [text(shape(random, random.randint(1, 6))) + pick(random, "", " uniform")]


@drawer("ReLU", "ELU", "Swish", "Clip", "Power", "Exp", "Log")
def _activation(random, type):
    low = number(random, -1, 0.5)
    field, kind = {
        "ReLU": (f"negative_slope: {number(random, -1, 2)}", ""),
        "ELU": (f"alpha: {number(random, -1, 2)}", ""),
        "Swish": (f"beta: {number(random, -2, 2)}", ""),
        "Clip": (f"min: {low} max: {float(low) + random.uniform(0.01, 2):.3g}", ""),
        "Power": (
            f"power: {number(random, -2, 3)} scale: {number(random, 0.2, 2)} "
            f"shift: {number(random, 0, 1)}",
            " positive",
        ),
        "Exp": (
            f"base: {pick(random, '-1', number(random, 0.3, 4))} "
            f"scale: {number(random, -1, 1)} shift: {number(random, -1, 1)}",
            "",
        ),
        "Log": (
            f"base: {pick(random, '-1', number(random, 1.2, 5))} "
            f"scale: {number(random, 0.5, 2)} shift: {number(random, 0, 1)}",
            " positive",
        ),
    }[type]
    return (
        f"{type.lower()}_param {{ {field} }}",
        [text(shape(random, random.randint(1, 6))) + kind],
    )


@drawer("Threshold", backward=None)
def _threshold(random, type):
    return (
        f"threshold_param {{ threshold: {number(random, -1, 1)} }}",
        [text(shape(random, random.randint(1, 6)))],
    )


@drawer("PReLU")
def _prelu(random, type):
    return (
        f"prelu_param {{ channel_shared: {flag(random)} }}",
        [text(shape(random, random.randint(2, 5)))],
    )


@drawer("Dropout", phase="TEST")
def _dropout(random, type):
    return (
        f"dropout_param {{ dropout_ratio: {number(random, 0.01, 0.99)} }}",
        [text(shape(random, random.randint(1, 6)))],
    )


# ---- normalization -------------------------------------------------------------------------------


@drawer("Softmax")
def _softmax(random, type):
    axes = random.randint(1, 6)
    return (
        f"softmax_param {{ axis: {signed(random, random.randint(axes), axes)} }}",
        [text(shape(random, axes))],
    )


@drawer("LRN")
def _lrn(random, type):
    return (
        f"lrn_param {{ local_size: {2 * random.randint(4) + 1} alpha: {number(random, 0, 1)} "
        f"beta: {number(random, 0.2, 1.5)} k: {number(random, 1, 3)} "
        f"norm_region: {pick(random, 'ACROSS_CHANNELS', 'WITHIN_CHANNEL')} }}",
        [text(shape(random, 4, 6))],
    )


@drawer("MVN")
def _mvn(random, type):
    sizes = [*shape(random, 2, 3), *shape(random, 2, 4)]
    return (
        "mvn_param { " + maybe(random, "normalize_variance: false", "across_channels: true") + " }",
        [text([*sizes[:3], sizes[3] + 2])],
    )


@drawer("BatchNorm", params=("normal", "positive", "positive"))
def _batch_norm(random, type):
    sizes = shape(random, random.randint(2, 6), 4)
    sizes[0] += 2
    options = maybe(
        random,
        f"use_global_stats: {flag(random)}",
        f"eps: {number(random, 0.01, 1)}",
        f"moving_average_fraction: {number(random, 0.1, 0.99)}",
    )
    return (
        f"batch_norm_param {{ {options} }}",
        [text(sizes)],
        {"phase": pick(random, "TRAIN", "TEST"), "passes": random.randint(1, 4)},
    )


@drawer("Scale", "Bias")
def _scale(random, type):
    axes = random.randint(1, 6)
    sizes, axis = shape(random, axes, 4), random.randint(axes)
    count = random.randint(axes - axis + 1)
    options = f"axis: {signed(random, axis, axes)}"
    bottoms = [text(sizes)]
    if random.randint(2):
        bottoms.append(text(sizes[axis : axis + count]))
    else:
        options += f" num_axes: {pick(random, count, -1)}"
    if type == "Scale":
        options += f" bias_term: {flag(random)}"
    return f"{type.lower()}_param {{ {options} }}", bottoms


# ---- common --------------------------------------------------------------------------------------


@drawer("InnerProduct")
def _inner_product(random, type):
    axes = random.randint(1, 5)
    axis = random.randint(axes)
    return (
        f"inner_product_param {{ num_output: {random.randint(1, 7)} "
        f"axis: {signed(random, axis, axes)} bias_term: {flag(random)} "
        f"transpose: {flag(random)} }}",
        [text(shape(random, axes))],
        {"passes": random.randint(1, 3)},
    )


@drawer("Embed", backward="driven")
def _embed(random, type):
    inputs = random.randint(1, 9)
    return (
        f"embed_param {{ num_output: {random.randint(1, 5)} input_dim: {inputs} "
        f"bias_term: {flag(random)} }} loss_weight: 1",
        [f"{text(shape(random, random.randint(1, 5)))} labels {inputs}"],
    )


@drawer("Parameter", backward="driven")
def _parameter(random, type):
    dims = " ".join(f"dim: {size}" for size in shape(random, random.randint(1, 6)))
    return f"loss_weight: 1 parameter_param {{ shape {{ {dims} }} }}", []


@drawer("RNN", "LSTM", params=("uniform",) * 7)
def _recurrent(random, type):
    steps, batch, outputs = random.randint(1, 6), random.randint(1, 4), random.randint(1, 5)
    states = {"RNN": 1, "LSTM": 2}[type] if random.randint(2) else 0
    bottoms = [
        text([steps, batch, *shape(random, random.randint(1, 3), 3)]),
        f"{steps}x{batch} flags",
    ]
    if random.randint(2):
        bottoms.append(text([batch, *shape(random, random.randint(1, 3), 3)]))
    return (
        f"recurrent_param {{ num_output: {outputs} "
        f"expose_hidden: {'true' if states else 'false'} }}",
        bottoms + [f"1x{batch}x{outputs}"] * states,
        {"tops": 1 + states, "passes": random.randint(1, 3)},
    )


@drawer("LSTMUnit", tops=2)
def _lstm_unit(random, type):
    batch, size = shape(random, 2)
    return "", [f"1x{batch}x{size}", f"1x{batch}x{4 * size}", f"1x{batch} flags"]


# ---- vision --------------------------------------------------------------------------------------


def _geometry(random, axes, forms=True):
    """(the fields, then for each axis kernel, stride, pad, dilation) of a sliding window."""
    kernel, stride, pad, dilation = (
        random.randint(low, high, axes) for low, high in ((1, 4), (1, 4), (0, 3), (1, 3))
    )
    if axes == 2 and random.randint(2) and forms:
        names = [f"{name}_{side}" for name in ("kernel", "stride", "pad") for side in "hw"]
        fields = dict(zip(names, [*kernel, *stride, *pad]))
        lines = [f"{name}: {value}" for name, value in fields.items()]
    else:
        lines = [
            f"{name}: {value}"
            for name, values in (("kernel_size", kernel), ("stride", stride), ("pad", pad))
            for value in values
        ]
    lines += [f"dilation: {value}" for value in dilation]
    return " ".join(lines), list(zip(kernel, stride, pad, dilation))


@drawer("Convolution", "Deconvolution", "Im2col")
def _convolution(random, type):
    axes, before = random.randint(type == "Im2col", 5), pick(random, 1, 1, 2)
    fields, geometry = _geometry(random, axes)
    sizes = []
    for kernel, stride, pad, dilation in geometry:
        least = max(1, dilation * (kernel - 1) + 1 - 2 * pad)
        if type == "Deconvolution":
            # stride (size - 1) + extent - 2 pad must be at least 1
            least = max(1, -(-(2 * pad - dilation * (kernel - 1)) // stride) + 1)
        sizes.append(int(least + random.randint(3)))
    group = random.randint(1, 3)
    sizes = [*shape(random, before, 2), group * random.randint(1, 3), *sizes]
    if type != "Im2col":
        fields += (
            f" num_output: {group * random.randint(1, 3)} group: {group} bias_term: {flag(random)}"
        )
    if before == 2 or random.randint(2):
        fields += f" axis: {signed(random, before, len(sizes))}"
    return f"convolution_param {{ {fields} }}", [text(sizes)]


@drawer("Pooling")
def _pooling(random, type):
    method = pick(random, "MAX", "AVE")
    if random.randint(5) == 0:
        return (
            f"pooling_param {{ pool: {method} global_pooling: true }}",
            [text(shape(random, 4))],
        )
    kernel = random.randint(1, 5, 2)
    stride, pad = [random.randint(1, k + 1) for k in kernel], [random.randint(k) for k in kernel]
    fields = " ".join(
        f"{name}_{side}: {value}"
        for name, values in (("kernel", kernel), ("stride", stride), ("pad", pad))
        for side, value in zip("hw", values)
    )
    sizes = [
        *shape(random, 2, 3),
        *(max(1, k - 2 * p) + random.randint(5) for k, p in zip(kernel, pad)),
    ]
    return (
        f"pooling_param {{ pool: {method} {fields} round_mode: {pick(random, 'CEIL', 'FLOOR')} }}",
        [text(sizes)],
        {"tops": 1 + (method == "MAX" and random.randint(2))},
    )


@drawer("SPP")
def _spp(random, type):
    while True:
        height, sizes = random.randint(1, 4), [*shape(random, 2, 3), *shape(random, 2, 12)]
        ends = [
            (-(-size // 2**level), size, 2**level) for level in range(height) for size in sizes[2:]
        ]
        if all((kernel * count - size + 1) // 2 < kernel for kernel, size, count in ends):
            break
    return (
        f"spp_param {{ pyramid_height: {height} pool: {pick(random, 'MAX', 'AVE')} }}",
        [text(sizes)],
    )


@drawer("Crop")
def _crop(random, type):
    axes = random.randint(2, 6)
    axis = random.randint(axes)
    sizes, other, offsets = shape(random, axes), shape(random, axes), []
    for index in range(axis, axes):
        other[index] = random.randint(1, sizes[index] + 1)
        offsets.append(random.randint(sizes[index] - other[index] + 1))
    fields = " ".join(f"offset: {offset}" for offset in offsets)
    return (
        f"crop_param {{ axis: {signed(random, axis, axes)} {fields} }}",
        [text(sizes), text(other)],
    )


# ---- losses --------------------------------------------------------------------------------------


def _classes(random, labels_axis=False):
    """(axis, bottoms) of scores and labels."""
    axes = random.randint(2, 5)
    axis = random.randint(0 if labels_axis else 1, axes)
    sizes = shape(random, axes, 4)
    sizes[axis] += 1
    labels = sizes[:axis] + sizes[axis + 1 :]
    return axis, sizes, [text(sizes), f"{text(labels)} labels {sizes[axis]}"]


def _normalization(random, classes):
    return (
        "loss_param { "
        + maybe(
            random,
            f"ignore_label: {random.randint(classes)}",
            "normalization: " + pick(random, "FULL", "VALID", "BATCH_SIZE", "NONE"),
        )
        + " }"
    )


@drawer("SoftmaxWithLoss")
def _softmax_loss(random, type):
    axis, sizes, bottoms = _classes(random)
    return (
        f"softmax_param {{ axis: {signed(random, axis, len(sizes))} }} "
        f"{_normalization(random, sizes[axis])} loss_weight: {number(random, -2, 2)}",
        bottoms,
    )


@drawer("InfogainLoss", backward="given")
def _infogain(random, type):
    axis, sizes, bottoms = _classes(random)
    return (
        "propagate_down: true propagate_down: false propagate_down: false "
        f"infogain_loss_param {{ axis: {signed(random, axis, len(sizes))} }} "
        f"{_normalization(random, sizes[axis])} loss_weight: {number(random, 0.1, 2)}",
        [*bottoms, f"{sizes[axis]}x{sizes[axis]} positive"],
    )


@drawer("Accuracy", backward=None)
def _accuracy(random, type):
    axis, sizes, bottoms = _classes(random, labels_axis=True)
    fields = maybe(
        random,
        f"ignore_label: {random.randint(sizes[axis])}",
        f"top_k: {random.randint(1, sizes[axis] + 1)}",
    )
    return (
        f"accuracy_param {{ axis: {signed(random, axis, len(sizes))} {fields} }}",
        bottoms,
        {"tops": random.randint(1, 3)},
    )


@drawer("EuclideanLoss")
def _euclidean(random, type):
    sizes = shape(random, random.randint(1, 5))
    return f"loss_weight: {number(random, -2, 2)}", [text(sizes), text(sizes)]


@drawer("HingeLoss", "MultinomialLogisticLoss")
def _label_loss(random, type):
    batch, classes = shape(random, 2, 6)
    options = f"loss_weight: {number(random, 0.1, 2)}"
    if type == "HingeLoss":
        options += f" hinge_loss_param {{ norm: {pick(random, 'L1', 'L2')} }}"
        kind = pick(random, "normal", "large")
    else:
        kind = pick(random, "probabilities", "unit")
    return options, [f"{batch}x{classes} {kind}", f"{batch} labels {classes}"]


@drawer("SigmoidCrossEntropyLoss")
def _sigmoid_loss(random, type):
    sizes = text(shape(random, random.randint(1, 5)))
    kind = pick(random, "unit", "flags", "labels 3")
    return (
        f"{_normalization(random, 3)} loss_weight: {number(random, 0.1, 2)}",
        [sizes, f"{sizes} {kind}"],
    )


@drawer("ContrastiveLoss")
def _contrastive(random, type):
    batch, channels = shape(random, 2, 6)
    sizes = text([batch, channels, *pick(random, [], [1, 1])])
    return (
        f"contrastive_loss_param {{ margin: {number(random, 0.3, 5)} "
        f"legacy_version: {flag(random)} }} loss_weight: {number(random, 0.1, 2)}",
        [sizes, sizes, f"{batch} flags"],
    )


# ---- utility -------------------------------------------------------------------------------------


@drawer("Reduction")
def _reduction(random, type):
    axes = random.randint(1, 6)
    return (
        f"reduction_param {{ operation: {pick(random, 'SUM', 'ASUM', 'SUMSQ', 'MEAN')} "
        f"axis: {signed(random, random.randint(axes), axes)} "
        f"coeff: {number(random, -2, 2)} }}",
        [text(shape(random, axes))],
    )


@drawer("ArgMax", backward=None)
def _argmax(random, type):
    axes = random.randint(1, 5)
    sizes, axis = shape(random, axes), random.randint(axes)
    options, size = f"out_max_val: {flag(random)}", int(np.prod(sizes[1:]))
    if random.randint(2):
        options, size = f"{options} axis: {signed(random, axis, axes)}", sizes[axis]
    return (
        f"argmax_param {{ {options} top_k: {random.randint(1, size + 1)} }}",
        [text(sizes) + pick(random, "", " flags")],
    )


@drawer("Tile")
def _tile(random, type):
    axes = random.randint(1, 6)
    return (
        f"tile_param {{ axis: {signed(random, random.randint(axes), axes)} "
        f"tiles: {random.randint(1, 5)} }}",
        [text(shape(random, axes, 4))],
    )


@drawer("Filter", backward="both")
def _filter(random, type):
    batch, count = random.randint(8, 12), random.randint(1, 4)
    bottoms = [text([batch, *shape(random, random.randint(4), 3)]) for _ in range(count)]
    return (
        "propagate_down: true " * count + "propagate_down: false " + "loss_weight: 1 " * count,
        [*bottoms, f"{batch} {pick(random, 'flags', 'labels 3')}"],
        {"tops": count},
    )


@drawer("BatchReindex", backward="both")
def _reindex(random, type):
    batch = random.randint(1, 6)
    return (
        "propagate_down: true propagate_down: false loss_weight: 1",
        [
            text([batch, *shape(random, random.randint(4), 3)]),
            f"{random.randint(1, 9)} labels {batch}",
        ],
    )


@drawer("Eltwise")
def _eltwise(random, type):
    count, operation = random.randint(2, 5), pick(random, "SUM", "PROD", "MAX")
    options = f"operation: {operation} stable_prod_grad: {flag(random)}"
    if operation == "SUM" and random.randint(2):
        options += "".join(f" coeff: {number(random, -2, 2)}" for _ in range(count))
    kind = " positive" if operation == "PROD" else ""
    return (
        f"eltwise_param {{ {options} }}",
        [text(shape(random, random.randint(1, 6), 4)) + kind] * count,
    )


@drawer("Concat")
def _concat(random, type):
    axes = random.randint(1, 6)
    sizes, axis, bottoms = shape(random, axes, 3), random.randint(axes), []
    for _ in range(random.randint(1, 5)):
        sizes[axis] = random.randint(1, 5)
        bottoms.append(text(sizes))
    return f"concat_param {{ axis: {signed(random, axis, axes)} }}", bottoms


@drawer("Slice")
def _slice(random, type):
    axes = random.randint(1, 6)
    sizes, axis, count = shape(random, axes, 3), random.randint(axes), random.randint(1, 5)
    options = f"axis: {signed(random, axis, axes)}"
    if random.randint(2) and count > 1:
        sizes[axis] = count + random.randint(4)
        points = sorted(random.permutation(sizes[axis] - 1)[: count - 1] + 1)
        options += "".join(f" slice_point: {point}" for point in points)
    else:
        sizes[axis] = count * random.randint(1, 4)
    return f"slice_param {{ {options} }}", [text(sizes)], {"tops": count}


@drawer("Flatten")
def _flatten(random, type):
    axes = random.randint(1, 6)
    start, end = sorted(random.randint(axes, size=2))
    return (
        f"flatten_param {{ axis: {signed(random, start, axes)} "
        f"end_axis: {signed(random, end, axes)} }}",
        [text(shape(random, axes))],
    )


@drawer("Reshape")
def _reshape(random, type):
    axes = random.randint(1, 6)
    sizes = shape(random, axes)
    start = random.randint(axes + 1)
    count = random.randint(axes - start + 1)
    inside = [int(size) for size in sizes[start : start + count]]
    random.shuffle(inside)
    if inside and random.randint(2):
        inside[random.randint(len(inside))] = -1
    for _ in range(random.randint(2)):
        inside.insert(random.randint(len(inside) + 1), 1)
    for index, dim in enumerate(inside):
        if start + index < axes and dim == sizes[start + index] and random.randint(2):
            inside[index] = 0
    dims = " ".join(f"dim: {dim}" for dim in inside)
    axis = pick(random, start, start - axes - 1)
    return (f"reshape_param {{ shape {{ {dims} }} axis: {axis} num_axes: {count} }}", [text(sizes)])


@drawer("Split")
def _split(random, type):
    return "", [text(shape(random, random.randint(1, 6)))], {"tops": random.randint(1, 6)}


@drawer("Silence", tops=0)
def _silence(random, type):
    return "", [text(shape(random, random.randint(1, 6))) for _ in range(random.randint(1, 5))]


@drawer("Python")
def _python(random, type):
    layer = pick(random, "Times", "Affine")
    sizes = shape(random, 2 if layer == "Affine" else random.randint(1, 6))
    value = number(random, -2, 2)
    param = value if layer == "Times" else f'{{"bias": {value}}}'
    return (
        f'python_param {{ module: "user_layers" layer: "{layer}" param_str: \'{param}\' }}',
        [text(sizes)],
        {"passes": random.randint(1, 3)},
    )
