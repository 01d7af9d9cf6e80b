"""What a stranger's files must not be able to do: each is built here and refused by name."""

import gzip
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.catalogue.data import prefetch
from caffe.command import draw_net, summarize
from caffe.command import main as command
from caffe.files import weights
from caffe.files.text import read_net
from caffe_plain import python_layers
from caffe_plain.database import new_database
from caffe_plain.errors import DataError
from caffe_plain.names import file_name
from relaybp import flows, models
from relaybp.data_prep import archives, bounded_reader, cifar, make_list
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.matlab import read_matlab
from relaybp.data_prep.pickles import read_pickle
from relaybp.errors import RelayError
from relaybp.evaluation.identity import net_of_run
from relaybp.relay_file import parse_relay, read_relay
from tests import archive_cases as cases
from tests.oracle.record_data_prep import cifar_rows

ROOT = Path(__file__).parents[1]

# ---- names that become paths ---------------------------------------------------------------------

UNSAFE = {
    "": "names no file",
    ".": "names no file",
    "..": "names no file",
    "../../x": "slash",
    "/etc/x": "slash",
    "a\\b": "slash",
    "a\nb": "line break",
    "a\0b": "control",
    "a\x1b[2Jb": "control",
    "a\u2028b": "line break",
    "é" * 128: "256 bytes",
    "a\ud8ffb": "cannot store",
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names(name):
    with pytest.raises(DataError, match=rf"^list: class .* cannot name a file: .*{UNSAFE[name]}"):
        file_name(name, "list: class")


@pytest.mark.parametrize("name", ["airplane", "n01440764", "a b", "-x", ".x", "été", "..x", "x.."])
def test_safe_names(name, tmp_path):
    (tmp_path / file_name(name, "class")).touch()
    assert os.listdir(tmp_path) == [name]


def test_a_models_name_leads_nowhere_else(tmp_path):
    (tmp_path / "train_val.prototxt").touch()
    (tmp_path / "models").mkdir()
    with pytest.raises(DataError, match="MODEL '../' cannot name a file"):
        models.find("../", tmp_path / "models")


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("form", [(), ("--lmdb",)])
def test_a_class_of_cifar_stays_in_the_output_folder(tmp_path, version, form):
    names = ["../../x", *"bcdefghij"]
    if version == "python":
        content = cases.cifar10_python(cifar_rows(), names)
    else:
        files = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
        content = {file: rows.tobytes() for file, rows in zip(files, cifar_rows(), strict=True)}
        content["batches.meta.txt"] = "\n".join(names).encode()
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in" / "cifar.tar.gz"
    archive.write_bytes(cases.tar(content, "gz"))
    before = everything_below(tmp_path)
    with pytest.raises(DataError, match=r"class '../../x' cannot name a file: it holds a slash"):
        cifar.main([*form, str(archive), str(tmp_path / "a" / "b" / "out")])
    assert everything_below(tmp_path) == before


def test_a_class_folder_cannot_add_a_line_to_the_lists(tmp_path):
    folder = tmp_path / "images" / "cat\ndog"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"images: class 'cat\\ndog' cannot name a file"):
        make_list.make_lists(tmp_path / "images", tmp_path / "out")


@pytest.mark.parametrize("schedule", ["PAIR_WISE", "MULTI_WAY", "JOINT"])
def test_a_loss_stays_in_the_folder_of_the_snapshots(schedule):
    """Its momentum goes to PREFIX_iter_N.LOSS.solverstate."""
    param = text_format.Parse(
        """layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
                inner_product_param { num_output: 1 axis: 0 } }
        layer { name: "/../../mine" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "l" }""",
        caffe.proto.caffe_pb2.NetParameter(),
    )
    net, relay = caffe.Net(param, caffe.TRAIN), parse_relay(f"schedule: {schedule}")
    if schedule == "JOINT":  # one file for all losses
        assert flows.plan(net, relay, param)[0].loss == "/../../mine"
    else:
        with pytest.raises(DataError, match="relay.prototxt: loss '/../../mine' cannot name a fi"):
            flows.plan(net, relay, param)


