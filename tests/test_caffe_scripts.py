"""Shell scripts with the commands of Caffe's examples mnist, cifar10 and siamese, in a Caffe tree.

The programs are where `make programs` puts them; the nets are small ones of the same kind.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffe.proto import caffe_pb2
from caffe_plain.database import is_leveldb, open_database
from tests.mnist_files import write_cifar, write_mnist

ROOT = Path(__file__).parents[1]

SCRIPTS = {
    "mnist/create_mnist.sh": """
EXAMPLE=examples/mnist
DATA=data/mnist
BUILD=build/examples/mnist
BACKEND="lmdb"
rm -rf $EXAMPLE/mnist_train_${BACKEND}
rm -rf $EXAMPLE/mnist_test_${BACKEND}
$BUILD/convert_mnist_data.bin $DATA/train-images-idx3-ubyte \\
  $DATA/train-labels-idx1-ubyte $EXAMPLE/mnist_train_${BACKEND} --backend=${BACKEND}
$BUILD/convert_mnist_data.bin $DATA/t10k-images-idx3-ubyte \\
  $DATA/t10k-labels-idx1-ubyte $EXAMPLE/mnist_test_${BACKEND} --backend=${BACKEND}
""",
    "mnist/train_lenet.sh": """
./build/tools/caffe train --solver=examples/mnist/lenet_solver.prototxt $@
""",
    "cifar10/create_cifar10.sh": """
EXAMPLE=examples/cifar10
DATA=data/cifar10
DBTYPE=lmdb
rm -rf $EXAMPLE/cifar10_train_$DBTYPE $EXAMPLE/cifar10_test_$DBTYPE
./build/examples/cifar10/convert_cifar_data.bin $DATA $EXAMPLE $DBTYPE
./build/tools/compute_image_mean -backend=$DBTYPE \\
  $EXAMPLE/cifar10_train_$DBTYPE $EXAMPLE/mean.binaryproto
""",
    "cifar10/train_quick.sh": """
TOOLS=./build/tools
$TOOLS/caffe train \\
  --solver=examples/cifar10/cifar10_quick_solver.prototxt $@
$TOOLS/caffe train \\
  --solver=examples/cifar10/cifar10_quick_solver_lr1.prototxt \\
  --snapshot=examples/cifar10/cifar10_quick_iter_4.solverstate $@
""",
    "siamese/create_mnist_siamese.sh": """
EXAMPLES=./build/examples/siamese
DATA=./data/mnist
rm -rf ./examples/siamese/mnist_siamese_train_leveldb
rm -rf ./examples/siamese/mnist_siamese_test_leveldb
$EXAMPLES/convert_mnist_siamese_data.bin \\
    $DATA/train-images-idx3-ubyte \\
    $DATA/train-labels-idx1-ubyte \\
    ./examples/siamese/mnist_siamese_train_leveldb
$EXAMPLES/convert_mnist_siamese_data.bin \\
    $DATA/t10k-images-idx3-ubyte \\
    $DATA/t10k-labels-idx1-ubyte \\
    ./examples/siamese/mnist_siamese_test_leveldb
""",
    "siamese/train_mnist_siamese.sh": """
TOOLS=./build/tools
$TOOLS/caffe train --solver=examples/siamese/mnist_siamese_solver.prototxt $@
""",
}

DATA = """layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: {phase} }}
  transform_param {{ {transform} }} data_param {{ source: "{source}" batch_size: 10 {backend} }} }}
