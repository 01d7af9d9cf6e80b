"""The tables of a run while they are written, and after what can befall them."""

import pytest

import report_cases
from relaybp import tables
from relaybp.errors import RelayError
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import Result, measure
from relaybp.figures.run_tables import Run
from relaybp.html_report.gather import gather
from relaybp.reproduce.runs import _speed
from relaybp.retention import Keep

WHOLE = b"iteration,kind,name,value\n10,train,images/s,3.5\n10,test,accuracy,0.25\n"
TORN = {
    "being written": b"20,train,images/s",
    "its number being written": b"20,train,images/s,4",
    "torn by a full disk": b"20,test,accur30,train,lr,0.5\n",
    "cut short": b"20,test,accuracy\n",
    "without its number": b"20,test,accuracy,\n",
    "of a lost machine": b"20,test,accuracy,0.5" + bytes(20) + b"0,train,lr,1\n",
    "zeros": bytes(100) + b"\n",
    "no text": b"20,test,accuracy,\xff\xfe\n",
}


@pytest.fixture(params=TORN.values(), ids=TORN)
def run(request, tmp_path):
    """(the folder of a run, whether whole rows come after the torn one in its table)."""
    after = b"40,train,images/s,5\n40,test,accuracy,0.125\n" if request.param[-1:] == b"\n" else b""
    (tmp_path / tables.METRICS).write_bytes(WHOLE + request.param + after)
    return tmp_path, bool(after)


def test_what_is_whole_is_shown(run):
    folder, goes_on = run
    curves = Run(str(folder)).curves
    assert curves["train", "images/s"] == {10: 3.5, **({40: 5} if goes_on else {})}
    assert curves["test", "accuracy"] == {10: 0.25, **({40: 0.125} if goes_on else {})}
    assert _speed(str(folder / tables.METRICS)) == (5 if goes_on else 3.5)


def test_the_best_snapshot_is_known_from_whole_rows(run):
    folder, goes_on = run
    for iteration in (10, 20, 40):
        (folder / f"a_iter_{iteration}.caffemodel").write_bytes(b"")
        (folder / f"a_iter_{iteration}.solverstate").write_bytes(b"")
    assert Keep(1, output="accuracy", run=str(folder)).best(str(folder / "a")) == 10


def test_a_table_of_something_else_has_no_rows(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert tables.read(str(tmp_path / "other.csv")) == tables.read(str(tmp_path / "none.csv")) == []


@pytest.mark.parametrize(
    "ending, damage", [("json", b'{"errors": '), ("json", b"\xff"), ("npz", b"")]
)
def test_a_damaged_result_is_named_with_what_to_do(tmp_path, ending, damage):
    folder = report_cases.make(tmp_path)[0]
    (path,) = (tmp_path / folder / "results").glob(f"*.{ending}")
    path.write_bytes(damage)
    (facts,) = path.parent.glob("*.json")
    with pytest.raises(RelayError, match=rf"{path.name}: .*; delete \S+ and test again"):
        Result(str(facts)).scores  # noqa: B018


def test_a_result_that_lacks_something_is_named_by_whoever_tests(tmp_path):
    folder = report_cases.make(tmp_path)[0]
    (path,) = (tmp_path / folder / "results").glob("*.json")
    path.write_text("{}")
    with pytest.raises(RelayError, match=rf"{path.name}: there is no 'errors' in it; delete it"):
        measure(report_cases.engine(), folder, Protocol(), gpu="none")


def test_a_deploy_net_without_a_shape_hides_nothing(tmp_path):
    folder = tmp_path / report_cases.make(tmp_path, tested=False)[0]
    (folder / "deploy.prototxt").write_text("")
    assert gather(report_cases.engine(), [str(folder)])["runs"][0]["network"]["units"]


@pytest.mark.parametrize("damage", [b"class,images,top1\na,1,2\n", b"class,\xff\n"])
def test_a_damaged_table_of_classes_is_named_with_what_to_do(tmp_path, damage):
    (tmp_path / tables.METRICS).write_bytes(WHOLE)
    (tmp_path / "per_class_crop.csv").write_bytes(damage)
    with pytest.raises(
        RelayError, match="per_class_crop.csv: not the errors of classes .*delete it"
    ):
        Run(str(tmp_path))
