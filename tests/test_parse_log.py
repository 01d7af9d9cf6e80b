"""parse_log: the tables it makes of a training's log, in the forms that logs come in."""

import csv
import math
from pathlib import Path

import pytest

from caffe.command import parse_log

SHARED = Path(__file__).parents[2] / "shared" / "cases"


pytestmark = pytest.mark.usefixtures("clean_log")


LOG = """I1231 23:59:58.500000  1 caffe.cpp:1] Use CPU.
I1231 23:59:59.000000  1 solver.cpp:1] Solving net
I1231 23:59:59.250000  1 solver.cpp:1] Iteration 0, Testing net (#0)
I1231 23:59:59.500000  1 solver.cpp:1]     Test net output #0: accuracy = 0.1
I1231 23:59:59.500000  1 solver.cpp:1]     Test net output #1: loss = 2.3 (* 1 = 2.3 loss)
I0101 00:00:01.000000  1 solver.cpp:1] Iteration 0 (0 iter/s, 1s/20 iters), loss = 2.5
I0101 00:00:01.000000  1 solver.cpp:1]     Train net output #0: loss = 2.5 (* 1 = 2.5 loss)
I0101 00:00:01.000000  1 sgd_solver.cpp:1] Iteration 0, lr = 0.01
I0101 00:00:03.000000  1 solver.cpp:1] Iteration 20 (1 iter/s, 2s/20 iters), loss = 1e-05
I0101 00:00:03.000000  1 solver.cpp:1]     Train net output #0: loss = 1e-05 (* 1 = 1e-05 loss)
I0101 00:00:03.000000  1 sgd_solver.cpp:1] Iteration 20, lr = 1e-3
I0101 00:00:04.000000  1 solver.cpp:1] Iteration 30, Testing net (#0)
I0101 00:00:04.000000  1 solver.cpp:1]     Test net output #0: accuracy = nan
I0101 00:00:04.000000  1 solver.cpp:1]     Test net output #1: loss = 1 (* 1 = 1 loss)
"""


def test_parse_log_makes_two_tables(tmp_path, capsys):
    (tmp_path / "a.log").write_text(LOG)
    assert parse_log.main([str(tmp_path / "a.log"), str(tmp_path), "--verbose"]) == 0
    train, test = (
        list(csv.reader((tmp_path / f"a.log.{kind}").read_text().splitlines()))
        for kind in ("train", "test")
    )
    assert train == [
        ["NumIters", "Seconds", "LearningRate", "loss"],
        ["0.0", "2.0", "0.01", "2.5"],
        ["20.0", "4.0", "0.001", "1e-05"],
    ]
    assert test == [
        ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"],
        ["0.0", "0.5", "0.01", "0.1", "2.3"],
        ["30.0", "5.0", "0.001", "nan", "1.0"],
    ]
    assert "20.0,4.0,0.001,1e-05" in capsys.readouterr().out


def test_parse_log_refuses_what_is_no_log(tmp_path, caplog):
    (tmp_path / "list.txt").write_text("0.png 1\n")
    assert parse_log.main([str(tmp_path / "list.txt"), str(tmp_path)]) == 1
    assert "list.txt: no output of a train or test net in it" in caplog.text


def rows_of(text):
    return parse_log.parse(text.splitlines(keepends=True))


TRAIN = [
    {"NumIters": 0.0, "Seconds": 2.0, "LearningRate": 0.01, "loss": 2.5},
    {"NumIters": 20.0, "Seconds": 4.0, "LearningRate": 0.001, "loss": 1e-05},
]


def changed(first=(), second=()):
    """The rows of LOG, with other values in the first or the second."""
    return [{**TRAIN[0], **dict(first)}, {**TRAIN[1], **dict(second)}]


def since(first, second):
    return changed({"Seconds": first}, {"Seconds": second})


