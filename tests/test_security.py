"""What a stranger's files must not be able to do: each is built here and refused by name."""

import os
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
from caffe.files import weights
from caffe_plain.database import new_database
from caffe_plain.errors import DataError
from caffe_plain.names import file_name
from relaybp import attach, models
from relaybp.data_prep import archives, cifar, make_list
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.matlab import read_matlab
from relaybp.errors import RelayError
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


@pytest.mark.parametrize("name", ["prototxt/resnet20", "./resnet20/"])
def test_a_models_folder_is_no_name(name):
    with pytest.raises(RelayError, match=f"^MODEL={name}: .* without its folder: MODEL=resnet20$"):
        models.find(name)


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
    with pytest.raises(PrepError, match=r"'cat\\ndog/a.png': a list file cannot hold"):
        make_list.make_lists(tmp_path / "images", tmp_path / "out")


@pytest.mark.parametrize("schedule", ["PAIR_WISE", "MULTI_WAY"])
def test_a_loss_stays_in_the_folder_of_the_snapshots(tmp_path, monkeypatch, schedule):
    """Its momentum goes to PREFIX_iter_N.LOSS.solverstate; GoogLeNet's losses have slashes."""
    net = text_format.Parse(
        """layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
                inner_product_param { num_output: 1 axis: 0 } }
        layer { name: "/../../mine" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "l" }
        layer { name: "loss1/loss" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "m" }""",
        caffe.proto.caffe_pb2.NetParameter(),
    )
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    param = caffe.proto.caffe_pb2.SolverParameter(
        net_param=net, base_lr=0.1, lr_policy="fixed", momentum=0.9, snapshot_prefix="s"
    )
    relay = attach(caffe.get_solver(param), parse_relay(f"schedule: {schedule}"))
    relay.step(1)
    relay.restore(relay.snapshot())
    assert set(everything_below(tmp_path)) == {"a", "a/b"} | {
        f"a/b/s_iter_1.{part}"
        for part in (
            "caffemodel",
            "solverstate",
            "datastate",
            "sha256",
            "%2F..%2F..%2Fmine.solverstate",
        )
    }


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