@pytest.mark.parametrize("name", ["c/..", "a\rb"])
def test_a_file_of_an_archive_stays_in_the_output_folder(tmp_path, name):
    path = tmp_path / "evil.tar"
    path.write_bytes(cases.tar({name: b"x"}))
    with pytest.raises(DataError, match=r"evil.tar: file .* cannot name a file"):
        archives.extract(archives.members(path), tmp_path, path)
    assert os.listdir(tmp_path) == ["evil.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_of_an_archive_are_left_out(tmp_path, kind):
    member = tarfile.TarInfo("passwd")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(member)
    assert list(archives.members(tmp_path / "evil.tar")) == []


# ---- archives that grow --------------------------------------------------------------------------


def test_an_archive_that_grows_is_refused_before_it_has_grown(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_reader, "FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(cases.tar({"zeros": bytes(4 << 20)}, "gz"))
    (tmp_path / "out").mkdir()
    with pytest.raises(PrepError, match=r"bomb.tar.gz: it unpacks to 4,\d+,\d+ bytes .*not trust"):
        archives.extract(archives.members(path), tmp_path / "out", path)
    assert os.listdir(tmp_path / "out") == []


def test_a_sparse_file_counts_as_large_as_it_becomes(tmp_path):
    member = tarfile.TarInfo("sparse")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:482] = bytes(96)  # no piece of it is stored
    header[483:495] = b"77777777777\0"  # 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "bomb.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(PrepError, match="bomb.tar: it unpacks to 8,589,934,591 bytes"):
        list(archives.members(path))


def test_a_header_that_grows_is_refused(tmp_path):
    """A name of 64 MiB, which the module tarfile would read in one go."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 64 << 20
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", 1) as out:
        out.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20))
    with pytest.raises(PrepError, match=r"bomb.tar.gz: it has a header of 67,\d+,\d+ bytes"):
        list(archives.members(path))


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    path = tmp_path / "many.tar"
    path.write_bytes(cases.tar({f"{k}": b"" for k in range(3)}))
    assert len(list(archives.members(path))) == 3
    path.write_bytes(cases.tar({f"{k}": b"" for k in range(4)}))
    with pytest.raises(PrepError, match="many.tar holds more than 3 files"):
        list(archives.members(path))


def test_chained_headers_end_in_an_error(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1
    path = tmp_path / "chain.tar"
    path.write_bytes((member.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 5000)
    with pytest.raises(PrepError, match="chain.tar: .*damaged"):
        list(archives.members(path))


# ---- pickles -------------------------------------------------------------------------------------

CALLS = [
    b"cos\nsystem\n(S'touch called'\ntR.",
    b'cbuiltins\neval\n(S\'open("called", "w")\'\ntR.',
    b"cnumpy\nload\n(S'x'\ntR.",
    b"(S'touch called'\nios\nsystem\n.",
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch called\x85R.",
    b"cnumpy\nndarray.dump\n(S'called'\ntR.",
    b"\x82\x01.",  # an extension of copyreg
    b"Px\n.",  # an object from elsewhere
]


@pytest.mark.parametrize("data", CALLS)
def test_a_pickle_calls_nothing(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta").write_bytes(data)
    with pytest.raises(PrepError, match="meta: not a readable pickle"):
        read_pickle("meta", ["x"])
    assert os.listdir() == ["meta"]


class Pointers:
    """Pickles as an array of objects whose pointers come from the file."""

    def __reduce__(self):
        make, arguments, _ = np.empty(0).__reduce__()
        return make, arguments, (1, (1,), Objects(), False, struct.pack("q", 0x41414141))


class Objects:
    """Pickles as the dtype of objects, without the flag that keeps numpy from raw pointers."""

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


def test_an_array_of_objects_is_refused(tmp_path):
    (tmp_path / "meta").write_bytes(pickle.dumps({b"x": Pointers()}, 3))
    with pytest.raises(PrepError, match="an array of 'O8'; expected plain numbers"):
        read_pickle(tmp_path / "meta", ["x"])


def test_arrays_of_numbers_are_read(tmp_path):
    for array in (
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.arange(6, dtype=">i4").reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
    ):
        (tmp_path / "data").write_bytes(cases.python2_pickle({"x": array}))
        (found,) = read_pickle(tmp_path / "data", ["x"])
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_a_pickle_cannot_ask_for_a_table_of_gigabytes(tmp_path):
    (tmp_path / "meta").write_bytes(b"]r\xff\xff\xff\x7f.")
    with pytest.raises(PrepError, match="value number 2147483647 at byte 1"):
        read_pickle(tmp_path / "meta", ["x"])


# ---- HDF5 ----------------------------------------------------------------------------------------


def external_link(path, name, other):
    with h5py.File(path, "w") as file:
        file[name] = h5py.ExternalLink(str(other), name)


def soft_link_to_external(path, name, other):
    with h5py.File(path, "w") as file:
        file["elsewhere"] = h5py.ExternalLink(str(other), "/")
        file[name] = h5py.SoftLink(f"/elsewhere/{name}")


def external_storage(path, name, other):
    size_bytes = os.path.getsize(other) // 4 * 4
    with h5py.File(path, "w") as file:
        file.create_dataset(name, (size_bytes // 4,), "f4", external=[(str(other), 0, size_bytes)])


def virtual(path, name, other):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(other), name, (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset(name, layout)


ELSEWHERE = {
    external_link: "is a link to another file",
    soft_link_to_external: "elsewhere is a link to another file",
    external_storage: "is stored in another file",
    virtual: "is put together from another file",
}


def read_data(path):
    path.with_name("list.txt").write_text(str(path))
    param = text_format.Parse(
        f"""layer {{ name: "d" type: "HDF5Data" top: "data" hdf5_data_param {{
              source: "{path.with_name("list.txt")}" batch_size: 1 }} }}""",
        caffe.proto.caffe_pb2.NetParameter(),
    )
    return caffe.Net(param, caffe.TEST).forward()["data"]


HDF5_READERS = {
    "data/conv/0": weights.read_weights,
    "history/0": weights.read_state,
    "data": read_data,
    "X": lambda path: read_matlab(path, ["X"])[0],
}


@pytest.mark.parametrize("name", HDF5_READERS)
@pytest.mark.parametrize("make", ELSEWHERE)
def test_hdf5_reads_no_other_file(tmp_path, name, make):
    read, other, path = HDF5_READERS[name], tmp_path / "secret.h5", tmp_path / "model.h5"
    with h5py.File(other, "w") as file:
        file[name] = np.arange(4, dtype=np.float32)
    make(path, name, other)
    with h5py.File(path) as file:  # HDF5 itself would follow it
        assert file[name][...].size
    with pytest.raises(DataError, match=rf"model.h5: /.*{ELSEWHERE[make]}, which is never foll"):
        read(path)


def test_links_inside_an_hdf5_file_stay(tmp_path):
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["values"] = np.arange(4, dtype=np.float32)
        file["data"] = h5py.SoftLink("/values")
    assert read_data(tmp_path / "model.h5").tolist() == [0]


def test_hdf5_output_overwrites_only_hdf5(tmp_path):
    path = tmp_path / "notes"
    param = text_format.Parse(
        f"""layer {{ name: "in" type: "Input" top: "x" top: "y" input_param {{ shape {{ dim: 1 }} }}
        }} layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "y"
        hdf5_output_param {{ file_name: "{path}" }} }}""",
        caffe.proto.caffe_pb2.NetParameter(),
    )
    for before in (b"", None):
        path.write_bytes(b"") if before == b"" else path.unlink()
        caffe.Net(param, caffe.TEST)
        assert h5py.is_hdf5(path)
    caffe.Net(param, caffe.TEST)
    path.write_text("mine")
    with pytest.raises(DataError, match="layer 'out' .*no HDF5 file, so it is not overwritten"):
        caffe.Net(param, caffe.TEST)
    assert path.read_text() == "mine"


# ---- Python layers -------------------------------------------------------------------------------

LAYER = """
import caffe
print("ran", __name__)
class Twice(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom): pass
"""
SOLVER = 'net: "{}" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_after_train: false'


def python_net(path, module, layer="Twice"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        """layer { name: "in" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }
        layer { name: "evil" type: "Python" bottom: "x" top: "y" python_param { """
        f'module: "{module}" layer: "{layer}" }} }}'
    )
    return path


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Folders with a module each, of which `path` is on Python's path, as the current one is."""
    for folder in ("beside", "allowed", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"in_{folder}.py").write_text(LAYER)
    (tmp_path / "beside" / "json").mkdir()  # names that Python itself has
    (tmp_path / "beside" / "google").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "path"), *sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("in_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "module, where",
    [
        ("in_path", "path"),
        ("os", ""),
        ("sys", "Python itself"),
        ("json.tool", "lib"),
        ("google.protobuf.message", "packages"),
        ("relaybp.commands.train", ""),
        ("relaybp.layers_of_mine", ""),
        ("__main__", ""),
    ],
)
def test_a_prototxt_names_no_module_from_elsewhere(modules, capsys, module, where):
    net = python_net(modules / "beside" / "net.prototxt", module)
    assert command.main(["time", "-model", str(net), "-iterations", "1"]) == 1
    shown = capsys.readouterr()
    assert re.search(rf"layer 'evil' \(Python\): module '{module}' lies in .*{where}", shown.err)
    assert "-python_layers FOLDER, or CAFFE_PYTHON_LAYERS=FOLDER" in shown.err
    assert "ran" not in shown.out


def test_it_names_modules_of_its_folder_and_of_those_allowed(modules, capsys, monkeypatch):
    beside = python_net(modules / "beside" / "net.prototxt", "in_beside")
    allowed = python_net(modules / "beside" / "other.prototxt", "in_allowed")
    time = ["time", "-iterations=1", "-model"]
    assert command.main([*time, "beside/net.prototxt"]) == 0
    assert command.main([*time, str(allowed)]) == 1
    assert "cannot import module 'in_allowed'" in capsys.readouterr().err
    assert command.main([*time, str(allowed), "-python_layers", "allowed"]) == 0
    monkeypatch.setenv(python_layers.VARIABLE, f"nowhere{os.pathsep}{modules / 'allowed'}")
    assert command.main([*time, str(allowed)]) == 0
    assert summarize.main([str(allowed)]) == 0
    assert draw_net.main([str(python_net(beside, "os")), "net.dot"]) == 0  # which builds no net


def test_the_projects_own_layers_are_allowed(modules, capsys):
    net = python_net(modules / "beside" / "net.prototxt", "relaybp.layers.scene_data", "SceneData")
    assert command.main(["time", "-model", str(net), "-iterations", "1"]) == 1
    assert "lies in" not in (shown := capsys.readouterr().err) and "SceneData" in shown


@pytest.mark.parametrize("field", ["net", "net_param"])
def test_nets_of_solvers_name_no_module_from_elsewhere(modules, capsys, field):
    net = python_net(modules / "beside" / "net.prototxt", "in_path")
    text = SOLVER.format(net)
    if field == "net_param":
        text = text.replace(f'net: "{net}"', f"net_param {{ {net.read_text()} }}")
    (modules / "solver.prototxt").write_text(text)
    assert command.main(["train", "-solver", "solver.prototxt"]) == 1
    assert "module 'in_path' lies in" in capsys.readouterr().err


def test_a_net_without_a_file_names_no_module_from_elsewhere(modules, capsys):
    param = read_net(str(python_net(modules / "beside" / "net.prototxt", "in_path")))
    with python_layers.restricted(), pytest.raises(caffe.LayerError, match="'in_path' lies in"):
        caffe.Net(param, caffe.TEST)
    assert "ran" not in capsys.readouterr().out
    with python_layers.restricted(str(modules / "path")):
        caffe.Net(param, caffe.TEST)


def test_a_runs_folder_may_hold_its_layers(modules, capsys):
    """The net that is tested is composed elsewhere."""
    net = python_net(modules / "beside" / "net.prototxt", "in_beside")
    (modules / "beside" / "solver.prototxt").write_text(f'net: "{net}"')
    with python_layers.restricted():
        param = net_of_run(caffe.proto.caffe_pb2, str(modules / "beside"))
        caffe.Net(param, caffe.TEST)
    assert "ran in_beside" in capsys.readouterr().out


def test_a_users_own_script_is_free(modules):
    net = caffe.Net(str(python_net(modules / "beside" / "net.prototxt", "in_path")), caffe.TEST)
    assert net.forward()["y"].shape == (1,)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tools/export_onnx.py", "NET", "none.caffemodel", "out.onnx"],
        ["tools/plan.py", "--no-picture", "--net", "NET"],
        ["-m", "relaybp", "plan", "--no-picture", "--net", "NET"],
        ["tools/train.py", "--gpu", "none", "--out", "run", "--solver", "SOLVER"],
    ],
)
def test_tools_name_no_module_from_elsewhere(modules, arguments):
    net = python_net(modules / "beside" / "net.prototxt", "in_path")
    (modules / "solver.prototxt").write_text(SOLVER.format(net))
    files = {"NET": str(net), "SOLVER": "solver.prototxt"}
    words = [
        str(ROOT / word) if word[:5] == "tools" else files.get(word, word) for word in arguments
    ]
    search = os.pathsep.join(map(str, [ROOT / "python", ROOT, modules / "path"]))
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "module 'in_path' lies in" in done.stderr and "ran" not in done.stdout


