"""Random nets: splits, in-place layers, shared and frozen parameters, loss weights, propagate_down.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19). The nets avoid what BVLC Caffe gets
wrong: Power in place, LRN below a layer in place, a layer in place on what Flatten or Reshape share
with their bottom, propagate_down: false of Scale (which uses that diff for its own ends), Flatten
and Reshape (which share it).
"""

import zlib

import numpy as np

from random_cases import digest

NETS = 40
BATCH = 2
IMAGE = (BATCH, 4, 8, 8)
INPUT = (
    'layer { name: "in" type: "Input" top: "x" top: "labels" input_param '
    "{ shape { dim: 2 dim: 4 dim: 8 dim: 8 } shape { dim: 2 } } }"
)
ANY = [
    "ReLU",
    "Sigmoid",
    "Power",
    "Softmax",
    "Scale",
    "Bias",
    "PReLU",
    "BatchNorm",
    "Tile",
    "Flatten",
    "Reshape",
    "InnerProduct",
    "Eltwise",
    "Concat",
    "Slice",
    "Silence",
]
OF_IMAGES = ["Convolution", "Convolution", "Deconvolution", "Pooling", "LRN", "MVN"]
IN_PLACE = ("ReLU", "Sigmoid", "Softmax", "Scale", "Bias", "PReLU", "BatchNorm")


def texts(seed):
    """{name: text} of NETS nets."""
    return {
        f"net/{number}": RandomNet(number).text for number in range(seed * 1000, seed * 1000 + NETS)
    }


