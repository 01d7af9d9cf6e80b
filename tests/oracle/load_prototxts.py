"""Load every committed train_val, deploy and solver prototxt in the installed Caffe.

    make oracle-test        or, where BVLC Caffe is on the path,
    python3 tests/oracle/load_prototxts.py [MODEL ...]

The data layers get a small LMDB and batches of two images; nothing is trained. The generators, run
on this Caffe's own NetSpec, must give the same nets.
"""

import glob
import os
import sys
import tempfile

os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import lmdb
import numpy as np
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)
sys.path.append(os.path.join(ROOT, "python"))  # for caffe_plain; caffe is found before it
from relaybp.data_layers import data_layers  # noqa: E402
from relaybp.prototxt import count, generate  # noqa: E402


def main(models):
    """Load each model's files; the first that does not load ends the run."""
    paths = sorted(glob.glob(os.path.join(ROOT, "prototxt", "*", "solver.prototxt")))
    models = models or [os.path.basename(os.path.dirname(path)) for path in paths]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.mkdir("runs")
        for model in models:
            deploy, training, standard = load(os.path.join(ROOT, "prototxt", model))
            print(
                f"{model}: {deploy} parameters in deploy, {training} in the training net, "
                f"{standard} without branches",
                flush=True,
            )
    print(f"{len(models)} models load")


def load(folder):
    """Build the nets and the solver of a model folder; the learned parameters of each net."""
    for path in glob.glob(os.path.join(folder, "deploy_*.prototxt")):
        caffe.Net(path, caffe.TEST)
    deploy = caffe.Net(os.path.join(folder, "deploy.prototxt"), caffe.TEST)
    train_val = _read(os.path.join(folder, "train_val.prototxt"), caffe_pb2.NetParameter())
    assert train_val == generate.load(os.path.basename(folder)).train_val()
    _shrink_data(train_val)
    _write("train_val.prototxt", train_val)
    solver = _read(os.path.join(folder, "solver.prototxt"), caffe_pb2.SolverParameter())
    assert solver.net == os.path.relpath(os.path.join(folder, "train_val.prototxt"), ROOT)
    solver.net = "train_val.prototxt"
    sizes = [parameters(deploy)]
    assert sizes[0] == count.parameters(count.walk(train_val, caffe.TEST, "standard"))
    for stages in ([], ["standard"], ["data"]):
        del solver.train_state.stage[:]
        solver.train_state.stage.extend(stages)
        _write("solver.prototxt", solver)
        built = caffe.get_solver("solver.prototxt")
        sizes.append(parameters(built.net))
    assert sizes.pop() == sizes[1]  # whatever feeds it
    return tuple(sizes)


def parameters(net):
    """How many numbers a net learns: all parameters except BatchNorm's statistics."""
    return sum(
        int(np.prod(blob.shape))
        for layer in net.layers
        for blob in layer.blobs
        if layer.type != "BatchNorm"
    )


def _shrink_data(net):
    """Point the data layers at a small LMDB, in batches of two."""
    for layer in data_layers(net.layer):
        source = f"lmdb{layer.get('crop_size')}"
        if not os.path.exists(source):
            _write_lmdb(source, layer.get("crop_size"))
        layer.set("source", source)
        layer.set("batch_size", 2)
        for field in ("mean_file", "color_file"):
            if layer.get(field):
                layer.clear(field)


def _write_lmdb(path, side):
    """Four black square images, labels 0 to 3."""
    environment = lmdb.open(path, map_size=1 << 26)
    with environment.begin(write=True) as transaction:
        for label in range(4):
            datum = caffe_pb2.Datum(
                channels=3, height=side, width=side, label=label, data=bytes(3 * side * side)
            )
            transaction.put(b"%08d" % label, datum.SerializeToString())
    environment.close()


def _read(path, message):
    with open(path) as file:
        return text_format.Parse(file.read(), message)


def _write(path, message):
    with open(path, "w") as file:
        file.write(text_format.MessageToString(message))


if __name__ == "__main__":
    main(sys.argv[1:])
