"""The tables of tests/test_catalogue.py: one row is one layer with one legal set of parameters.

Read by BVLC Caffe's Python too (numpy and pycaffe's own names only), so that both sides run the
same code on the same numbers. A new layer type needs rows in its family's module.
"""

import importlib
import pkgutil
import zlib

import numpy as np

SEEDS = (0, 1)


class Case:
    """One layer with its options, its bottoms and how closely it must agree.

    `bottoms` are strings, "2x3x4x5" or "2x3x4x5 kind"; the kinds are the functions of KINDS.
    `params` are the kinds of the parameter blobs. `backward` is "forced" (force_backward in the
    net), "given" (as the options' own propagate_down says), "driven" (where loss_weight in the
    options only makes backward reach the layer: the diffs are drawn), "both" of these, or None.
    `true_gradient` is False where Caffe's backward is not the derivative of its forward; `judged`
    is False where BVLC Caffe cannot run the row, or draws random numbers of its own.
    """

    def __init__(
        self,
        type,
        name,
        options,
        *bottoms,
        tops=1,
        tolerance=1e-6,
        phase="TRAIN",
        params=("normal",) * 4,
        passes=1,
        backward="forced",
        true_gradient=True,
        judged=True,
    ):
        self.type, self.name, self.options = type, name, options
        self.bottoms, self.tops = bottoms, tops
        self.tolerance, self.phase, self.params, self.passes = tolerance, phase, params, passes
        self.backward, self.true_gradient, self.judged = backward, true_gradient, judged

    @property
    def key(self):
        return f"{self.type}/{self.name}"

    def prototxt(self, in_place=False):
        """The text of a net of Input layers and this layer, which is named "layer"."""
        names = [f"bottom{i}" for i in range(len(self.bottoms))]
        tops = [f"top{i}" for i in range(self.tops)]
        if in_place:
            tops[0] = names[0]
        lines = [f"force_backward: {'true' if self.backward == 'forced' else 'false'}"]
        for name, spec in zip(names, self.bottoms):
            dims = " ".join(f"dim: {size}" for size in shape_of(spec))
            lines.append(
                f'layer {{ name: "{name}" type: "Input" top: "{name}" '
                f"input_param {{ shape {{ {dims} }} }} }}"
            )
            if self.backward in ("given", "both"):
                # a factor of 1 to learn: below it there is need of diffs
                lines.append(
                    f'layer {{ name: "{name}_learnt" type: "Scale" bottom: "{name}" '
                    f'top: "{name}" scale_param {{ axis: 0 num_axes: 0 }} }}'
                )
        blobs = [f'bottom: "{name}"' for name in names] + [f'top: "{name}"' for name in tops]
        lines.append(
            f'layer {{ name: "layer" type: "{self.type}" {" ".join(blobs)} {self.options} }}'
        )
        return "\n".join(lines)


def cases(table="CASES"):
    """{family: its rows}, the families being the modules of this package.

    Also reads the other tables that a family has: IN_PLACE, the types that may run in place, and
    REFUSED, rows of (type, options, bottoms, pattern of the error).
    """
    families = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in families]
    return {name: getattr(module, table, []) for name, module in zip(families, modules)}


def shape_of(spec):
    """(2, 3, 4) of "2x3x4 kind"; "scalar" is ()."""
    text = spec.split()[0]
    return () if text == "scalar" else tuple(int(size) for size in text.split("x"))


def _episodes(random, shape):
    """Tells a recurrent layer where sequences continue: not in the first step."""
    values = random.randint(0, 2, shape)
    values[0] = 0
    return values


def _probabilities(random, shape):
    values = random.uniform(0.1, 1, shape)
    return values / values.sum(1, keepdims=True)


def _rois(random, shape, images, largest):
    """Rows (image, x1, y1, x2, y2)."""
    corners = random.uniform(0, float(largest), (shape[0], 2, 2))
    corners.sort(1)
    index = random.randint(0, int(images), (shape[0], 1))
    return np.concatenate([index, corners.reshape(-1, 4)], 1)


def _places(random, shape, count):
    """Where a pooling found the maxima of each channel: all different."""
    rows = shape[0] * shape[1]
    found = [random.permutation(int(count))[: shape[2] * shape[3]] for _ in range(rows)]
    return np.reshape(found, shape)


