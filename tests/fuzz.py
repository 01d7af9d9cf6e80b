"""Damaged nets, weights, states and records through the public API: only CaffeError comes out.

    python tests/fuzz.py KIND COUNT [SEED]

KIND is one of the functions in KINDS. Works in the current folder, with 1 GiB of memory more than
it starts with and some seconds for each case. Ends with the counts of what was refused and what
was not; anything but a CaffeError ends it with the traceback and the case.
"""

import faulthandler
import gzip
import json
import re
import resource
import shutil
import sys
from pathlib import Path

import h5py
import lmdb
import numpy as np
import torch
from google.protobuf import text_format

import archive_cases
import caffe
import catalogue_cases
import data_cases
import mutations
import solver_cases
from caffe.proto import caffe_pb2
from relaybp.data_prep import cifar

GOLDEN = Path(__file__).parent / "golden"
MEMORY_BYTES = 1 << 30
CASE_SECONDS = 20
NUMBERS = [
    ["0", "1", "2", "3", "4", "5", "6", "8"],
    ["-1", "-2", "0.5", "-3.5", "1e-30"],
    [
        "17",
        "300",
        "4096",
        "20000",
        "65536",
        "2147483647",
        "2147483648",
        "4294967295",
        "-2147483648",
        "9223372036854775807",
        "1e30",
    ],
    ["nan", "inf", "true", '"x"', "MAX"],
]


# ---- prototxts -----------------------------------------------------------------------------------


def nets(rng, count):
    """Every layer type, old nets too: other numbers, lost and doubled fields, random bytes."""
    data_cases.write_files(caffe_pb2, ".")
    texts = [case.prototxt() for rows in catalogue_cases.cases().values() for case in rows]
    texts += [text.replace("FOLDER", ".") for text, _ in data_cases.CASES.values()]
    texts += [path.read_text() for path in sorted((GOLDEN / "upgrade").glob("[!rs]*.old.prototxt"))]
    for _ in range(count):
        text = mutated_text(rng, texts[rng.integers(len(texts))])
        yield text, run_net


def run_net(text):
    write("net.prototxt", text)
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    net.forward()
    net.backward()


SOLVER = """
net: "net.prototxt" max_iter: 3 test_iter: 2 test_interval: 2 test_state { stage: "x" }
display: 1 average_loss: 2 snapshot: 2 snapshot_prefix: "shot" snapshot_format: HDF5
snapshot_diff: true debug_info: true random_seed: 5 test_initialization: false
train_state { level: 1 } solver_mode: CPU """


def solvers(rng, count):
    """Solvers of every type, damaged in the same way."""
    settings = sorted(solver_cases.CASES.values())
    write("net.prototxt", solver_cases.NET)
    for _ in range(count):
        yield mutated_text(rng, settings[rng.integers(len(settings))] + SOLVER), run_solver


def run_solver(text):
    write("solver.prototxt", text)
    solver = caffe.get_solver("solver.prototxt")
    solver.param.iter_size = min(solver.param.iter_size, 3)  # thousands are legal, and take hours
    solver.param.test_iter[:] = [min(batches, 3) for batches in solver.param.test_iter]
    solver.step(2)


def mutated_text(rng, text):
    """The bytes of `text`, mostly with other numbers."""
    for _ in range(rng.integers(1, 4)):
        numbers = [match.span() for match in re.finditer(r"(?<=: )[-+.\d]\S*", text)]
        fields = [match.span() for match in re.finditer(r"\w+: \S+ |\w+ \{[^{}]*\} ", text)]
        words = [match.span() for match in re.finditer(r"[-+.\w]+", text)]
        change = rng.integers(10)
        if change < 8 and numbers:
            kind = NUMBERS[rng.choice(4, p=[0.5, 0.2, 0.25, 0.05])]
            text = replaced(rng, text, numbers, kind[rng.integers(len(kind))])
        elif change == 8 and fields:
            start, end = fields[rng.integers(len(fields))]
            text = text[:start] + text[start:end] * int(rng.choice([0, 2])) + text[end:]
        else:
            other = words[rng.integers(len(words))]
            text = replaced(rng, text, words, text[slice(*other)])
    data = text.encode()
    return mutations.mutate(rng, data) if rng.integers(8) == 0 else data


def replaced(rng, text, spans, by):
    """`text` with one of `spans`, drawn, replaced."""
    start, end = spans[rng.integers(len(spans))]
    return text[:start] + by + text[end:]


