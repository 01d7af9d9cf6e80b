"""Compare this engine with BVLC Caffe's recorded results for the rows of tests/catalogue_cases."""

import json
from pathlib import Path

import numpy as np
from google.protobuf import text_format

import caffe
import catalogue_cases
from caffe import device
from caffe.proto import caffe_pb2

CASES = [case for rows in catalogue_cases.cases().values() for case in rows]
JUDGED = [case for case in CASES if case.judged]
GOLDEN = Path(__file__).parent / "golden"
SMALL = 1e-3  # smaller norms count as this one, so that rounding around zero is no error


def load(folder=GOLDEN):
    """{"type/name/seed": {what: array}} of all families recorded in `folder`."""
    results = {}
    for path in sorted(folder.glob("catalogue_*.npz")):
        with np.load(path) as file:
            values, start = file["values"], 0
            for key, shapes in json.loads(str(file["index"])).items():
                results[key] = {}
                for what, shape in shapes.items():
                    end = start + int(np.prod(shape))
                    results[key][what] = values[start:end].reshape(shape)
                    start = end
    return results


def make_net(case, in_place=False):
    param = text_format.Parse(case.prototxt(in_place), caffe_pb2.NetParameter())
    return caffe.Net(param, getattr(caffe, case.phase))


def error(found, expected, small=SMALL):
    """|found - expected| / |expected|, in Euclidean norms."""
    found, expected = (np.float64(x.cpu() if hasattr(x, "cpu") else x) for x in (found, expected))
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), small)


def compare(case, golden, in_place=False, tolerance=0):
    """Assert that the engine agrees with all that is recorded of `case`.

    The tolerance is the row's own or `tolerance`, whichever is larger; on a GPU, which adds in
    another order, it is never less than some last places.
    """
    tolerance = max(tolerance, case.tolerance, 3e-6 if device.ordinal >= 0 else 0)
    recorded = [seed for seed in range(100) if f"{case.key}/{seed}" in golden]
    assert recorded, f"{case.key} is not recorded: run tests/oracle/record_catalogue.py"
    for seed in recorded:
        expected = golden[f"{case.key}/{seed}"]
        found = catalogue_cases.run(make_net(case, in_place), case, seed, in_place)
        assert {what: array.shape for what, array in found.items()} == {
            what: array.shape for what, array in expected.items()
        }
        errors = {what: error(found[what], expected[what]) for what in expected}
        assert all(e <= tolerance for e in errors.values()), f"seed {seed}: {errors}"
