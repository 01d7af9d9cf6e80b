"""Plots of runs: the curves hold the tables' numbers."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METRICS = """iteration,kind,name,value
1,train,loss,2.0
2,train,loss,1.5
1,train,aux_loss,3.0
2,train,lr,0.1
2,test,loss,1.75
2,test,accuracy_top1,0.25
4,test,accuracy_top1,0.5
"""
PROBE = "iteration,part,layer,flow,quantity,value\n" + "".join(
    f"{iteration},{part},{layer},{flow},{quantity},{value}\n"
    for iteration in (0, 10)
    for part, layer in (("trunk", "conv1"), ("aux_loss", "aux_fc"), ("trunk", "conv2"))
    for flow, quantity, value in (
        ("all", "gradient", 0.1),
        ("all", "relative", 0.01),
        ("loss", "share", 0.7),
        ("aux_loss", "share", 0.3),
        ("loss & aux_loss", "cosine", -0.5),
    )
)


@pytest.fixture(scope="module")
def plot():
    return importlib.import_module("relaybp.commands.plot")


@pytest.fixture
def run(plot, tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "probe.csv").write_text(PROBE)
    (tmp_path / "per_class_crop.csv").write_text("class,images,top5_error\nice,2,0.00\nfire,4,25\n")
    return plot.Run(str(tmp_path))


def lines(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_curves(plot, run):
    (axes,) = plot.losses([run]).axes
    shown = lines(axes)
    assert shown["loss, test"] == ([2], [1.75])
    assert shown["loss"] == ([1, 2], [2.0, 1.5])  # too few points to smooth
    (axes,) = plot.errors([run]).axes
    assert lines(axes) == {"error top1": ([2, 4], [75.0, 50.0])}


def test_probed_values_stand_over_their_layers_the_trunk_first(plot, run):
    above, below = plot.gradients([run]).axes
    assert [label.get_text() for label in above.get_xticklabels()] == ["conv1", "conv2", "aux_fc"]
    assert lines(above) == {"0": ([0, 1], [0.1, 0.1]), "10": ([0, 1], [0.1, 0.1])}
    assert lines(below)["10"] == ([0, 1], [0.01, 0.01])
    shares, cosines = plot.flows([run]).axes
    assert lines(shares)["aux_loss"][1] == pytest.approx([0.3] * 3)
    assert lines(cosines)["loss & aux_loss"][1] == pytest.approx([-0.5] * 3)


def test_a_run_without_probes_has_curves_only(plot, tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    run = plot.Run(str(tmp_path))
    assert not any(plot.PLOTS[name]([run]) for name in ("gradients", "flows", "classes"))


def test_errors_by_class_ascend_and_few_classes_are_named(plot, run):
    (axes,) = plot.classes([run]).axes
    assert lines(axes) == {"crop": ([1, 2], [0.0, 25.0])}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ice", "fire"]


def test_smoothing_follows_a_constant_and_lags_behind_a_step(plot):
    assert plot._smoothed([2.0] * 100) == pytest.approx([2.0] * 100)
    smooth = plot._smoothed([0.0] * 200 + [1.0] * 200)
    assert 0 < smooth[205] < 1 and smooth[-1] > 0.99


def test_the_tool_writes_every_figure(tmp_path, run):
    command = [
        sys.executable,
        str(ROOT / "tools" / "plot.py"),
        str(tmp_path),
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "10 files" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.{ending}"
        for ending in ("svg", "png")
        for name in ("losses", "errors", "gradients", "flows", "classes")
    }


def test_a_folder_without_a_run_is_named(plot, tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.csv: no such file; expected the folder of a r"):
        plot.Run(str(tmp_path))