# ---- binary files --------------------------------------------------------------------------------

FILES_NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        inner_product_param { num_output: 4 } }
"""


def weights(rng, count):
    """Weights in both formats, loaded into a net that they fit."""
    net = caffe.Net(text_format.Parse(FILES_NET, caffe_pb2.NetParameter()), caffe.TEST)

    def load(data):
        write("model", data)
        net.copy_from("model")
        net.forward()

    for index in range(count):
        name = ("model.bin", "model.h5")[index % 2]
        yield mutations.mutate(rng, (GOLDEN / "files" / name).read_bytes()), load


def states(rng, count):
    """Solver states in both formats, restored into a solver that they fit."""
    write("net.prototxt", solver_cases.NET)
    endings = {"BINARYPROTO": "", "HDF5": ".h5"}
    solver, sources = None, []
    for form, ending in endings.items():
        solver = solver_cases.make_solver(solver_cases.SNAPSHOTS[f"SGD_{form}"], ".")
        solver.step(2)
        solver.snapshot()
        sources.append(Path(f"snapshot_iter_2.solverstate{ending}").read_bytes())

    def restore(data):
        write("state", data)
        solver.restore("state")
        solver.step(1)

    for index in range(count):
        yield mutations.mutate(rng, sources[index % 2]), restore


def records(rng, count):
    """Datums of raw pixels, floats and PNG files in an LMDB, read by a Data layer."""
    kinds = ("raw", "float", "color", "gray")
    for index in range(count):
        datum = data_cases.datum(caffe_pb2, kinds[index % 4], index).SerializeToString()
        yield mutations.mutate(rng, datum), read_record


def read_record(data):
    path = Path("record")
    with (
        lmdb.open(str(path), map_size=1 << 20, sync=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"0", data)
    text = data_cases.data(path, options="batch_size: 2", transform="scale: 0.5").replace(
        "FOLDER", "."
    )
    net = caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TEST)
    net.forward()


def archives(rng, count):
    """Tars of CIFAR, plain and compressed, made into images: nothing is written beside them."""
    rows = rng.integers(0, 10, (6, 2, 3073), dtype=np.uint8)
    content = archive_cases.cifar10_python(rows, list("abcdefghij"))
    plain = archive_cases.tar(content)
    for index in range(count):
        data = mutations.mutate(rng, plain)
        yield (data if index % 2 else gzip.compress(data, 1)), prepare_cifar


def prepare_cifar(data):
    write("data.tar", data)
    before = sorted(Path("..").iterdir())
    shutil.rmtree("out", ignore_errors=True)
    try:
        cifar.prepare("data.tar", "out")
    finally:
        assert sorted(Path("..").iterdir()) == before
        assert not [path for path in Path("out").rglob("*") if path.is_symlink()]


def hdf5(rng, count):
    """HDF5 files for HDF5Data; the half of them name another file."""
    for index in range(count):
        with h5py.File("source.h5", "w") as file:
            file["data"] = rng.random((3, 4), np.float32)
            if index % 2:
                file["other"] = h5py.ExternalLink("secret.h5", "/")
        yield mutations.mutate(rng, Path("source.h5").read_bytes()), read_hdf5


def read_hdf5(data):
    write("data.h5", data)
    write("list.txt", "data.h5")
    caffe.Net(text_format.Parse(HDF5_NET, caffe_pb2.NetParameter()), caffe.TEST).forward()


HDF5_NET = """layer { name: "rows" type: "HDF5Data" top: "data"
                      hdf5_data_param { source: "list.txt" batch_size: 2 } }"""

KINDS = {kind.__name__: kind for kind in (nets, solvers, weights, states, records, archives, hdf5)}


def write(path, data):
    Path(path).write_bytes(data if isinstance(data, bytes) else data.encode())


def main(kind, count, seed=0):
    torch.set_num_threads(1)
    # once without limits, because the engine may have to compile kernels
    net = caffe.Net(text_format.Parse(FILES_NET, caffe_pb2.NetParameter()), caffe.TRAIN)
    net.forward()
    net.backward()
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + MEMORY_BYTES, hard_limit))
    refused = 0
    for data, use in KINDS[kind](np.random.default_rng(seed), count):
        write("case", data)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        try:
            use(data)
        except caffe.CaffeError:
            refused += 1
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"kind": kind, "refused": refused, "accepted": count - refused}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
