"""What `make` runs, says and leaves behind, with programs that only say how they were called."""

import os
import shutil
import subprocess
import time

import pytest

from test_train import ROOT

PROGRAM = """#!/bin/sh
for word in "$@"; do printf '[%s]' "$word"; done
echo
"""


@pytest.fixture
def folder(tmp_path):
    """A checkout's Makefile, with an environment that is complete."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "python" / "caffe_plain").mkdir(parents=True)
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "python" / "caffe_plain" / name, tmp_path / "python" / "caffe_plain")
    write_program(tmp_path / ".venv" / "bin" / "python", PROGRAM)
    for name in (".ready", ".built"):
        (tmp_path / ".venv" / name).touch()
    return tmp_path


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make(folder, *words, status=0):
    """(stdout, stderr) of make, each a list of lines."""
    hidden = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CAFFE_ROOT", "VENV", "PYTHON", "RUN", "MODEL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        ["make", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.parametrize(
    "words, called",
    [
        (["train"], "[tools/train.py][--model][resnet50_relay][--gpu][auto]"),
        (
            ["train", "MODEL=vgg16", "DATA=my photos", "RUN=my run", "SET=a=1 b=2", "GPU=0,1"],
            "[tools/train.py][--model][vgg16][--gpu][0,1][--data][my photos][--out][my run]"
            "[--set][a=1][--set][b=2]",
        ),
        (
            ["train", "PRECISION=bf16"],
            "[tools/train.py][--model][resnet50_relay][--gpu][auto][--precision][bf16]",
        ),
        (["train", "MODEL=", "GPU="], "[tools/train.py][--model][][--gpu][]"),
        (["evaluate", "RUN=my run"], "[tools/evaluate.py][my run][--gpu][auto]"),
        (["onnx", "RUN=my run"], "[tools/export_onnx.py][my run]"),
        (["plot", "RUN=a b"], "[tools/plot.py][a b]"),
        (["report", "RUN=a b", "ARGS=--watch"], "[tools/report.py][a b][--watch]"),
        (
            ["classify", "RUN=my run", "IMAGE=a photo.jpg", "GPU=none"],
            "[tools/classify.py][my run][a photo.jpg][--gpu][none]",
        ),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_a_command_is_run_and_not_shown(folder, words, called):
    assert make(folder, *words) == ([called], [])


def test_a_variable_of_the_environment_is_no_mistake(folder):
    words = ["train", "CUDA_VISIBLE_DEVICES=1", "OMP_NUM_THREADS=1", "CFLAGS=-O2"]
    assert make(folder, *words)[1] == []


@pytest.mark.parametrize(
    "words, said",
    [
        (["trian"], "no target 'trian': did you mean 'train'?; make help says what each does"),
        (["train", "MODL=x"], "no variable 'MODL': did you mean 'MODEL'?"),
        (["train", "gpu=0", "RUNS=a"], "no variable 'gpu': did you mean 'GPU'? no variable 'RUNS'"),
        (["evaluate"], "name the folder of a run: make evaluate RUN=runs/newest"),
        (["plot", "RUN= "], "name the folder of a run: make plot RUN=runs/newest"),
        (["classify", "RUN=a"], "name a photo or a folder: make classify RUN=a IMAGE=photo.jpg"),
    ],
)
def test_what_is_missing_is_said_in_a_line(folder, words, said):
    for age, name in enumerate(["newest", "older"]):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "run.json").touch()
        os.utime(folder / "runs" / name / "run.json", (time.time() - age * 100,) * 2)
    (folder / "runs" / "tables").mkdir()
    out, err = make(folder, *words, status=2)
    lines = [line for line in err if not line.startswith("make: *** [")]
    assert not out and len(lines) == 1 and said in lines[0]


def test_clean_deletes_no_run(folder):
    kept = ["runs/a/model_iter_1.caffemodel", "data/demo/classes.txt", ".venv/.ready"]
    for name in [*kept, ".pytest_cache/v", ".mypy_cache/v", ".ruff_cache/v"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    make(folder, "clean")
    assert all((folder / name).exists() for name in kept)
    assert not list(folder.glob(".*_cache"))


# ---- the environment -----------------------------------------------------------------------------

# A Python of some version, whose venv module makes an environment with itself in it, and whose pip
# fails where a file says so.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) exec {real} -c "import sys; sys.version_info = {version}
$2" "$3" ;;
  "-m venv") mkdir -p "$3/bin"; rm -f "$3/bin/python"; cp "$0" "$3/bin/python" ;;
  "-m pip") echo "$@" >> pip.log; [ ! -e no_network ] ;;
  *) echo "$@" >> other.log ;;
esac
"""


