"""benchmarks/gpu_check.py, where there is no GPU: what it runs, ends, skips and writes."""

import importlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_check")


def checks(gpu_check, gpu):
    args = SimpleNamespace(gpu=gpu, tests=["device"])
    return [check for stage in gpu_check.stages(args) for check in stage]


def test_both_gpus_are_tested_where_there_are_two(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "gpu_count", lambda: 2)
    found = {check.title: check for check in checks(gpu_check, "0")}
    assert not any(check.skipped for check in found.values())
    for gpu in "01":
        assert found[f"tests on GPU {gpu}"].command[-2:] == ["--gpu", gpu]


def test_with_one_gpu_it_says_what_it_skips(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "gpu_count", lambda: 1)
    skipped = {check.title: check.skipped for check in checks(gpu_check, "0") if check.skipped}
    assert skipped == dict.fromkeys(
        ["tests on GPU 1", "two processes train together"], "there is one GPU"
    )
    with pytest.raises(SystemExit, match="--gpu 1: PyTorch sees 1 GPUs"):
        checks(gpu_check, "1")


def test_the_small_form_leaves_out_nothing_silently(gpu_check, monkeypatch):
    monkeypatch.setattr(gpu_check, "gpu_count", lambda: 2)
    small, whole = checks(gpu_check, "none"), checks(gpu_check, "0")
    assert len(small) == len(whole)
    assert [check.title for check in small if not check.skipped] == [
        "tests",
        "a net beside PyTorch",
    ]


CHILD = "import subprocess, sys; print('begun', flush=True); subprocess.run(['sleep', '60'])"


def test_a_command_that_takes_too_long_ends_with_its_children(gpu_check):
    begun = time.monotonic()
    check = gpu_check.Check("slow", ["-c", CHILD], 2)
    outcome = gpu_check.run(check, begun + 100)
    assert (outcome.result, outcome.output) == ("FAILED: ended after 2 s", "begun\n")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("code", "result"), [("print(1)", "passed"), ("raise SystemExit(3)", "FAILED: status 3")]
)
def test_how_a_command_ended(gpu_check, code, result):
    check = gpu_check.Check("quick", ["-c", code], 60)
    assert gpu_check.run(check, time.monotonic() + 100).result == result


def test_without_time_it_says_so(gpu_check):
    outcome = gpu_check.run(gpu_check.Check("late", ["-c", "1"], 60), time.monotonic() + 1)
    assert outcome.result == "skipped: no time was left"


def test_the_file_names_commands_results_and_versions(gpu_check, tmp_path):
    args = SimpleNamespace(out=str(tmp_path / "new" / "check.md"))
    ran = gpu_check.Check("tests", ["-m", "pytest", "-q"], 60)
    left = gpu_check.Check("tests on GPU 1", [], 60, "there is one GPU")
    gpu_check.write(
        args,
        [
            gpu_check.Outcome(ran, "passed", 12, "\n".join(map(str, range(100)))),
            gpu_check.Outcome(left, "skipped: there is one GPU"),
        ],
    )
    text = Path(args.out).read_text()
    for part in (
        "## tests: passed",
        "python -m pytest -q   # 12 s",
        "70\n71\n",
        "## tests on GPU 1: skipped: there is one GPU",
        "commit ",
        "Python 3.",
        "torch ",
        "CUDA ",
    ):
        assert part in text
    assert "\n69\n" not in text