class RandomNet:
    """Draws the text of one net."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)
        self.lines, self.shapes = [INPUT], {"x": IMAGE}
        self.untouched = set()  # the blobs that a layer may change in place
        for _ in range(self.random.randint(4, 14)):
            self.add_layer()
        for _ in range(self.random.randint(1, 4)):
            self.add_loss()

    @property
    def text(self):
        force = "force_backward: true\n" if self.random.rand() < 0.3 else ""
        return force + "\n".join(self.lines)

    def pick(self, *values):
        return values[self.random.randint(len(values))]

    def blob(self, like=None):
        """One of the existing blobs, of the shape of `like`."""
        return self.pick(
            *sorted(
                name
                for name, shape in self.shapes.items()
                if like is None or shape == self.shapes[like]
            )
        )

    def add_layer(self):
        bottom = self.blob()
        shape = self.shapes[bottom]
        is_image = len(shape) == 4 and shape[2] > 1
        type = self.pick(*(ANY + OF_IMAGES if is_image else ANY))
        if type == "Slice" and shape[1] % 2 or type == "Pooling" and shape[2] % 2:
            return
        if type == "Silence" and bottom == "x":
            return
        draw = getattr(self, type.lower(), None)
        bottoms, shapes, options = draw(bottom, shape) if draw else ([bottom], [shape], "")
        in_place = type in IN_PLACE and bottom in self.untouched and self.random.rand() < 0.6
        tops = [bottom] if in_place else [f"blob{len(self.lines)}_{i}" for i in range(len(shapes))]
        weighted = self.random.rand() < 0.1
        if weighted:
            options += "".join(f" loss_weight: {self.random.uniform(0, 0.5):.2g}" for _ in tops)
        if self.random.rand() < 0.08 and type not in ("Scale", "Flatten", "Reshape"):
            options += "".join(f" propagate_down: {self.pick('true', 'false')}" for _ in bottoms)
        self.put(type, bottoms, tops, shapes, options)
        if not weighted and type not in ("Flatten", "Reshape", "LRN"):
            self.untouched.update(tops)

    def put(self, type, bottoms, tops, shapes, options):
        blobs = [f'bottom: "{name}"' for name in bottoms] + [f'top: "{name}"' for name in tops]
        self.lines.append(
            f'layer {{ name: "layer{len(self.lines)}" type: "{type}" {" ".join(blobs)} {options} }}'
        )
        self.untouched.difference_update(bottoms)
        self.shapes.update(zip(tops, shapes))

    def add_loss(self):
        bottom, weight = self.blob(), self.pick("", "loss_weight: 0.3")
        top = f"loss{len(self.lines)}"
        if self.random.randint(2):
            self.put("EuclideanLoss", [bottom, self.blob(bottom)], [top], [()], weight)
        else:
            self.put(
                "InnerProduct",
                [bottom],
                [f"scores{top}"],
                [()],
                "inner_product_param { num_output: 3 }",
            )
            self.put("SoftmaxWithLoss", [f"scores{top}", "labels"], [top], [()], weight)
            del self.shapes[f"scores{top}"]
        del self.shapes[top]

    def rates(self, *what):
        """param fields of a weight and a bias, some frozen, some shared with equal layers."""
        fields = []
        for index in range(2):
            field = f"lr_mult: {self.pick('0', '1', '2')}" if self.random.rand() < 0.3 else ""
            if self.random.rand() < 0.3:
                field = f'name: "{"_".join(map(str, what))}_{index}"'
            fields.append(f"param {{ {field} }}")
        return " ".join(fields)

    # ---- layers: bottoms, shapes of the tops, options --------------------------------------------

    def relu(self, bottom, shape):
        return [bottom], [shape], self.pick("", "relu_param { negative_slope: 0.2 }")

    def power(self, bottom, shape):
        return [bottom], [shape], "power_param { power: 2 scale: 0.5 shift: 0.3 }"

    def scale(self, bottom, shape):
        return [bottom], [shape], f"scale_param {{ bias_term: {self.pick('true', 'false')} }}"

    def lrn(self, bottom, shape):
        return [bottom], [shape], "lrn_param { local_size: 3 alpha: 0.5 }"

    def tile(self, bottom, shape):
        return [bottom], [(BATCH, 2 * shape[1], *shape[2:])], "tile_param { tiles: 2 }"

    def flatten(self, bottom, shape):
        return [bottom], [(BATCH, int(np.prod(shape[1:])))], ""

    def reshape(self, bottom, shape):
        _, shapes, _ = self.flatten(bottom, shape)
        return [bottom], shapes, "reshape_param { shape { dim: 0 dim: -1 } }"

    def innerproduct(self, bottom, shape):
        outputs = self.pick(3, 5)
        return (
            [bottom],
            [(BATCH, outputs)],
            (
                f"inner_product_param {{ num_output: {outputs} }} "
                + self.rates("product", outputs, int(np.prod(shape[1:])))
            ),
        )

    def convolution(self, bottom, shape, name="convolution"):
        kernel, outputs = self.pick(1, 3), self.pick(2, 4)
        return (
            [bottom],
            [(BATCH, outputs, *shape[2:])],
            (
                f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} "
                f"pad: {kernel // 2} }} {self.rates(name, outputs, shape[1], kernel)}"
            ),
        )

    def deconvolution(self, bottom, shape):
        return self.convolution(bottom, shape, "deconvolution")

    def pooling(self, bottom, shape):
        return (
            [bottom],
            [(*shape[:2], shape[2] // 2, shape[3] // 2)],
            (f"pooling_param {{ pool: {self.pick('MAX', 'AVE')} kernel_size: 2 stride: 2 }}"),
        )

    def eltwise(self, bottom, shape):
        bottoms = [bottom] + [self.blob(bottom) for _ in range(self.random.randint(1, 3))]
        return (
            bottoms,
            [shape],
            (f"eltwise_param {{ operation: {self.pick('SUM', 'PROD', 'MAX')} }}"),
        )

    def concat(self, bottom, shape):
        bottoms = [bottom] + [self.blob(bottom) for _ in range(self.random.randint(1, 3))]
        return bottoms, [(BATCH, len(bottoms) * shape[1], *shape[2:])], ""

    def slice(self, bottom, shape):
        return [bottom], [(BATCH, shape[1] // 2, *shape[2:])] * 2, ""

    def silence(self, bottom, shape):
        return [bottom], [], ""


def run(net, name):
    """The digest of a pycaffe Net after two passes: data, and the parameters' diffs of both."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    for _, blobs in sorted(net.params.items()):
        is_statistics = len(blobs) == 3
        for blob in blobs:
            if not is_statistics:
                blob.data[...] = random.normal(0, 0.3, tuple(blob.data.shape))
            blob.diff[...] = 0
    for _ in range(2):
        net.blobs["x"].data[...] = random.normal(size=IMAGE)
        net.blobs["labels"].data[...] = random.randint(0, 3, BATCH)
        net.forward()
        found = {f"{blob}.data": net.blobs[blob].data.copy() for blob in net.blobs}
        net.backward()
    found.update(
        (f"{layer}[{index}].diff", blob.diff.copy())
        for layer, blobs in net.params.items()
        for index, blob in enumerate(blobs)
    )
    return digest(found, name)
