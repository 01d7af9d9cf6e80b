"""The bar that a terminal shows of a training, a test or a conversion."""

import io
import re
import signal

import pytest
from rich.cells import cell_len

from caffe_plain import signals
from relaybp.progress import Progress, bar_line, clock
from relaybp.report import Report

LONG = "a_model_with_a_name_that_is_as_long_as_a_line_relay"
NUMBERS = "36.0 images/s  aux_loss 1.7740  loss 2.3992  aux_loss2 2.1  aux_loss3 2.3  lr 0.002"


class Terminal(io.StringIO):
    """A terminal of so many columns; `frames` are what it showed, without colours."""

    def __init__(self, monkeypatch, columns, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True

    @property
    def lines(self):
        text = re.sub(
            r"\x1b\[[0-9;?]*[A-Za-z]", "\n", re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        )
        return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("title", ["resnet50", LONG])
def test_a_bar_fits_its_terminal_with_count_and_times(monkeypatch, columns, title):
    terminal = Terminal(monkeypatch, columns)
    with Progress(title, 600_000, stream=terminal) as shown:
        shown.begun -= 100
        shown.set(150_000, NUMBERS)
        shown.say("a line above")
    assert max(map(cell_len, terminal.lines)) <= columns
    bars = [line for line in terminal.lines if "150000/600000" in line]
    assert bars and all(re.search(r"0:01:4\d passed, 0:05:\d\d left$", line) for line in bars)
    filled, empty = bars[0].count("━"), bars[0].count("─")
    assert filled + empty >= 8 and abs(filled - (filled + empty) / 4) <= 1
    assert bars[0].startswith(title[:4])
    assert "a line above" in terminal.lines
    if columns == 200:
        assert any(NUMBERS in line for line in terminal.lines)


def test_a_bar_that_is_closed_is_gone(monkeypatch):
    """What a terminal does with what it gets: erase the line, go up, erase that one."""
    terminal = Terminal(monkeypatch, 80)
    with Progress("a run", 10, stream=terminal) as shown:
        shown.set(5, "numbers")
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K\x1b[1A\x1b[2K")
    shown.say("what follows")
    assert terminal.getvalue().endswith("what follows\n")


def test_a_bar_shows_a_test_in_its_own_time_and_goes_on(monkeypatch):
    terminal = Terminal(monkeypatch, 80)
    with Progress("a run", 10, unit="iterations", stream=terminal) as shown:
        shown.begun -= 3600
        shown.set(5, NUMBERS)
        with shown.instead("testing", 10_000):
            shown.begun -= 100
            shown.count(2_500)
            shown._live._live.refresh()
        inside = len(terminal.lines)
        shown._live._live.refresh()
    at = next(k for k, line in enumerate(terminal.lines) if "2500/10000" in line)
    bar, speed = terminal.lines[at : at + 2]
    assert re.match(r"testing  .*  0:01:4\d passed, 0:05:\d\d left$", bar)
    assert re.search(r"2\d\.\d images/s", speed)
    assert "a run" in terminal.lines[inside] and "5/10" in terminal.lines[inside]


def test_a_training_shows_its_test(monkeypatch, tmp_path):
    terminal = Terminal(monkeypatch, 80)
    monkeypatch.setattr("sys.stdout", terminal)
    report = Report(str(tmp_path), "a run", 10, 1)
    report.start(5)
    with report.testing(1_000) as count:
        for images in (0, 100, 100):
            count(images)
        report._progress._live._live.refresh()
    report.close()
    assert any(re.match("testing  .*  200/1000", line) for line in terminal.lines)


def test_a_terminal_without_unicode_gets_plain_signs(monkeypatch):
    terminal = Terminal(monkeypatch, 80, "ascii")
    with Progress(LONG, 10, stream=terminal) as shown:
        shown.set(5, NUMBERS)
    terminal.getvalue().encode("ascii")
    assert "====" in terminal.getvalue() and "----" in terminal.getvalue()


def test_without_a_terminal_there_are_lines():
    stream = io.StringIO()
    with Progress("photos", 20, every_s=0, stream=stream) as shown:
        shown.set(10, "half")
        shown.say("a word")
    assert stream.getvalue() == "photos  10/20  half  0:00:00 left\na word\n"


@pytest.mark.parametrize("width", range(20, 90, 7))
def test_a_line_is_as_wide_as_its_terminal_unless_that_is_too_narrow(width):
    rest = "100/200  0:00:10"
    line = "".join(bar_line("a title of some length", 0.5, rest, width))
    assert len(line) == max(width, 4 + 8 + len(rest) + 1) or width < 30
    assert line.endswith(rest)


def test_clock():
    assert [clock(s) for s in (0, 59.9, 61, 360_000)] == [
        "0:00:00",
        "0:00:59",
        "0:01:01",
        "100:00:00",
    ]


class Screen:
    """What a terminal shows of what it gets, as far as the bar's codes go."""

    def __init__(self):
        self.rows, self.row, self.column = [""], 0, 0

    def feed(self, text):
        for code in re.findall(r"\x1b\[\??[0-9;]*[A-Za-z]|[^\x1b]", text):
            if code == "\n":
                self.row, self.column = self.row + 1, 0
                self.rows += [""] * (self.row + 1 - len(self.rows))
            elif code == "\r":
                self.column = 0
            elif code == "\x1b[1A":
                self.row -= 1
            elif code == "\x1b[2K":
                self.rows[self.row] = ""
            elif not code.startswith("\x1b"):
                row = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = row[: self.column] + code + row[self.column + 1 :]
                self.column += 1
        return self


def test_the_answer_to_ctrl_c_stays_on_the_screen(monkeypatch):
    """It is written beside the bar, by a signal's handler, right behind the terminal's own ^C."""
    terminal = Terminal(monkeypatch, 80)
    monkeypatch.setattr(signals.os, "isatty", lambda number: True)
    monkeypatch.setattr(signals.os, "write", lambda number, data: terminal.write(data.decode()))
    with Progress("a run", 10, stream=terminal) as shown:
        shown.set(5, NUMBERS)
        shown._live._live.refresh()
        terminal.write("^C")
        signals.Signals({signal.SIGINT: "stop"}, acknowledges=True)._note(signal.SIGINT, None)
        shown._live._live.refresh()
        shown.say("Interrupted at iteration 5")
    shown.say("the end")
    rows = [row.strip() for row in Screen().feed(terminal.getvalue()).rows]
    answer = rows.index("SIGINT: a snapshot and the end come after this batch")
    assert rows.index("Interrupted at iteration 5") == answer + 1
    assert list(filter(None, rows[answer + 2 :])) == ["the end"]
