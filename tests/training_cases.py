"""Five classic nets made small, and how each is trained for 100 iterations on one LMDB.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19), where
tests/oracle/record_training.py records the losses. Nothing is random while they train: no
shuffling, no mirror, crops as large as the images, dropout_ratio 0.
"""

import os
import zlib

import lmdb
import numpy as np

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2

STEPS = 100
CLASSES = 8
RECORDS = 240  # not a multiple of the batch size: later epochs have other batches
BATCH = 16
SIDE = 32


def data(spec, channels=3):
    spec.data, spec.label = L.Data(
        ntop=2,
        source="lmdb%d" % channels,
        backend=P.Data.LMDB,
        batch_size=BATCH,
        transform_param={"scale": 1 / 64.0, "mean_value": [128] * channels, "crop_size": SIDE},
    )
    return spec.data


def conv(bottom, count, size, relu=True, **options):
    top = L.Convolution(
        bottom,
        num_output=count,
        kernel_size=size,
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
        **options,
    )
    return L.ReLU(top, in_place=True) if relu else top


def fc(bottom, count, relu=False, dropout=False):
    top = L.InnerProduct(bottom, num_output=count)
    top = L.ReLU(top, in_place=True) if relu else top
    return L.Dropout(top, dropout_ratio=0, in_place=True) if dropout else top


def pool(bottom, size=3, stride=2, kind=P.Pooling.MAX, **options):
    return L.Pooling(bottom, pool=kind, kernel_size=size, stride=stride, **options)


def average(bottom):
    return L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)


def norm(bottom):
    return L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)


def lenet(spec):
    top = pool(conv(data(spec, channels=1), 6, 5, relu=False), 2)
    top = pool(conv(top, 12, 5, relu=False), 2)
    return fc(fc(top, 40, relu=True), CLASSES)


def cifar_quick(spec):
    """The first ReLU follows the pooling, as there."""
    top = L.ReLU(pool(conv(data(spec), 8, 5, relu=False, pad=2)), in_place=True)
    top = pool(conv(top, 8, 5, pad=2), kind=P.Pooling.AVE)
    top = pool(conv(top, 16, 5, pad=2), kind=P.Pooling.AVE)
    return fc(fc(top, 16), CLASSES)


def alexnet(spec):
    """Large strided windows first, LRN, convolutions in groups, two wide layers with dropout."""
    top = norm(pool(conv(data(spec), 12, 7, stride=2)))
    top = norm(pool(conv(top, 16, 5, pad=2, group=2)))
    top = conv(top, 24, 3, pad=1)
    top = conv(top, 24, 3, pad=1, group=2)
    top = pool(conv(top, 16, 3, pad=1, group=2), 3, 1)
    return fc(fc(fc(top, 48, relu=True, dropout=True), 48, relu=True, dropout=True), CLASSES)


def inception(bottom, one, three_reduce, three, five_reduce, five, project):
    return L.Concat(
        conv(bottom, one, 1),
        conv(conv(bottom, three_reduce, 1), three, 3, pad=1),
        conv(conv(bottom, five_reduce, 1), five, 5, pad=2),
        conv(pool(bottom, 3, 1, pad=1), project, 1),
    )


def googlenet(spec):
    """Three inception modules and one auxiliary loss."""
    top = norm(pool(conv(data(spec), 8, 7, stride=2, pad=3)))
    top = norm(conv(conv(top, 8, 1), 16, 3, pad=1))
    top = inception(top, 8, 6, 8, 3, 4, 4)
    branch = conv(pool(top, 5, 3, P.Pooling.AVE), 8, 1)
    branch = fc(fc(branch, 32, relu=True, dropout=True), CLASSES)
    spec.loss1 = L.SoftmaxWithLoss(branch, spec.label, loss_weight=0.3)
    top = inception(pool(top), 8, 6, 10, 3, 4, 4)
    top = inception(top, 10, 6, 12, 3, 5, 5)
    return fc(L.Dropout(average(top), dropout_ratio=0, in_place=True), CLASSES)


def normalized(bottom, count, size, relu=True, **options):
    top = L.Convolution(bottom, num_output=count, kernel_size=size, bias_term=False, **options)
    top = L.Scale(L.BatchNorm(top, in_place=True), bias_term=True, in_place=True)
    return L.ReLU(top, in_place=True) if relu else top


