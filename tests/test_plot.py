"""Plots of runs: the curves hold the tables' numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import figure_texts
from relaybp import colours, style
from relaybp.commands.plot import PLOTS
from relaybp.figures import by_class, by_layer, curves
from relaybp.figures.run_tables import Run

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


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "probe.csv").write_text(PROBE)
    (tmp_path / "per_class_crop.csv").write_text(
        "class,images,top1_error,top5_error\nice,2,50.00,0.00\nfire,4,75,25\n"
    )
    return Run(str(tmp_path))


def lines(axes):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_curves(run):
    (axes,) = curves.losses([run]).axes
    shown = lines(axes)
    assert shown["loss, test"] == ([2], [1.75])
    assert shown["loss"] == ([1, 2], [2.0, 1.5])  # too few points to smooth
    (axes,) = curves.errors([run]).axes
    assert lines(axes) == {"error top1": ([2, 4], [75.0, 50.0])}


def test_probed_values_stand_over_their_layers_the_trunk_first(run):
    above, below = by_layer.gradients([run]).axes
    assert [label.get_text() for label in above.get_xticklabels()] == ["conv1", "conv2", "aux_fc"]
    assert lines(above) == {"0": ([0, 1], [0.1, 0.1]), "10": ([0, 1], [0.1, 0.1])}
    assert lines(below)["10"] == ([0, 1], [0.01, 0.01])
    shares, cosines = by_layer.flows([run]).axes
    assert lines(shares)["aux_loss"][1] == pytest.approx([0.3] * 3)
    assert lines(cosines)["loss & aux_loss"][1] == pytest.approx([-0.5] * 3)


def test_no_text_lies_over_another(run):
    with style.styled():
        for draw in PLOTS.values():
            figure_texts.check(draw([run]))
            figure_texts.check(draw([run, run]))


def test_a_run_without_probes_has_curves_only(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    run = Run(str(tmp_path))
    assert not any(draw([run]) for draw in (by_layer.gradients, by_layer.flows, by_class.classes))


def test_errors_by_class_ascend_and_few_classes_are_named(run):
    (axes,) = by_class.classes([run]).axes
    assert lines(axes) == {"crop": ([1, 2], [0.0, 25.0])}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ice", "fire"]


def test_smoothing_follows_a_constant_and_lags_behind_a_step():
    assert curves.smoothed([2.0] * 100) == pytest.approx([2.0] * 100)
    smooth = curves.smoothed([0.0] * 200 + [1.0] * 200)
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


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.csv: no such file; expected the folder of a r"):
        Run(str(tmp_path))


def test_a_loss_has_one_colour_in_every_plot_and_picture(run):
    (axes,) = curves.losses([run]).axes
    drawn = {line.get_label(): line.get_color() for line in axes.lines}
    shares, _ = by_layer.flows([run]).axes
    shared = {line.get_label(): line.get_color() for line in shares.lines}
    expected = {"loss": colours.BLUE, "aux_loss": colours.VERMILLION}
    assert drawn.items() >= {**expected, "loss, test": colours.BLUE}.items()
    assert shared.items() >= expected.items()


@pytest.mark.parametrize(
    "names",
    [
        ("loss", "aux45_loss", "aux35_loss", "aux15_loss", "aux9_loss"),
        ("loss", "aux2_loss", "aux1_loss"),
        ("loss3/loss3", "loss2/loss2", "loss1/loss1"),
    ],
)
def test_colours_go_from_the_final_loss_to_the_shallowest(names):
    found = colours.of_losses(sorted(names))
    assert [found[name] for name in names] == list(colours.SERIES[: len(names)])
