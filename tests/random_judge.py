"""How close this engine comes to BVLC Caffe's results for the random rows."""

import json
from pathlib import Path

import numpy as np
from google.protobuf import text_format

import caffe
import catalogue_judge
import random_cases
import random_data_cases
import random_nets
from caffe.proto import caffe_pb2

NET_TOLERANCE, NET_SMALL = 1e-4, 1.0  # many gradients of nets cancel
GOLDEN = Path(__file__).parent / "golden" / "random.npz"
TYPES = sorted([*random_cases.DRAWERS, *random_data_cases.DRAWERS])


def load(path=GOLDEN):
    """{row: {what: (shape, projections)}} of a recording."""
    with np.load(path) as file:
        values, count = file["values"].reshape(-1, random_cases.PROJECTIONS), iter(range(1 << 30))
        return {
            name: {what: (tuple(shape), values[next(count)]) for what, shape in shapes.items()}
            for name, shapes in json.loads(str(file["index"])).items()
        }


def digests(type, seed, folder):
    """Yield (row, its tolerance, its description, its digest) of a type's rows."""
    if type in random_cases.DRAWERS:
        for case in random_cases.rows(type, seed):
            found = random_cases.run_row(catalogue_judge.make_net(case), case)
            yield case.key, case.tolerance, f"{case.bottoms} {case.options}", found
    else:
        for name, (text, phase) in random_data_cases.rows(type, seed).items():
            found = random_data_cases.run_row(caffe, str(folder), name, text, phase)
            yield name, 1e-6, text, found


def nets(seed):
    """The same of the random nets."""
    for name, text in random_nets.texts(seed).items():
        net = caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN)
        yield name, NET_TOLERANCE, text, random_nets.run(net, name)


def failures(golden, digests, tolerance=0, small=catalogue_judge.SMALL):
    """(how many rows there are, a line for each that does not agree).

    small: smaller norms count as this one, so that rounding around zero is no error.
    """
    rows, lines = 0, []
    for name, own, text, found in digests:
        expected, rows = golden[name], rows + 1
        if {what: shape for what, (shape, _) in found.items()} != {
            what: shape for what, (shape, _) in expected.items()
        }:
            shapes = [
                {what: shape for what, (shape, _) in one.items()} for one in (found, expected)
            ]
            lines.append(f"{name}: {text}: shapes {shapes[0]} against {shapes[1]}")
            continue
        errors = {
            what: catalogue_judge.error(found[what][1], expected[what][1], small)
            for what in expected
        }
        if max(errors.values(), default=0) > max(own, tolerance):
            lines.append(f"{name}: {text}: {errors}")
    return rows, lines
