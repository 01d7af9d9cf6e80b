"""The scripts that reproduce the papers' tables, with a `make` that only records its arguments."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from relaybp import models, relay_file

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path.name for path in (ROOT / "tools" / "tables").glob("*.sh") if path.name != "common.sh"
)
STAND_IN = """#!/usr/bin/env bash
(IFS=$'\\t'; echo "$*") >> "$NOTES"
for word in "$@"; do if [[ $word == RUN=* ]]; then run=${word#RUN=}; fi; done
if [[ $2 == train ]]; then mkdir -p "${run%/*}"; mkdir "$run"; fi
"""


def asked(tmp_path, script, **environment):
    """[{variable: value, "": target}] of every call of make by a script."""
    (tmp_path / "make").write_text(STAND_IN)
    (tmp_path / "make").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG")}
    subprocess.run(
        ["bash", str(ROOT / "tools" / "tables" / script)],
        check=True,
        cwd=tmp_path,
        env={
            **kept,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "OUT": str(tmp_path / "out"),
            "NOTES": str(tmp_path / "notes"),
            **environment,
        },
        capture_output=True,
        timeout=60,
    )
    calls = []
    for line in (tmp_path / "notes").read_text().splitlines():
        words = [word for word in line.split("\t") if not word.startswith("--no-print")]
        calls.append({"": words[0], **dict(word.split("=", 1) for word in words[1:])})
    return calls


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_row_was_trained_and_tested(tmp_path, script):
    calls = asked(
        tmp_path, script, DATA="/d", IMAGENET="/i", PLACES2="/p", CIFAR10="/10", CIFAR100="/100"
    )
    trained = {call["RUN"]: call for call in calls if call[""] == "train"}
    for call in trained.values():
        models.find(call["MODEL"])
        assert call["DATA"].startswith("/") and (Path(call["RUN"]) / "finished").exists()
    tested = [call["RUN"] for call in calls if call[""] == "evaluate"]
    shown = [
        row.partition("=")[2]
        for call in calls
        if call[""] == "table"
        for row in shlex.split(call["ROWS"])
    ]
    assert sorted(shown) == sorted(trained)
    assert set(shown) <= set(tested)
    assert all(call["TITLE"] for call in calls if call[""] == "table")


def test_models_a_and_b_are_tested_at_the_papers_scales_and_together(tmp_path):
    calls = [call for call in asked(tmp_path, "relay_table2.sh") if call[""] == "evaluate"]
    scales = [call for call in calls if "--scales" in call["ARGS"]]
    assert len(scales) == 7 and len(calls) == 13
    assert all(call["ARGS"].split()[:2] == ["--scales", "224,256,320,384,448"] for call in scales)
    assert [Path(run).name for run in scales[-1]["RUN"].split()] == [
        "model_a_relay",
        "model_b_relay",
    ]


def test_pair_wise_is_the_relay_file_with_that_schedule(tmp_path):
    (call,) = [
        call
        for call in asked(tmp_path, "auxnet.sh", MODELS="auxnet-56-5_pair_wise")
        if call[""] == "train"
    ]
    assert call["MODEL"] == "auxnet-56-5_relay"
    word, path = call["ARGS"].split()
    assert word == "--relay"
    pair_wise = relay_file.read_relay(path)
    assert relay_file.schedule_name(pair_wise) == "PAIR_WISE"
    multi_way = relay_file.read_relay(str(ROOT / "prototxt" / "auxnet-56-5" / "relay.prototxt"))
    assert pair_wise.flow == multi_way.flow and pair_wise.step == multi_way.step


def test_what_is_finished_stays_and_what_was_interrupted_goes_on(tmp_path):
    run = tmp_path / "out" / "CIFAR-10-resnet20"
    run.mkdir(parents=True)
    for name in ("resnet20_iter_90", "resnet20_iter_100", "resnet20_iter_900.aux_loss"):
        (run / f"{name}.solverstate").touch()
    with pytest.raises(subprocess.CalledProcessError):  # the stand-in makes no folder twice
        asked(tmp_path, "auxnet.sh", MODELS="resnet20")
    assert f"RESUME={run}/resnet20_iter_100.solverstate" in (tmp_path / "notes").read_text()
    (run / "finished").touch()
    (tmp_path / "notes").unlink()
    calls = asked(tmp_path, "auxnet.sh", MODELS="resnet20", SET="max_iter=2", LIMIT="7")
    assert [call[""] for call in calls] == ["evaluate", "table"]
    assert calls[0]["ARGS"].split() == ["--limit", "7"]


def tabulate(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "tabulate.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_table_holds_what_was_measured_and_nothing_else(tmp_path):
    for name, rows in (
        ("a", ["crop,5,7.25,20,w", "crop,1,30.00,20,w", "224-256,1,28.50,20,w"]),
        ("b", ["crop,1,31.00,10,w"]),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "errors.csv").write_text(
            "\n".join(["test,k,error,images,weights", *rows]) + "\n"
        )
    done = tabulate("a title", f"standard BP={tmp_path}/a", f"Relay BP={tmp_path}/b")
    assert done.stdout.splitlines() == [
        "Measured: a title, error in %",
        "",
        "| | crop | 224-256 |",
        "|---|---|---|",
        "| standard BP | 30.00 / 7.25 (20 images) | 28.50 (20 images) |",
        "| Relay BP | 31.00 (10 images) |  |",
    ]
    missing = tabulate("a title", f"x={tmp_path}/c")
    assert re.search(r"tabulate: .*c/errors\.csv: no such file; .*evaluate\.py", missing.stderr)
    assert missing.returncode == 1
