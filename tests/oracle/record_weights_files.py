"""Record files that BVLC Caffe writes, and what it holds in memory, for test_weights_files.py.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_weights_files.py

writes tests/golden/files/: model.bin and state.bin (a .caffemodel with diffs and a .solverstate),
model.h5 and state.h5 (the same in HDF5), mean.bin (a mean.binaryproto), and values.npz
(parameters, diffs and images as pycaffe shows them).

With --check FOLDER it loads every model* and state* in FOLDER instead, takes one more step from
a state, and saves what Caffe then has in memory beside it: see test_weights_files_live.py.
"""

import argparse
import glob
import os
import shutil
import subprocess
import tempfile

import numpy as np

import caffe
import golden

GOLDEN = os.path.join(golden.FOLDER, "files")

NET = """
name: "files"
layer { name: "data" type: "DummyData" top: "data" top: "target"
        dummy_data_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } shape { dim: 2 dim: 4 }
                           data_filler { type: "gaussian" std: 1 }
                           data_filler { type: "constant" value: 0.5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 }
        param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv"
        scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
        param { name: "w" } inner_product_param { num_output: 4
        weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "twin" type: "InnerProduct" bottom: "conv" top: "twin"
        param { name: "w" } inner_product_param { num_output: 4
        weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }
layer { name: "loss2" type: "EuclideanLoss" bottom: "twin" bottom: "target" top: "loss2" }
"""

SOLVER = """
net: "net.prototxt"
type: "Adam"
base_lr: 0.01
lr_policy: "multistep"
stepvalue: 2
stepvalue: 3
gamma: 0.5
momentum: 0.9
momentum2: 0.999
max_iter: 10
snapshot_prefix: "snap"
snapshot_diff: true
random_seed: 3
solver_mode: CPU
"""

IMAGES = np.random.RandomState(0).randint(0, 256, (3, 3, 4, 5)).astype(np.uint8)


def make_solver(snapshot_format=""):
    with open("net.prototxt", "w") as file:
        file.write(NET)
    with open("solver.prototxt", "w") as file:
        file.write(SOLVER + snapshot_format)
    return caffe.get_solver("solver.prototxt")


def parameters(net):
    found = {}
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            found["%s/%d/data" % (name, index)] = blob.data.copy()
            found["%s/%d/diff" % (name, index)] = blob.diff.copy()
    return found


def write_mean():
    """Run Caffe's own compute_image_mean on a small LMDB."""
    import lmdb

    with lmdb.open("images", map_size=1 << 20) as base, base.begin(write=True) as txn:
        for index, image in enumerate(IMAGES):
            txn.put(b"%d" % index, caffe.io.array_to_datum(image).SerializeToString())
    subprocess.run(["compute_image_mean", "images", "mean.bin"], check=True)


def record():
    for snapshot_format, ending in (("", ""), ("snapshot_format: HDF5\n", ".h5")):
        solver = make_solver(snapshot_format)
        solver.step(3)
        solver.snapshot()
        for kind, name in (("caffemodel", "model"), ("solverstate", "state")):
            shutil.copy(
                "snap_iter_3.%s%s" % (kind, ending), os.path.join(GOLDEN, name + (ending or ".bin"))
            )
    write_mean()
    shutil.copy("mean.bin", GOLDEN)
    values = os.path.join(GOLDEN, "values.npz")
    golden.save_arrays(values, images=IMAGES, **parameters(solver.net))
    golden.enter(*glob.glob(os.path.join(GOLDEN, "*")))


def check(folder):
    """Load every model and state in `folder`; save what is in memory after one more step."""
    for name in sorted(os.listdir(folder)):
        if not name.startswith(("model", "state")):
            continue
        solver = make_solver()
        path = os.path.join(folder, name)
        if name.startswith("model"):
            solver.net.copy_from(path)
        else:
            solver.restore(path)
            solver.step(1)
        np.savez(path + ".npz", iter=solver.iter, **parameters(solver.net))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="FOLDER")
    args = parser.parse_args()
    folder = args.check and os.path.abspath(args.check)
    os.makedirs(GOLDEN, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        check(folder) if folder else record()
    print("written to", folder or GOLDEN)


if __name__ == "__main__":
    main()