# ---- what takes time or memory -------------------------------------------------------------------


def test_relay_files_are_read_in_linear_time():
    """Quadratic, 100,000 flows would take minutes; they take two seconds."""
    flows = "".join(f'flow {{ loss: "{k}" to: "conv1" }}\n' for k in range(100_000))
    begun = time.process_time()
    assert len(parse_relay(flows).flow) == 100_000
    with pytest.raises(RelayError, match="loss '77' has 2 flows; give it one"):
        parse_relay(flows + 'flow { loss: "77" to: "conv1" }')
    assert time.process_time() - begun < 30


def test_a_relay_file_that_is_no_text(tmp_path):
    (tmp_path / "relay.prototxt").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "relay.prototxt", tmp_path):
        with pytest.raises(RelayError, match="not a readable text file"):
            read_relay(path)


def data_net(folder, options):
    with new_database(folder / "db") as put:
        datum = caffe.proto.caffe_pb2.Datum(channels=3, height=32, width=32, data=bytes(3072))
        put(b"0", datum.SerializeToString())
    return text_format.Parse(
        f"""layer {{ name: "images" type: "Data" top: "data" data_param {{ backend: LMDB
        source: "{folder / "db"}" batch_size: 1000 {options} }} }}""",
        caffe.proto.caffe_pb2.NetParameter(),
    )


def test_prefetch_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(prefetch, "limit_bytes", lambda: 100 << 20)
    param = data_net(tmp_path, "prefetch: 4000000000")
    with pytest.raises(
        caffe.LayerError,
        match=r"'images' \(Data\).*prefetch: 4,000,000,000 batches of 11.7 MiB; this process may "
        r"have 100.0 MiB: give at most 8 \(4 are usual\)",
    ):
        caffe.Net(param, caffe.TEST)
    param.layer[0].data_param.prefetch = 8
    caffe.Net(param, caffe.TEST)


def test_a_dataset_that_claims_terabytes(tmp_path):
    with h5py.File(tmp_path / "claims.h5", "w") as file:
        file.create_dataset("data", (1 << 40, 4), "u1", chunks=(1024, 4))
    assert os.path.getsize(tmp_path / "claims.h5") < 10000
    with pytest.raises(DataError, match="claims.h5: dataset 'data' of 4,096.0 GiB is read whole"):
        read_data(tmp_path / "claims.h5")


def test_the_limit_of_memory_is_that_of_ulimit():
    program = "from caffe_plain.memory import limit_bytes; print(limit_bytes())"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 1000000; exec {sys.executable} -c '{program}'"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{1000000 * 1024}\n", done.stderr