def write_python(path, version):
    real = shutil.which("python3")
    write_program(path, PYTHON.format(real=real, version=version))
    return f"PYTHON={path}"


@pytest.fixture
def bare(folder):
    """Without an environment."""
    shutil.rmtree(folder / ".venv")
    return folder


@pytest.mark.parametrize("version", [(3, 9), (2, 7), (3, 14)])
def test_an_old_python_is_refused_before_anything_is_made(bare, version):
    python = write_python(bare / "pythons" / "python3", version)
    _, err = make(bare, "setup", python, status=2)
    found = f"{bare}/pythons/python3 is Python {version[0]}.{version[1]}; this needs 3.10 to 3.13"
    assert err[0] == f"{found}: make setup PYTHON=python3.12"
    assert not (bare / ".venv").exists()
    make(bare, "setup", write_python(bare / "pythons" / "python3.12", (3, 12)))
    assert (bare / ".venv" / ".built").exists()


def test_a_python_that_is_not_there_is_refused(bare):
    _, err = make(bare, "setup", "PYTHON=python3.11.99", status=2)
    assert err[0].startswith("python3.11.99: no such program; name a Python from 3.10 to 3.13")
    assert not (bare / ".venv").exists()


def test_a_set_up_that_failed_does_not_poison_the_next(bare):
    first = write_python(bare / "pythons" / "python3.11", (3, 11))
    second = write_python(bare / "pythons" / "python3.12", (3, 12))
    (bare / "no_network").touch()
    make(bare, "setup", first, status=2)
    assert (bare / ".venv").exists()
    (bare / ".venv" / "half_installed").touch()
    (bare / "no_network").unlink()
    make(bare, "setup", second)
    assert not (bare / ".venv" / "half_installed").exists()
    made = (bare / ".venv" / "bin" / "python").read_text()
    assert made == (bare / "pythons" / "python3.12").read_text()
    assert not (bare / ".venv" / ".incomplete").exists()


def test_an_environment_that_is_complete_is_only_added_to(bare):
    python = write_python(bare / "pythons" / "python3.11", (3, 11))
    make(bare, "setup", python)
    (bare / ".venv" / "own").touch()
    future = time.time() + 10
    os.utime(bare / "requirements.txt", (future, future))
    (bare / "pip.log").unlink()
    (bare / "no_network").touch()
    make(bare, "setup", python, status=2)
    (bare / "no_network").unlink()
    make(bare, "setup", python)
    assert (bare / ".venv" / "own").exists() and (bare / "pip.log").exists()


def test_an_environment_whose_python_has_gone_is_made_again(bare):
    (bare / ".venv" / "bin").mkdir(parents=True)
    (bare / ".venv" / "pyvenv.cfg").touch()
    (bare / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    make(bare, "setup", write_python(bare / "pythons" / "python3.11", (3, 11)))
    assert (bare / ".venv" / "bin" / "python").exists()
    assert not (bare / ".venv" / "pyvenv.cfg").exists()


def test_a_folder_that_is_no_environment_loses_nothing(bare):
    (bare / "home").mkdir()
    (bare / "home" / "thesis.tex").touch()
    python = write_python(bare / "pythons" / "python3.11", (3, 11))
    (bare / "no_network").touch()
    make(bare, "setup", python, "VENV=home", status=2)
    (bare / "no_network").unlink()
    make(bare, "setup", python, "VENV=home")
    assert (bare / "home" / "thesis.tex").exists()