"""
CLASSIFY = """layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
PAIRS = """layer { name: "slice" type: "Slice" bottom: "data" top: "one" top: "two"
  slice_param { slice_dim: 1 slice_point: 1 } }
layer { name: "feat" type: "InnerProduct" bottom: "one" top: "feat" param { name: "w" }
  inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "feat_p" type: "InnerProduct" bottom: "two" top: "feat_p" param { name: "w" }
  inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "loss" type: "ContrastiveLoss" bottom: "feat" bottom: "feat_p" bottom: "label"
  top: "loss" contrastive_loss_param { margin: 1 } }
"""
# example: its net, the beginning and end of its data's names, its transform_param
NETS = {
    "mnist": (CLASSIFY, "mnist", "lmdb", "scale: 0.00390625"),
    "cifar10": (CLASSIFY, "cifar10", "lmdb", 'mean_file: "examples/cifar10/mean.binaryproto"'),
    "siamese": (PAIRS, "mnist_siamese", "leveldb", "scale: 0.00390625"),
}
SOLVER = """net: "examples/{example}/train_test.prototxt" test_iter: 2 test_interval: 4
base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 max_iter: {iterations}
snapshot: 4 snapshot_prefix: "examples/{example}/{prefix}" solver_mode: CPU
"""
SOLVERS = {  # its iterations, and how its snapshots' names begin
    "mnist/lenet_solver": (4, "lenet"),
    "cifar10/cifar10_quick_solver": (4, "cifar10_quick"),
    "cifar10/cifar10_quick_solver_lr1": (8, "cifar10_quick"),
    "siamese/mnist_siamese_solver": (4, "mnist_siamese"),
}


def write_prototxts(folder):
    for example, (net, prefix, ending, transform) in NETS.items():
        for split, phase in (("train", "TRAIN"), ("test", "TEST")):
            source = f"examples/{example}/{prefix}_{split}_{ending}"
            backend = "backend: LMDB" if ending == "lmdb" else ""  # LEVELDB is the default
            data = DATA.format(phase=phase, transform=transform, source=source, backend=backend)
            net = data + net
        (folder / example / "train_test.prototxt").write_text(net)
    for path, (iterations, prefix) in SOLVERS.items():
        (folder / f"{path}.prototxt").write_text(
            SOLVER.format(example=path.partition("/")[0], iterations=iterations, prefix=prefix)
        )


def write_programs(folder):
    """The console scripts as pip makes them, and links to them as `make programs` makes them."""
    (folder / "venv" / "bin").mkdir(parents=True)
    table = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[2]
    for name, module, function in re.findall(r'^(\w+) = "([\w.]+):(\w+)"$', table, re.MULTILINE):
        path = folder / "venv" / "bin" / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\n"
            f"sys.exit({function}())\n"
        )
        path.chmod(0o755)
    command = ["make", "programs", f"VENV={folder}/venv", f"BUILD={folder}/build"]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A Caffe tree: data, examples with scripts and nets, and build."""
    folder = tmp_path_factory.mktemp("caffe")
    write_programs(folder)
    for path, lines in SCRIPTS.items():
        script = folder / "examples" / path
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/usr/bin/env sh\nset -e\n{lines}")
    for name in ("mnist", "cifar10"):
        (folder / "data" / name).mkdir(parents=True)
    write_mnist(folder / "data/mnist", "train", 60)
    write_mnist(folder / "data/mnist", "t10k", 20, seed=1)
    write_cifar(folder / "data/cifar10", 12)
    write_prototxts(folder / "examples")
    return folder


def run(tree, script):
    paths = f"{ROOT / 'python'}:{ROOT}"
    done = subprocess.run(
        ["sh", f"examples/{script}"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def labels(path):
    with open_database(path).begin() as transaction:
        return [caffe_pb2.Datum.FromString(value).label for _, value in transaction.cursor()]


@pytest.mark.parametrize(
    ("create", "train", "db", "records", "left"),
    [
        ("mnist/create_mnist.sh", "mnist/train_lenet.sh", "mnist_train_lmdb", 60, "lenet_iter_4"),
        (
            "cifar10/create_cifar10.sh",
            "cifar10/train_quick.sh",
            "cifar10_train_lmdb",
            60,
            "cifar10_quick_iter_8",
        ),
        (
            "siamese/create_mnist_siamese.sh",
            "siamese/train_mnist_siamese.sh",
            "mnist_siamese_train_leveldb",
            60,
            "mnist_siamese_iter_4",
        ),
    ],
)
def test_an_example_runs_from_its_own_scripts(tree, create, train, db, records, left):
    folder = tree / "examples" / create.partition("/")[0]
    run(tree, create)
    run(tree, create)  # it deletes what it made before
    assert len(labels(folder / db)) == records
    assert is_leveldb(str(folder / db)) == db.endswith("_leveldb")
    log = run(tree, train)
    assert "Optimization Done." in log
    assert "Test net output #0: loss" in log
    for ending in ("caffemodel", "solverstate"):
        assert (folder / f"{left}.{ending}").exists()
