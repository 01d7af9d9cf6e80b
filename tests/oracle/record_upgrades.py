"""Record how BVLC Caffe upgrades the nets and solvers in tests/golden/upgrade/.

    bash ../shared/oracle/run.sh python3 tests/oracle/record_upgrades.py

NAME.old.prototxt is written by hand; this writes NAME.new.prototxt beside it. What Caffe refuses
is called refused_NAME and gets no second file. snapshot_prefix.json tells where the solver at
each path, with each prefix, puts its snapshots ("snaps" is a folder).
"""

import glob
import json
import os
import subprocess
import tempfile

from google.protobuf import text_format

import caffe
import golden
from caffe.proto import caffe_pb2

FOLDER = os.path.join(golden.FOLDER, "upgrade")


def upgrade(tool, old, new):
    """Run an upgrade tool of Caffe; whether it wrote `new`."""
    if os.path.exists(new):
        os.unlink(new)
    subprocess.run([tool, old, new], stderr=subprocess.DEVNULL)
    return os.path.exists(new)


def check_binary(old, new):
    """Caffe's binary tool must say the same as its text tool."""
    net = caffe_pb2.NetParameter()
    with open(old) as file:
        text_format.Parse(file.read(), net)
    with open(new + ".in", "wb") as file:
        file.write(net.SerializeToString())
    assert upgrade("upgrade_net_proto_binary", new + ".in", new + ".out"), old
    with open(new + ".out", "rb") as file:
        binary = caffe_pb2.NetParameter.FromString(file.read())
    with open(new) as file:
        assert text_format.Parse(file.read(), caffe_pb2.NetParameter()) == binary, old
    os.unlink(new + ".in")
    os.unlink(new + ".out")


NET = """train_net_param { layer { name: "data" type: "DummyData" top: "data"
                                  dummy_data_param { shape { dim: 1 } } } } max_iter: 1 base_lr: 1
         lr_policy: "fixed" solver_mode: CPU """
SOLVERS = [
    (path, prefix)
    for path in ("solver.prototxt", "sub/a.b.prototxt", "sub/plain")
    for prefix in (None, "snap", "snaps", "snaps/", "snaps/x")
]


def snapshot_prefix(path, prefix):
    """The start of the names of the snapshots that Caffe writes."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        os.mkdir("sub")
        os.mkdir("snaps")
        with open(path, "w") as file:
            file.write(NET + ('snapshot_prefix: "%s"' % prefix if prefix else ""))
        caffe.get_solver(path).snapshot()
        ending = "_iter_0.caffemodel"
        (found,) = glob.glob("*" + ending) + glob.glob("*/*" + ending)
        os.chdir("/")
        return found[: -len(ending)]


def main():
    written = refused = 0
    for old in sorted(glob.glob(os.path.join(FOLDER, "*.old.prototxt"))):
        new = old.replace(".old.", ".new.")
        solver = "solver" in os.path.basename(old)
        tool = "upgrade_solver_proto_text" if solver else "upgrade_net_proto_text"
        done = upgrade(tool, old, new)
        assert done != os.path.basename(old).startswith("refused_"), old
        if done and not solver:
            check_binary(old, new)
        written, refused = written + done, refused + (not done)
    golden.enter_handwritten(*glob.glob(os.path.join(FOLDER, "*.old.prototxt")))
    golden.enter(*glob.glob(os.path.join(FOLDER, "*.new.prototxt")))
    prefixes = [(path, prefix, snapshot_prefix(path, prefix)) for path, prefix in SOLVERS]
    golden.save_text(os.path.join(FOLDER, "snapshot_prefix.json"), json.dumps(prefixes, indent=0))
    print("%d upgraded, %d refused by Caffe" % (written, refused))


if __name__ == "__main__":
    main()
