"""Record what BVLC Caffe computes for every row of tests/catalogue_cases, for
tests/test_catalogue.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_catalogue.py [--out DIR] [FAMILY ...]

writes DIR/catalogue_FAMILY.npz (default DIR: tests/golden): all numbers in one float32 vector,
and an index {"type/name/seed": {what: shape}} in the same order.
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
import catalogue_cases  # noqa: E402
import golden  # noqa: E402


def record(case, seed):
    """The results of one row, by the Caffe that runs this script."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(case.prototxt())
        file.flush()
        net = caffe.Net(file.name, getattr(caffe, case.phase))
    return catalogue_cases.run(net, case, seed)


def record_family(family, cases, seeds, folder):
    index, values = {}, []
    for case in (case for case in cases if case.judged):
        for seed in seeds:
            print(f"{case.key} seed {seed}", flush=True)  # the last line names what ended Caffe
            results = record(case, seed)
            index[f"{case.key}/{seed}"] = {what: a.shape for what, a in results.items()}
            values += [array.ravel() for array in results.values()]
    path = os.path.join(folder, f"catalogue_{family}.npz")
    golden.save_arrays(
        path, index=json.dumps(index), values=np.concatenate(values).astype(np.float32)
    )
    print(f"{family}: {len(index)} runs")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=golden.FOLDER)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(catalogue_cases.SEEDS))
    parser.add_argument("families", nargs="*")
    args = parser.parse_args()
    caffe.set_mode_cpu()
    for family, cases in catalogue_cases.cases().items():
        if not any(case.judged for case in cases):
            continue  # layers of forks, which this Caffe does not have
        if not args.families or family in args.families:
            record_family(family, cases, args.seeds, args.out)


if __name__ == "__main__":
    main()
