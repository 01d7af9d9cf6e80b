"""The recordings of tests/golden are those that their scripts made: see MANIFEST.json there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracle import golden

ROOT = Path(__file__).parents[1]
FOLDER = Path(golden.FOLDER)
ENTRIES = json.loads((FOLDER / golden.MANIFEST).read_text())


def test_every_file_is_in_the_manifest_and_the_other_way_round():
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert set(ENTRIES) == files - {golden.MANIFEST}


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_a_file_is_as_its_script_left_it(name):
    entry = ENTRIES[name]
    assert golden.sha256(FOLDER / name) == entry["sha256"], f"{name} was changed after: {entry}"
    if name.endswith(".old.prototxt"):
        assert entry["written"] == "by hand"
    else:
        assert entry["caffe"].startswith("BVLC Caffe 1.0.0")
        assert "golden." in (ROOT / entry["script"]).read_text()


def test_every_recorder_has_made_something():
    scripts = {entry.get("script") for entry in ENTRIES.values()} - {None}
    assert scripts == {
        str(path.relative_to(ROOT)) for path in ROOT.glob("tests/oracle/record_*.py")
    }


def test_recordings_elsewhere_get_a_manifest_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "caffe_in_force", lambda: "BVLC Caffe 1.0.0")
    monkeypatch.setattr(sys, "argv", ["tests/oracle/record_x.py"])
    golden.save_text(str(tmp_path / "gone.json"), "{}")
    (tmp_path / "gone.json").unlink()
    golden.save_arrays(str(tmp_path / "x.npz"), x=[1.0])
    assert json.loads((tmp_path / golden.MANIFEST).read_text()) == {
        "x.npz": {
            "caffe": "BVLC Caffe 1.0.0",
            "script": "tests/oracle/record_x.py",
            "sha256": golden.sha256(tmp_path / "x.npz"),
        }
    }


def test_this_engine_records_nothing(tmp_path):
    for name in ("golden.py", "record_net_spec.py"):
        (tmp_path / "tests" / "oracle").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / "oracle" / name, tmp_path / "tests" / "oracle")
    done = subprocess.run(
        [sys.executable, tmp_path / "tests" / "oracle" / "record_net_spec.py"],
        env={"PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "not BVLC Caffe" in done.stderr
    assert not (tmp_path / "tests" / "golden").exists()
