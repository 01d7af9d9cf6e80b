"""The report in a real browser: it draws, is read by keyboard and pointer, and loads nothing.

Skipped where there is no Chromium. tests/README.md says how to look at it, and how axe judges it.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import report_cases
from relaybp.evaluation.results import Result
from relaybp.html_report import page
from relaybp.html_report.gather import gather

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
WATCH = """<script>
const problems = [];
addEventListener("error", (event) => problems.push(event.message));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
</script>"""

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return report_cases.make(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def seen(runs, tmp_path_factory):
    """What hands.js sees in the page while it uses it."""
    folder = tmp_path_factory.mktemp("page")
    text = page.render(gather(report_cases.engine(), runs), "today")
    hands = Path(__file__).with_name("browser").joinpath("hands.js").read_text()
    text = text.replace("<title>", WATCH + "<title>", 1)
    text = text.replace("</body>", f"<script>{hands}</script></body>")
    (folder / "report.html").write_text(text)
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}/profile",
        "--window-size=1280,900",
        "--dump-dom",
        f"file://{folder}/report.html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def test_nothing_goes_wrong_and_every_panel_is_filled(seen):
    assert seen["problems"] == [] and seen["missing"] == []
    assert seen["sections"] == [
        "Results",
        "Curves",
        "Settings that differ",
        "Network",
        "Gradients",
        "Classes",
        "Confusion",
        "Images",
        "Inside",
        "Configuration",
    ]
    assert seen["images"] and min(seen["images"]) > 0 and seen["undescribed"] == 0


def test_lines_are_asked_for_once_for_their_range_and_once_to_draw_them(seen):
    """Not once for each point: of 1500 points a redrawing then took 18 s."""
    assert seen["asked"] == 2


def test_the_first_row_has_the_numbers_of_the_first_run(seen):
    error, loss, speed, progress = seen["results"]
    assert (error, loss, speed) == ("25.00 % (the lowest)", "0.5", "110")
    assert progress.startswith("15 of 15finished")


def test_a_chart_is_read_by_keyboard(seen):
    assert seen["first"] == "iteration 5: run0 75.00 %, run1 75.00 %"
    assert seen["second"] == "iteration 10: run0 50.00 %, run1 50.00 %"
    assert seen["legend"] == ["run050.00 %", "run150.00 %"]
    assert seen["zoomedByKey"] and seen["wholeAgain"]


def test_a_test_that_gave_no_number_is_a_gap_in_the_errors(seen):
    """Three tests of two runs; the second test of the second run is NaN, not an error of 100 %."""
    assert seen["strokes"] == ["MLL", "MM"] and seen["marks"] == 3 + 2


def test_a_chart_is_read_and_zoomed_by_pointer(seen):
    assert seen["hovered"] == "iteration 15"  # the nearest to where the pointer is
    low, high = seen["dragged"]
    assert 5 < low < high < 15


def test_a_run_that_is_switched_off_leaves_charts_and_bars(seen):
    assert seen["legendOfOne"] == ["run125.00 %"]
    assert (seen["barsOfBoth"], seen["barsOfOne"]) == (2, 1)


def test_the_matrix_is_that_of_the_run_that_is_picked(seen, runs):
    for name, run in zip(("matrix", "otherMatrix"), runs, strict=True):
        (path,) = Path(run, "results").glob("*.json")
        result, counts = Result(str(path)), np.zeros((7, 7), int)
        np.add.at(counts, (result.labels, result.scores.argmax(1)), 1)
        assert [
            [int(cell.replace("·", "0")) for cell in row] for row in seen[name]
        ] == counts.tolist()
    assert seen["matrix"] != seen["otherMatrix"] and seen["pickedElsewhere"] == [False, True]


def test_a_part_of_the_net_shows_its_layers(seen):
    assert seen["unit"] == "conv1" and seen["layers"] == ["conv1", "relu1"]
    assert seen["nextUnit"] == "fc" and seen["tabStops"] == 1


def test_the_theme_can_be_chosen(seen):
    light, dark = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in seen["backgrounds"])
    assert light > 700 and dark < 100