def residual(bottom, count, stride=1):
    """A bottleneck; its shortcut is a projection where the shape changes."""
    shortcut = bottom if stride == 1 else normalized(bottom, count, 1, relu=False, stride=stride)
    top = normalized(normalized(bottom, count // 4, 1, stride=stride), count // 4, 3, pad=1)
    return L.ReLU(L.Eltwise(shortcut, normalized(top, count, 1, relu=False)), in_place=True)


def resnet(spec):
    top = pool(normalized(data(spec), 16, 7, stride=2, pad=3))
    for stride, count in ((1, 16), (2, 32), (1, 32), (2, 48)):
        top = residual(top, count, stride)
    return fc(average(top), CLASSES)


# net: its solver's settings
CASES = {
    lenet: 'base_lr: 0.01 lr_policy: "inv" gamma: 0.01 power: 0.75 momentum: 0.9 '
    "weight_decay: 0.0005",
    cifar_quick: 'base_lr: 0.005 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.004',
    alexnet: 'base_lr: 0.005 lr_policy: "step" gamma: 0.1 stepsize: 60 momentum: 0.9 '
    "weight_decay: 0.0005",
    googlenet: 'base_lr: 0.003 lr_policy: "poly" power: 0.5 momentum: 0.9 weight_decay: 0.0002',
    resnet: 'base_lr: 0.003 lr_policy: "multistep" gamma: 0.1 stepvalue: 60 stepvalue: 90 '
    "momentum: 0.9 weight_decay: 0.0001",
}
CASES = {make.__name__: (make, settings) for make, settings in CASES.items()}


def write_databases(folder):
    """lmdb1 and lmdb3: a blurred pattern for each class under noise; one label in ten is wrong."""
    for channels in (1, 3):
        random = np.random.RandomState(channels)
        patterns = np.kron(random.uniform(0, 255, (CLASSES, channels, 4, 4)), np.ones((8, 8)))
        with (
            lmdb.open(os.path.join(folder, "lmdb%d" % channels), map_size=1 << 24) as base,
            base.begin(write=True) as transaction,
        ):
            for index in range(RECORDS):
                label = random.randint(CLASSES)
                image = 0.5 * patterns[label] + random.uniform(0, 127, patterns.shape[1:])
                if random.randint(10) == 0:
                    label = random.randint(CLASSES)
                datum = caffe_pb2.Datum(
                    channels=channels,
                    height=SIDE,
                    width=SIDE,
                    label=label,
                    data=image.astype(np.uint8).tobytes(),
                )
                transaction.put(b"%05d" % index, datum.SerializeToString())


def make_solver(name, disturb=0.0):
    """A solver of a case in the current folder; its weights are changed by a relative `disturb`."""
    make, settings = CASES[name]
    spec = caffe.NetSpec()
    spec.loss = L.SoftmaxWithLoss(make(spec), spec.label)
    with open("%s.prototxt" % name, "w") as file:
        file.write(str(spec.to_proto()))
    with open("%s_solver.prototxt" % name, "w") as file:
        file.write('net: "%s.prototxt" max_iter: %d %s' % (name, STEPS, settings))
    solver = caffe.get_solver("%s_solver.prototxt" % name)
    for layer, blobs in solver.net.params.items():
        weight = blobs[0].data
        if weight.ndim > 1:  # biases, Scale and BatchNorm start from constants
            random = np.random.RandomState(zlib.crc32(layer.encode()) % 2**31)
            weight[...] = random.randn(*weight.shape) * np.sqrt(2.0 / np.prod(weight.shape[1:]))
            weight *= 1 + disturb * random.randn(*weight.shape)
    return solver


def losses(name, folder, disturb=0.0):
    """The losses of STEPS iterations: (STEPS,), or (STEPS, 2) with an auxiliary loss."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        solver = make_solver(name, disturb)
        found = []
        for _ in range(STEPS):
            solver.step(1)
            found.append([float(solver.net.blobs[key].data) for key in sorted(solver.net.outputs)])
        return np.array(found, np.float32)
    finally:
        os.chdir(here)
