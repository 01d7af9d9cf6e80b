"""Record what BVLC Caffe computes for random layers and nets, for tests/test_random_cases.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_random.py [--out FILE] [--seeds N ...]

writes FILE (default: tests/golden/random.npz): the digests of all rows of tests/random_cases.py and
tests/random_data_cases.py and all nets of tests/random_nets.py in one float32 vector, and an
index {row: {what: shape}} in the same order.
"""

import argparse
import json
import os
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

os.environ.setdefault("GLOG_minloglevel", "2")  # only what ends the process

import caffe  # noqa: E402
import data_cases  # noqa: E402
import golden  # noqa: E402
import random_cases  # noqa: E402
import random_data_cases  # noqa: E402
import random_nets  # noqa: E402
from caffe.proto import caffe_pb2  # noqa: E402


def layers(type, seed):
    """(row, digest) of a layer type's rows, by the Caffe that runs this script."""
    for case in random_cases.rows(type, seed):
        print(f"{case.key}: {case.bottoms} {case.options}", flush=True)  # what ended Caffe
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(case.prototxt())
            file.flush()
            net = caffe.Net(file.name, getattr(caffe, case.phase))
        yield case.key, random_cases.run_row(net, case)


def nets(seed):
    """The same of whole nets."""
    for name, text in random_nets.texts(seed).items():
        print(f"{name}: {text}", flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(text)
            file.flush()
            net = caffe.Net(file.name, caffe.TRAIN)
        yield name, random_nets.run(net, name)


def data_layers(type, seed, folder):
    """The same of a data layer; `folder` holds the files that it reads."""
    for name, (text, phase) in random_data_cases.rows(type, seed).items():
        print(f"{name}: {text}", flush=True)
        yield name, random_data_cases.run_row(caffe, folder, name, text, phase)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.join(golden.FOLDER, "random.npz"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("types", nargs="*")
    args = parser.parse_args()
    caffe.set_mode_cpu()
    index, values = {}, []
    with tempfile.TemporaryDirectory() as folder:
        data_cases.write_files(caffe_pb2, folder)
        for type in args.types or [*random_cases.DRAWERS, *random_data_cases.DRAWERS, "nets"]:
            for seed in args.seeds:
                for name, found in (
                    nets(seed)
                    if type == "nets"
                    else layers(type, seed)
                    if type in random_cases.DRAWERS
                    else data_layers(type, seed, folder)
                ):
                    index[name] = {what: shape for what, (shape, _) in found.items()}
                    values += [projections for _, projections in found.values()]
    golden.save_arrays(
        args.out, index=json.dumps(index), values=np.concatenate(values).astype(np.float32)
    )
    print(f"{len(index)} rows")


if __name__ == "__main__":
    main()
