"""LMDBs that are damaged, opened by everything that reads one: an error, never a dead process."""

import json
import re
import shutil
import subprocess
import sys

import lmdb
import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2
from caffe_plain.database import new_database, open_database
from caffe_plain.errors import DataError

RECORDS = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An LMDB of RECORDS images (3, 12, 10), with what merge_shards wants beside it."""
    folder = tmp_path_factory.mktemp("database") / "db"
    with (
        lmdb.open(str(folder), map_size=1 << 26) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(RECORDS):
            pixels = np.full((3, 12, 10), number % 251, np.uint8)
            record = caffe.io.array_to_datum(pixels, number % 7).SerializeToString()
            transaction.put(b"%08d" % number, record)
    settings = {"shard": [0, 1], "check_size": True, "classes": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "class_index.tsv").write_text(f"0\t{RECORDS}\n")
    return folder


# each reads every record of the LMDB in the folder sys.argv[1]
READERS = {
    "Data": """
        text = 'layer {{ name: "data" type: "Data" top: "data" data_param {{ source: "{}" \
backend: LMDB batch_size: 50 }} }}'
        import tempfile, caffe
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(text.format(source)), file.flush()
            net = caffe.Net(file.name, caffe.TEST)
            for _ in range(6): net.forward()
        """,
    "record_index": """
        from relaybp.layers import record_index
        record_index.read_index(source)
        """,
    "compute_image_mean": """
        from relaybp.data_prep import compute_image_mean
        compute_image_mean.main([source])
        """,
    "color_pca": """
        from relaybp.data_prep import color_pca
        color_pca.main([source])
        """,
    "check_database": """
        from relaybp.data_prep import check_database
        check_database.main(["--workers=1", source])
        """,
    "merge_shards": """
        from relaybp.data_prep import merge_shards
        merge_shards.main([source.replace(".shard-00000-of-00001", "")])
        """,
    "evaluation": """
        import caffe
        from caffe_plain.database import count_records
        from relaybp.evaluation import validation_set
        assert count_records(source) == len(list(validation_set.read(caffe, source)))
        """,
    "run_folder": """
        from google.protobuf import text_format
        from caffe.proto import caffe_pb2 as pb
        from relaybp.run_folder import set_test_length
        net = pb.NetParameter()
        layer = net.layer.add(name="data", type="Data", top=["data"])
        layer.include.add(phase=pb.TEST)
        layer.data_param.source, layer.data_param.batch_size = source, 7
        solver = pb.SolverParameter(test_iter=[1])
        set_test_length(solver, net)
        assert solver.test_iter[0] == 43  # 300 / 7
        """,
}


def run(reader, source, backend="LMDB"):
    """Run a reader in a process of its own, which may die of a signal."""
    code = "import sys\nsource = sys.argv[1]\n" + "\n".join(
        line[8:] for line in READERS[reader].replace("LMDB", backend).splitlines()
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(source)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_database_is_read(whole, tmp_path, reader):
    source = shutil.copytree(whole, tmp_path / "db.shard-00000-of-00001")
    done = run(reader, source)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("reader", [name for name in READERS if name != "merge_shards"])
def test_a_leveldb_gives_every_reader_the_same(whole, tmp_path, reader):
    found = []
    for backend in ("lmdb", "leveldb"):
        with (
            open_database(whole).begin() as transaction,
            new_database(tmp_path / backend, backend) as put,
        ):
            for record in transaction.cursor():
                put(*record)
        done = run(reader, tmp_path / backend, backend.upper())
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.replace(str(tmp_path / backend), "db"))
    assert found[0] == found[1]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kept", [0.1, 0.99])
def test_a_truncated_database_is_an_error(whole, tmp_path, reader, kept):
    source = shutil.copytree(whole, tmp_path / "db.shard-00000-of-00001")
    size = (source / "data.mdb").stat().st_size
    with open(source / "data.mdb", "r+b") as file:
        file.truncate(int(kept * size))
    done = run(reader, source)
    assert done.returncode == 1, f"status {done.returncode}: {done.stderr}"  # -7 is SIGBUS
    assert f"data.mdb has {int(kept * size)} bytes, its header says" in done.stderr


@pytest.mark.parametrize("kept_bytes", [0, 100, 4096, 5000, 8192, 12288])
def test_a_database_cut_off_near_its_beginning_is_an_error(whole, tmp_path, kept_bytes):
    (tmp_path / "cut.mdb").write_bytes((whole / "data.mdb").read_bytes()[:kept_bytes])
    code = "import sys; from caffe_plain.database import open_database; open_database(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cut.mdb")], capture_output=True, text=True
    )
    assert done.returncode == 1, f"status {done.returncode}: {done.stderr}"
    assert "DataError" in done.stderr


def test_what_is_no_database_is_said(tmp_path):
    def complaint(path):
        with pytest.raises(DataError) as raised:
            open_database(path)
        return str(raised.value)

    assert "there is nothing at that path" in complaint(tmp_path / "none")
    (tmp_path / "db.partial").mkdir()
    assert "its conversion has not finished" in complaint(tmp_path / "db")
    (tmp_path / "level").mkdir()
    (tmp_path / "level" / "CURRENT").write_text("MANIFEST-000001\n")
    assert "MANIFEST-000001: cannot be read: No such file" in complaint(tmp_path / "level")
    (tmp_path / "level" / "CURRENT").rename(tmp_path / "level" / "a.jpg")
    assert "holds ['a.jpg'], neither data.mdb nor CURRENT" in complaint(tmp_path / "level")
    (tmp_path / "file").write_bytes(b"no database" * 1000)
    assert "not a readable LMDB" in complaint(tmp_path / "file")
    with lmdb.open(str(tmp_path / "empty"), map_size=1 << 20):
        pass
    assert "the LMDB is empty" in complaint(tmp_path / "empty")
    with pytest.raises(DataError):  # and nothing stays open
        open_database(tmp_path / "empty")


def test_the_file_itself_can_be_named(whole):
    with open_database(whole / "data.mdb") as environment, environment.begin() as transaction:
        datum = caffe_pb2.Datum.FromString(transaction.get(b"00000003"))
    assert (datum.label, datum.data[0]) == (3, 3)


FULL_DISK = {
    "convert_imageset and the like": """
from relaybp.data_prep.datum_db import DatumDB
with DatumDB(path, {}) as db:
    for number in range(64):
        db.put(b"%08d" % number, bytes(4096))
    db.finish([64], ["a"])
""",
    "all others": """
from caffe_plain.database import new_database
with new_database(path) as put:
    for number in range(64):
        put(b"%08d" % number, bytes(4096))
""",
}


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 kB."""
    tmp_path = tmp_path / "disk"
    tmp_path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("size", ["8k", "64k"])
@pytest.mark.parametrize("script", FULL_DISK.values(), ids=FULL_DISK)
def test_a_full_disk_ends_no_process_with_a_signal(full_disk, script, size):
    """As LMDB's file of locks did, which is written through a mapping."""
    remount = ["mount", "-o", f"remount,size={size}", str(full_disk)]
    subprocess.run(remount, check=True)
    words = [sys.executable, "-c", f"path = {str(full_disk / 'db')!r}\n{script}"]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert re.search(r"Error: .*(cannot|no) .*(Input/output error|No space left)", done.stderr)
