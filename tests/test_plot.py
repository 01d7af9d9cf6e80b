"""Plots of runs: the curves hold the tables' numbers."""

import os
import subprocess
import sys
from itertools import combinations
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
    assert lines(axes) == {run.name: ([2, 4], [75.0, 50.0])}
    assert axes.get_title(loc="left") == "error top1"
    assert axes.get_ylim() == (0, pytest.approx(75 * 1.05))  # the marker at the top is whole


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


def widths(axes):
    """{label: the widths of its bars from the top down}."""
    return {each.get_label(): [bar.get_width() for bar in each] for each in axes.containers}


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_errors_by_class_are_bars_with_names_the_worst_first(run):
    (axes,) = by_class.classes([run]).axes
    assert names(axes) == ["fire", "ice"] and widths(axes) == {"crop": [75.0, 50.0]}
    assert axes.yaxis_inverted() and axes.get_xlabel() == "top-1 error, %"
    assert not any(bar.get_linewidth() for bar in axes.patches)  # 0 % is no bar at all


def test_runs_are_compared_class_by_class(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "metrics.csv").write_text(METRICS)
    (other / "per_class_crop.csv").write_text(
        "class,images,top1_error,top5_error\nfire,4,10,1\nice,2,90,2\n"
    )
    (axes,) = by_class.classes([run, Run(str(other))]).axes
    assert names(axes) == ["ice", "fire"]
    assert widths(axes) == {f"{run.name}: crop": [50.0, 75.0], "other: crop": [90.0, 10.0]}
    one, two = (each.patches for each in axes.containers)
    for above, below in zip(one, two, strict=True):  # bars of a class touch, and do not overlap
        assert above.get_y() + above.get_height() == pytest.approx(below.get_y())


def test_with_many_classes_five_guesses_count(tmp_path, run):
    rows = "".join(f"class {k},2,{k + 50},{k}\n" for k in range(21))
    (tmp_path / "per_class_crop.csv").write_text("class,images,top1_error,top5_error\n" + rows)
    (axes,) = by_class.classes([Run(str(tmp_path))]).axes
    assert widths(axes)["crop"][0] == 20.0 and axes.get_xlabel() == "top-5 error, %"


def test_of_many_classes_the_worst_are_shown(run):
    run.classes["crop"] = (5, [(f"class {k}", float(k)) for k in range(100)])
    (axes,) = by_class.classes([run]).axes
    assert len(names(axes)) == by_class.NAMED and names(axes)[0] == "class 99"
    assert "(the 40 worst of 100)" in axes.get_title(loc="left")


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


def test_of_several_runs_a_loss_titles_its_panel_and_curves_have_the_runs_colours(run):
    panels = curves.losses([run, run]).axes
    titles = {axes.get_title(loc="left"): axes._left_title.get_color() for axes in panels}
    assert titles == {"loss": colours.BLUE, "aux_loss": colours.VERMILLION}
    for axes in panels:
        drawn = {line.get_color() for line in axes.lines}
        assert drawn == {colours.of_run(0), colours.of_run(1)}


def test_test_points_stand_out(run):
    (axes,) = curves.losses([run]).axes
    (points,) = (line for line in axes.lines if line.get_label() == "loss, test")
    assert points.get_markersize() >= 6 and points.get_markeredgecolor() == "white"
    assert points.get_zorder() > max(line.get_zorder() for line in axes.lines if line is not points)


def test_figures_are_headed_by_model_and_runs(run, tmp_path):
    assert curves.heading([run]) == run.name
    (tmp_path / "run.json").write_text(
        '{"identity": {"model": {"name": "Net"}}, "state": "finished", "iteration": 4}'
    )
    assert curves.heading([Run(str(tmp_path))] * 2) == f"Net: {run.name}"


def channel(colour, place):
    return (int(colour[place : place + 2], 16) / 255) ** 2.2


@pytest.mark.parametrize("kind", ["deuteranopia", "protanopia"])
def test_colours_of_losses_and_of_runs_differ_for_the_colour_blind(kind):
    """By Vienot, Brettel and Mollon (1999), on linear RGB."""
    mixed = {
        "deuteranopia": ([0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]),
        "protanopia": ([0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]),
    }[kind]
    for group in (colours.SERIES[:4], colours.RUNS[:4]):
        seen = [
            [sum(part * channel(colour, 1 + 2 * k) for k, part in enumerate(row)) for row in mixed]
            for colour in group
        ]
        for one, other in combinations(seen, 2):
            # in the cube root of linear RGB, nearly even steps of perception
            assert (
                sum(
                    abs(abs(a) ** (1 / 3) - abs(b) ** (1 / 3))
                    for a, b in zip(one, other, strict=True)
                )
                > 0.2
            )


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


@pytest.mark.parametrize("rest", ["6,te", "6,test,accuracy_top1,", "6,test,accuracy_top1,0."])
def test_a_row_that_is_still_being_written_is_left_out(tmp_path, rest):
    (tmp_path / "metrics.csv").write_text(METRICS)
    whole = Run(str(tmp_path)).curves
    (tmp_path / "metrics.csv").write_text(METRICS + rest)
    assert Run(str(tmp_path)).curves == whole


@pytest.mark.parametrize("rows", [1, 17, 18, 23, 24, 28])
def test_a_probe_that_is_still_being_written_is_shown_as_far_as_it_goes(tmp_path, rows):
    """15 rows are of the first probe; those of the second come layer by layer."""
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "probe.csv").write_text("".join(PROBE.splitlines(keepends=True)[: rows + 1]))
    run = Run(str(tmp_path))
    assert by_layer.gradients([run])
    if rows > 15:
        shares, cosines = map(lines, by_layer.flows([run]).axes)
        assert shares["loss"] == ([0, 1, 2], [0.7] * 3)
        assert cosines["loss & aux_loss"] == ([0, 1, 2], [-0.5] * 3)