SECOND = "loss = 1e-05 (* 1"
BEGIN = "I1231 23:59:59.000000  1 solver.cpp:1] Solving net\n"
LATER = "I0101 00:00:03.500000  1 solver.cpp:1] "
TORN = "I0101 00:00:03.000000  2 x.cpp:1] Waiting"
FORMS = [
    ("", "", TRAIN),
    ("lr = 0.01\n", "lr = 0.01, m = 0.9, wd = 0.0005, gs = 1\n", TRAIN),  # NVCaffe
    ("lr = 1e-3", "lr = 0,001", TRAIN),  # a locale with a decimal comma
    ("= 2.5 (", "= 2,5 (", TRAIN),
    (SECOND, "loss = -1.#IND (* 1", changed(second={"loss": math.nan})),
    (SECOND, "loss = 1.#INF (* 1", changed(second={"loss": math.inf})),
    (SECOND, "loss = -nan (* 1", changed(second={"loss": math.nan})),
    # lines that another thread, or the end of the log, has torn
    (SECOND, f"loss = 1e-0{TORN}", TRAIN[:1]),
    ("lr = 1e-3\n", f"lr = 1{TORN}\n", changed(second={"LearningRate": 0.01})),
    ("I0101 00:00:03.000000  1 sgd", "I0199 00:00:03.000000  1 sgd", TRAIN),
    ("I0101 00:00:04", LATER + "Iteration 2I0101 00:00:04", TRAIN),
    # where the seconds begin: at the first "Solving", or where the log does
    (BEGIN, "Solving...\n", since(1.75, 3.75)),
    ("Solving", "Optimizing", since(2.5, 4.5)),
    ("I0101 00:00:04", LATER + "Solving net\nI0101 00:00:04", TRAIN),
]


@pytest.mark.parametrize("old, new, train", FORMS, ids=range(len(FORMS)))
def test_logs_of_other_programs_and_places_give_their_rows(old, new, train):
    text = LOG.replace(old, new)
    assert (text == LOG) == (old == new)
    found, tests = rows_of(text)
    assert repr(found) == repr(train)  # NaN is equal to nothing, but it reads as itself
    assert [row["NumIters"] for row in tests] == [0, 30]


def test_stamps_may_have_a_year():
    text = "".join(
        line.replace("I1231", "I20221231").replace("I0101", "I20230101")
        for line in LOG.splitlines(keepends=True)
    )
    assert repr(rows_of(text)) == repr(rows_of(LOG))


def test_a_line_that_is_stamped_late_is_not_a_year_later():
    late = LOG.replace("I0101 00:00:04", "I1231 23:59:58")
    assert rows_of(late)[1][1]["Seconds"] == -1


def test_a_last_line_that_was_cut_off_gives_no_number():
    whole = LOG[: LOG.index("1e-05 (* 1 = 1e-05 loss)\nI0101 00:00:03.000000  1 sgd")]
    assert [row["NumIters"] for row in rows_of(whole + "1e-0")[0]] == [0]
    assert [row["NumIters"] for row in rows_of(whole + "1e-05\n")[0]] == [0, 20]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs logs that are not in the repository")
@pytest.mark.parametrize("kind", ["comma", "frcnn", "glog6", "nosolving", "nv", "torn", "winnan"])
def test_collected_logs_give_their_rows(kind):
    begun = 6 if kind in ("frcnn", "nosolving") else 0  # there, the first stamp is the beginning
    train, test = rows_of((SHARED / f"parse_log_{kind}.txt").read_text())
    assert len(test) == 1
    assert test[0] == {
        "NumIters": 20,
        "Seconds": pytest.approx(172.15 - begun),
        "LearningRate": 0.001,
        "acc": 0.5,
    }
    first = {"NumIters": 0, "Seconds": pytest.approx(6.1 - begun), "LearningRate": 0.01}
    assert train[0] == {**first, "loss": 6.9}
    second = {"NumIters": 20, "Seconds": pytest.approx(172.166026 - begun), "LearningRate": 0.001}
    if kind == "torn":
        assert len(train) == 1
    elif kind == "winnan":
        assert math.isnan(train[1].pop("loss")) and train[1] == second
    else:
        assert train[1:] == [{**second, "loss": 6.8}]
