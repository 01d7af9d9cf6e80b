"""The numbers of a table, by hand, and the forms in which it is written."""

import csv
import io
from types import SimpleNamespace

import pytest

from relaybp.reproduce import writers
from relaybp.reproduce.cells import Measured, number
from relaybp.reproduce.spec import Block, Key, Row, Training, single


def test_mean_deviation_and_improvement_by_hand():
    found = number([50.0, 51.0, 52.0], [52.0, 53.0, 54.5])
    assert (found.value, found.deviation) == (51.0, 1.0)
    assert found.improvement == pytest.approx(159.5 / 3 - 51)
    assert found.text() == "51.00 ± 1.00 (2.17)"
    assert number([50.0]).text() == "50.00"
    assert number([50.0], [49.5]).text() == "50.00 (-0.50)"
    assert number([]) is None


def results(*errors, images=1000):
    return tuple(SimpleNamespace(errors={1: one, 5: five}, images=images) for one, five in errors)


def filled(with_reported=True):
    training = Training("model_a", "places2")
    rows = tuple(
        Row(
            method,
            single(training),
            Key("3", "Model A", method, "Places2 challenge", "val", "single crop"),
            over="" if method == "standard BP" else "standard BP",
        )
        for method in ("standard BP", "multi-loss + standard BP", "Relay BP")
    )
    found = {
        "standard BP": Measured(
            results((51.0, 19.5), (52.0, 19.5)), ("a", "b"), ("1a", "1b"), "crop"
        ),
        "Relay BP": Measured(results((49.0, 17.0), (50.0, 18.0)), ("c", "d"), ("1c", "1d"), "crop"),
    }
    block = writers.Filled(Block("Model A", "places2", rows), "Places2", found, {}, with_reported)
    return writers.Page("table3", "Table 3", (block,), ("A note.",))


def test_a_table_shows_reported_and_measured_errors_apart():
    assert writers.markdown(filled()).splitlines() == [
        "# Table 3",
        "",
        "**Model A: Places2**",
        "",
        "| error in % | top-1 reported | top-1 measured | top-5 reported | top-5 measured "
        "| runs x images |",
        "|---|---|---|---|---|---|",
        "| standard BP | 50.91 | 51.50 ± 0.71 | 19.00 | 19.50 ± 0.00 | 2 x 1,000 |",
        "| multi-loss + standard BP | 50.72 (0.19) | - | 18.84 (0.16) | - | - |",
        "| Relay BP | 49.75 (1.16) | 49.50 ± 0.71 (2.00) | 17.83 (1.17) | 17.50 ± 0.71 (2.00) "
        "| 2 x 1,000 |",
        "",
        "- A note.",
    ]


def test_where_nothing_is_comparable_nothing_reported_is_shown():
    page = filled(with_reported=False)
    for form in (writers.terminal, *writers.FORMATS.values()):
        text = form(page)
        assert "50.91" not in text and "49.75" not in text and "ECCV" not in text


def test_the_terminal_aligns_columns_and_latex_escapes():
    lines = writers.terminal(filled()).splitlines()
    header, first = lines[3], lines[4]
    assert first.index("50.91") == header.index("top-1 reported")
    assert first.index("51.50") == header.index("top-1 measured")
    (second,) = (k for k, line in enumerate(lines) if "top-5 reported" in line)
    assert "error in %" in lines[second] and "standard BP" in lines[second + 1]
    assert max(map(len, lines)) <= 80  # therefore top-5 by itself
    tex = writers.latex(filled())
    assert "Relay BP & 49.75 (1.16) & 49.50 $\\pm$ 0.71 (2.00) & 17.83 (1.17)" in tex
    assert "error in \\% & top-1 reported" in tex and tex.count("\\begin{tabular}{lrrrrr}") == 1


def test_csv_has_a_line_for_each_row_and_k_with_what_is_behind_it():
    lines = list(csv.DictReader(io.StringIO(writers.comma_separated(filled()))))
    assert [(line["row"], line["k"]) for line in lines][-1] == ("Relay BP", "5")
    last, middle = lines[-1], lines[2]
    assert (last["reported"], last["measured"], last["deviation"]) == ("17.83", "17.5", "0.7071")
    assert (last["improvement"], last["errors"], last["images"]) == ("2", "17 18", "1000")
    assert last["source"] == "Shen, Lin, Huang, ECCV 2016" and last["protocol"] == "crop"
    assert (last["runs"], last["identities"]) == ("c d", "1c 1d")
    assert (middle["measured"], middle["runs"], middle["reported"]) == ("", "", "50.72")