def _priors(random, shape):
    """Prior boxes as PriorBox makes them, (1, 2, 4 P), and their variances."""
    boxes = _corners(random, shape[2] // 4)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (len(boxes), 1))
    return np.stack([boxes.ravel(), variances.ravel()])[None]


def _objects(random, shape, images, classes):
    """Rows (image, label, instance, xmin, ymin, xmax, ymax, difficult), image by image."""
    count = shape[2]
    index = np.sort(random.randint(0, int(images), count))
    labels = random.randint(1, int(classes), count)
    difficult = random.randint(0, 2, count)
    rows = np.column_stack([index, labels, 0 * labels, _corners(random, count), difficult])
    return rows[None, None]


def _detections(random, shape, images, classes):
    """Rows (image, label, score, xmin, ymin, xmax, ymax), image by image."""
    rows = _objects(random, shape, images, classes)[0, 0]
    return np.column_stack([rows[:, :2], random.uniform(0, 1, len(rows)), rows[:, 3:7]])[None, None]


def _corners(random, count):
    """Boxes (count, 4): xmin, ymin, xmax, ymax, some of which reach over the border."""
    center, half = random.uniform(0, 1, (count, 2)), random.uniform(0.1, 0.3, (count, 2))
    return np.hstack([center - half, center + half])


KINDS = {
    "normal": lambda random, shape: random.normal(0, 1, shape),
    "uniform": lambda random, shape: random.uniform(-1, 1, shape),
    "positive": lambda random, shape: random.uniform(0.2, 2, shape),
    "unit": lambda random, shape: random.uniform(0.05, 0.95, shape),
    "large": lambda random, shape: random.normal(0, 10, shape),
    "flags": lambda random, shape: random.randint(0, 2, shape),
    "episodes": _episodes,
    "labels": lambda random, shape, count: random.randint(0, int(count), shape),
    "constant": lambda random, shape, value: np.full(shape, float(value)),
    "probabilities": _probabilities,
    "rois": _rois,
    "places": _places,
    "priors": _priors,
    "objects": _objects,
    "detections": _detections,
}


def draw(spec, shape, random):
    """Values of `shape` of the kind that `spec` ("normal", "labels 5", ...) names."""
    kind, *arguments = spec.split() or ["normal"]
    return np.asarray(KINDS[kind](random, shape, *arguments), np.float32)


def fill_params(net, case, random):
    """Give the layer its parameters; return the arrays, to see later what the layer changed."""
    blobs = net.params.get("layer", [])
    for blob, kind in zip(blobs, case.params):
        blob.data[...] = draw(kind, tuple(blob.data.shape), random)
    return blobs, [blob.data.copy() for blob in blobs]


def random_state(case, seed):
    """The source of all numbers of one run of `case`."""
    return np.random.RandomState(zlib.crc32(case.key.encode()) ^ seed)


def run(net, case, seed, in_place=False):
    """Run `case` on a pycaffe Net of its prototxt; return {what: array}.

    Every pass draws new bottoms and top diffs and runs forward and backward, so the parameters'
    diffs accumulate over the passes. A loss's top diff stays what the net put there.
    """
    random = random_state(case, seed)
    params, before = fill_params(net, case, random)
    tops = ["bottom0" if in_place and i == 0 else f"top{i}" for i in range(case.tops)]
    for _ in range(case.passes):
        for i, spec in enumerate(case.bottoms):
            kind = spec.partition(" ")[2]
            net.blobs[f"bottom{i}"].data[...] = draw(kind, shape_of(spec), random)
        net.forward()
        # copied before backward, which may work in the tops' memory
        results = {f"top{i}": net.blobs[name].data.copy() for i, name in enumerate(tops)}
        for name in tops:
            if case.backward in ("driven", "both") or (
                case.backward and not net.blob_loss_weights[name]
            ):
                blob = net.blobs[name]
                blob.diff[...] = draw("normal", tuple(blob.data.shape), random)
        if case.backward:
            net.backward()
    for i, (blob, old) in enumerate(zip(params, before)):
        results[f"param{i}.diff"] = blob.diff.copy()
        if not np.array_equal(blob.data, old):
            results[f"param{i}.data"] = blob.data.copy()
    if case.backward:
        results.update(
            (f"bottom{i}.diff", net.blobs[f"bottom{i}"].diff.copy())
            for i in range(len(case.bottoms))
        )
    return results
