"""The report of runs: what it shows is what their files hold, by the definition or by hand."""

import base64
import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import report_cases
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from evaluation_cases import make_run
from nets import BRANCHED
from relaybp import colours, identity
from relaybp.__main__ import COMMANDS
from relaybp.commands import report
from relaybp.evaluation.results import Result
from relaybp.html_report import inside, outcome, page, training
from relaybp.html_report.gather import PANELS, gather, unique_names
from relaybp.html_report.source import Source
from relaybp.pictures import heat, png

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return report_cases.make(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def facts(runs):
    """What the page's scripts read, from the page itself."""
    return embedded(page.render(gather(report_cases.engine(), runs), "today"))


def embedded(html):
    return json.loads(
        re.search(r'<script type="application/json" id="facts">(.*?)</script>', html)[1]
    )


def result_of(run):
    (path,) = Path(run, "results").glob("*.json")
    return Result(str(path))


# ---- training ------------------------------------------------------------------------------------


def test_every_number_of_the_table_is_in_the_page(runs, facts):
    for run, found in zip(runs, facts["runs"], strict=True):
        with open(Path(run, "metrics.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(
            len(curve) for kind in found["curves"].values() for curve in kind.values()
        ) == len(rows)
        for row in rows:
            curve = dict(map(tuple, found["curves"][row["kind"]][row["name"]]))
            expected = None if row["value"] == "nan" else float(row["value"])
            assert curve[int(row["iteration"])] == expected


def test_the_overview_has_the_last_and_the_best_error(facts):
    overview = facts["runs"][1]["overview"]
    assert overview["tests"] == {"accuracy_top1": {"last": 25.0, "best": 25.0, "at": 15}}
    assert (overview["method"], overview["state"]) == ("multi-loss + standard BP", "finished")
    assert (overview["iteration"], overview["iterations"]) == (15, 15)


def test_the_best_test_is_not_always_the_last(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "iteration,kind,name,value\n1,test,accuracy,0.5\n2,test,accuracy,0.75\n3,test,accuracy,0.7\n"
    )
    found = training.tests(Source(report_cases.engine(), str(tmp_path)))
    assert found["accuracy"] == {"last": pytest.approx(30), "best": pytest.approx(25), "at": 2}


def test_a_long_curve_keeps_real_points_and_both_ends(tmp_path):
    rows = [f"{k},train,loss,{k * 0.5}" for k in range(1, 20_001)]
    (tmp_path / "metrics.csv").write_text("iteration,kind,name,value\n" + "\n".join(rows) + "\n")
    curve = training.curves(Source(report_cases.engine(), str(tmp_path)))["train"]["loss"]
    assert len(curve) == training.POINTS
    assert curve[0] == [1, 0.5] and curve[-1] == [20_000, 10_000]
    assert all(y == x * 0.5 for x, y in curve)


def test_probed_values_stand_at_their_layers_and_parts_are_apart(facts):
    found = facts["runs"][0]["gradients"]
    assert found["layers"] == ["conv1", "fc", "", "aux_fc"] and found["iterations"] == [5, 10]
    assert found["gradient"]["all"] == [[0.05, 0.05, None, 0.05], [0.1, 0.1, None, 0.1]]
    assert found["gradient"]["loss"] == [[0.015, None, None, None], [0.03, None, None, None]]
    assert found["cosine"] == {"loss & aux_loss": [[-0.5, None, None, None]] * 2}


def test_only_what_differs_is_listed(facts):
    assert facts["differences"] == [["settings.base_lr", "0.1", "0.01"]]


def test_losses_and_runs_that_are_compared_have_colours_of_their_own(facts):
    assert facts["losses"] == {"loss": colours.BLUE, "aux_loss": colours.VERMILLION}
    of_runs = {colours.of_run(number) for number in range(4)}
    of_losses = set(colours.of_losses(["loss", "aux1_loss", "aux2_loss", "aux3_loss"]).values())
    assert len(of_runs | of_losses) == 8


# ---- tests ---------------------------------------------------------------------------------------


def test_the_confusion_matrix_counts_images_one_by_one(runs, facts):
    for run, found in zip(runs, facts["runs"], strict=True):
        result, counts = result_of(run), np.zeros((7, 7), int)
        for scores, label in zip(result.scores, result.labels, strict=True):
            counts[label, list(scores).index(max(scores))] += 1
        assert found["confusion"]["counts"] == counts.tolist()
        assert found["confusion"]["totals"] == counts.sum(1).tolist()
        pairs = [
            [result.class_names[i], result.class_names[j], int(counts[i, j])]
            for i in range(7)
            for j in range(7)
            if i != j and counts[i, j]
        ]
        shown = [pair[:3] for pair in found["confusion"]["pairs"]]
        assert [pair[2] for pair in shown] == sorted((p[2] for p in pairs), reverse=True)[:12]
        assert all(pair in pairs for pair in shown)
        for truth, _, images, share in found["confusion"]["pairs"]:
            total = (result.labels == result.class_names.index(truth)).sum()
            assert share == pytest.approx(100 * images / total)


def test_of_many_classes_those_are_shown_that_are_confused_most():
    result = FakeResult(scores=np.eye(50)[[0, *range(1, 40), 49, 48]], labels=[*range(40), 48, 48])
    found = outcome.confusion(FakeSource(result))
    assert found["of"] == 50 and len(found["classes"]) == 30
    assert {"48", "49"} <= set(found["classes"])
    assert found["pairs"] == [["48", "49", 1, 50.0]]


def test_errors_by_class_are_those_of_the_scores(runs, facts):
    result, found = result_of(runs[0]), facts["runs"][0]["classes"]
    assert found["images"] == report_cases.IMAGES and found["k"] == 5
    for label, (name, images, one, five) in enumerate(found["rows"]):
        mine = result.labels == label
        order = np.argsort(-result.scores[mine], 1)
        assert (name, images) == (result.class_names[label], mine.sum())
        assert one == pytest.approx(100 * (order[:, 0] != label).mean())
        assert five == pytest.approx(100 * (order[:, :5] != label).all(1).mean())


def test_images_are_right_or_wrong_with_their_five_best_guesses(runs, facts):
    result, found = result_of(runs[0]), facts["runs"][0]["examples"]
    truly_right = (result.scores.argmax(1) == result.labels).sum()
    assert len(found["right"]) == min(12, truly_right)
    assert len(found["wrong"]) == min(12, report_cases.IMAGES - truly_right)
    images = report_cases.draw_images(report_cases.IMAGES)
    for how in ("right", "wrong"):
        for each in found[how]:
            number = int(each["name"])
            best = np.argsort(-result.scores[number])[:5]
            assert [guess[0] for guess in each["guesses"]] == [result.class_names[k] for k in best]
            assert [guess[1] for guess in each["guesses"]] == pytest.approx(
                100 * result.scores[number][best], rel=1e-5
            )
            assert each["guesses"][0][2] == (how == "right")
            np.testing.assert_array_equal(decoded(each["image"]), images[number])


class FakeResult(Result):
    """Scores and labels without files."""

    def __init__(self, scores, labels):
        self.class_names = []
        self.arrays = {"scores": np.asarray(scores), "labels": np.asarray(labels)}


class FakeSource:
    def __init__(self, result):
        self.result = result


def test_images_of_many_classes_are_spread_over_them():
    labels = np.repeat(np.arange(6), 5)
    scores = np.full((30, 6), 0.01) + 0.5 * np.eye(6)[labels]
    scores[::5] *= 1.1  # of each class the first is the surest
    chosen = outcome.choose(FakeResult(scores, labels), right=True, count=3)
    assert len({*labels[chosen]}) == 3 and {labels[chosen[0]], labels[chosen[-1]]} == {0, 5}
    assert all(index % 5 == 0 for index in chosen)
    assert outcome.choose(FakeResult(scores, labels), right=False) == []


# ---- the net -------------------------------------------------------------------------------------


@pytest.fixture
def branched(tmp_path):
    """A folder of a run of the net BRANCHED, with a relay file."""
    (tmp_path / "train_val.prototxt").write_text(BRANCHED)
    (tmp_path / "solver.prototxt").write_text(f'net: "{tmp_path}/train_val.prototxt" base_lr: 1')
    (tmp_path / "relay.prototxt").write_text(
        'flow { loss: "loss" to: "conv3" } flow { loss: "aux_loss" to: "conv1" }'
    )
    (tmp_path / "metrics.csv").write_text("iteration,kind,name,value\n")
    return tmp_path


def test_every_layer_has_the_losses_that_train_it(branched):
    found = PANELS["network"](Source(report_cases.engine(), str(branched)))
    layers = [layer for part in found["units"] + found["branches"] for layer in part["layers"]]
    trained = {layer["name"]: layer["losses"] for layer in layers if layer["losses"]}
    aux, both, final = ["aux_loss"], ["loss", "aux_loss"], ["loss"]
    expected = dict.fromkeys(["conv1", "scale1", "res2_branch2a", "res2_branch2b"], aux)
    expected.update(conv3=both, aux_fc=aux, conv4=final, fc=final)
    assert {name: sorted(losses, reverse=True) for name, losses in trained.items()} == {
        name: sorted(losses, reverse=True) for name, losses in expected.items()
    }
    (branch,) = found["branches"]
    assert found["units"][branch["unit"]]["name"] == "conv3"
    reach = {
        flow["loss"]: [found["units"][flow[end]]["name"] for end in ("first", "last")]
        for flow in found["flows"]
    }
    assert reach == {"loss": ["conv3", "fc"], "aux_loss": ["conv1", "conv3"]}


def test_parameters_and_multiply_adds_are_those_of_the_net(branched):
    found = PANELS["network"](Source(report_cases.engine(), str(branched)))
    layers = {
        layer["name"]: layer
        for part in found["units"] + found["branches"]
        for layer in part["layers"]
    }
    net = caffe.Net(text_format.Parse(BRANCHED, caffe_pb2.NetParameter()), caffe.TRAIN)
    for name, blobs in net.params.items():
        counted = 0 if name == "bn1" else sum(blob.data.size for blob in blobs)
        assert layers[name]["parameters"] == counted
    assert layers["conv3"]["shape"] == [8, 5, 5]
    assert layers["conv3"]["multiply_adds"] == 8 * 5 * 5 * 6 * 3 * 3
    assert layers["fc"]["multiply_adds"] == 8 * 5


def test_a_net_without_its_branches_has_one_flow(branched):
    path = branched / "train_val.prototxt"
    text = re.sub(r'(name: "aux_\w+")', r'\1 include { not_stage: "standard" }', path.read_text())
    path.write_text(text)
    (branched / "relay.prototxt").unlink()
    with open(branched / "solver.prototxt", "a") as file:
        file.write(' train_state { stage: "standard" }')
    found = PANELS["network"](Source(report_cases.engine(), str(branched)))
    assert [flow["loss"] for flow in found["flows"]] == ["loss"] and not found["branches"]


def test_the_size_of_images_without_a_crop_is_that_of_the_deploy_net(tmp_path):
    folder = make_run(
        tmp_path / "run", tmp_path, edit=lambda text: text.replace("crop_size: 13", "")
    )
    (folder / "metrics.csv").write_text("iteration,kind,name,value\n")
    source = Source(report_cases.engine(), str(folder))
    with pytest.raises(CaffeError, match="no crop_size to tell the size"):
        PANELS["network"](source)
    (folder / "deploy.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" '
        "input_param { shape { dim: 1 dim: 3 dim: 9 dim: 11 } } }"
    )
    found = PANELS["network"](source)
    assert found["units"][0]["layers"][0]["shape"] == [6, 4, 5]


# ---- inside --------------------------------------------------------------------------------------


def decoded(uri):
    """The image (H, W, C) of a data URI, in BGR, by another reader than what wrote it."""
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("shape", [(4, 5), (1, 7, 3), (3, 2, 4)])
def test_a_png_is_read_back(shape):
    values = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    read = cv2.imdecode(np.frombuffer(png(values), np.uint8), cv2.IMREAD_UNCHANGED)
    order = {2: ..., 3: (..., [2, 1, 0, 3][: shape[-1]])}[len(shape)]  # OpenCV's is BGR
    np.testing.assert_array_equal(read, values[order])


def test_filters_are_in_colour_and_each_spans_its_weights(runs, facts):
    found = facts["runs"][0]["filters"]
    weights = caffe_pb2.NetParameter()
    weights.ParseFromString(Path(runs[0], "a_iter_7.caffemodel").read_bytes())
    (layer,) = [layer for layer in weights.layer if layer.name == "conv1"]
    values = np.array(layer.blobs[0].data).reshape(6, 3, 3, 3)  # of B, G and R
    sheet = decoded(found["image"])
    assert found["layer"] == "conv1" and sheet.shape == (3, 6 * 3 + 5, 4)
    for number, tile in enumerate(values.transpose(0, 2, 3, 1)):
        expected = np.round(255 * (tile - tile.min()) / (tile.max() - tile.min()))
        shown = sheet[:, 4 * number : 4 * number + 3]
        np.testing.assert_array_equal(shown[..., :3], expected)
        assert (shown[..., 3] == 255).all()
    assert (sheet[:, 3, 3] == 0).all()  # between two filters


def test_saliency_is_the_derivative_of_the_highest_score(runs, double):
    looker = inside.Looker(Source(report_cases.engine(), runs[0]))
    net = looker.net((1, 3, 13, 13))
    data = report_cases.noise((1, 3, 13, 13))
    scores, gradient = inside.scores_and_gradient(net, looker, data)
    for place in [(0, 0, 0), (1, 6, 6), (2, 11, 3)]:
        moved = data.copy()
        moved[(0, *place)] += 1e-6
        other, _ = inside.scores_and_gradient(net, looker, moved)
        slope = (other[scores.argmax()] - scores.max()) / 1e-6
        assert gradient[place] == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_the_strongest_pixel_is_the_brightest():
    gradient = np.zeros((3, 4, 4))
    gradient[1, 2, 3], gradient[0, 0, 0] = -8.0, 0.5
    found = inside.saliency(gradient)
    assert found.shape == (4, 4) and found[2, 3] == 1 and 0 < found[0, 0] < 1
    assert np.count_nonzero(found) == 2


def test_maps_are_those_of_the_layers_on_the_way_up(facts):
    found = facts["runs"][0]["responses"]
    assert [sheet["blob"] for sheet in found["activations"]] == ["conv1"]
    assert found["activations"][0]["text"].startswith("6x6x6, the 6 strongest channels")
    assert decoded(found["saliency"][0]["heat"]).shape == (13, 13, 3)


def test_heat_goes_from_dark_to_bright():
    ramp = heat(np.linspace(0, 1, 16)[None]).astype(int).sum(-1)[0]
    assert (np.diff(ramp) > 0).all()


# ---- the page ------------------------------------------------------------------------------------


def test_the_page_loads_nothing(runs):
    html = page.render(gather(report_cases.engine(), runs), "today")
    assert "default-src 'none'" in html
    without_facts = re.sub(r'id="facts">.*?</script>', "", html)
    addresses = set(re.findall(r"""https?://[^\s"'`)]+""", without_facts))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which is never fetched
    assert not re.search(r"<(link|iframe|object|script src)|@import|url\((?!#)", without_facts)


def test_a_name_cannot_end_the_script_that_holds_it(facts):
    assert facts["runs"][0]["classes"]["rows"][0][0] == "a </script> b"


def test_numbers_that_are_not_finite_are_null():
    found = json.loads(page.embedded({"a": [float("nan"), (float("-inf"), 1.5)], "b": "<!--"}))
    assert found == {"a": [None, [None, 1.5]], "b": "<!--"}


@pytest.mark.parametrize("program", ["relay", "make"])
def test_what_a_run_lacks_is_said_with_the_command_that_makes_it(tmp_path, monkeypatch, program):
    monkeypatch.chdir(tmp_path if program == "relay" else ROOT)
    (tmp_path / "metrics.csv").write_text("iteration,kind,name,value\n")
    (run,) = gather(report_cases.engine(), [str(tmp_path)])["runs"]
    for name in PANELS:
        assert run[name]["missing"], name
    for name in ("classes", "confusion", "examples", "responses"):
        command = re.search(rf"`{program} ([\w-]+) (RUN=)?{tmp_path}`", run[name]["missing"])
        assert command and command[1] in COMMANDS, name
    assert "`relay train --model`" in run["network"]["missing"]
    assert "--probe 10%" in run["gradients"]["missing"]
    assert str(tmp_path) not in run["gradients"]["missing"], "a finished run is not probed"


def test_what_an_earlier_version_measured_is_left_out(tmp_path):
    """It knew no precision."""
    runs = report_cases.make(tmp_path)
    (path,) = Path(runs[0], "results").glob("*.json")
    facts = json.loads(path.read_text())
    del facts["precision"]
    path.write_text(json.dumps(facts))
    first, second = gather(report_cases.engine(), runs)["runs"]
    assert (first["overview"]["results"], len(second["overview"]["results"])) == ([], 1)
    assert "not tested yet" in first["classes"]["missing"]


def test_data_that_went_away_is_named(tmp_path):
    runs = report_cases.make(tmp_path)
    shutil.rmtree(tmp_path / "data" / "val_lmdb")
    run = gather(report_cases.engine(), runs)["runs"][0]
    assert "val_lmdb" in run["examples"]["missing"] and "not there" in run["examples"]["missing"]
    assert run["confusion"]["counts"]  # the scores are kept


def test_runs_of_one_name_are_told_apart():
    assert unique_names(["a", "b"], ["x/a", "y/b"]) == ["a", "b"]
    assert unique_names(["a", "a"], ["x/a/", "y/a"]) == ["x/a", "y/a"]


HOLD = """
import sys, time
from relaybp.lock import Lock
lock = Lock(sys.argv[1])
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def trainer(tmp_path):
    """A process that holds the lock of the run in tmp_path/run."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"locked\n"
        yield process
        process.kill()


@pytest.fixture
def running(tmp_path, trainer):
    """The folder of a run that has not ended."""
    run = tmp_path / "run"
    report_cases.write_tables(run, 1.0)
    report_cases.write_record(run, "0.1", identity.RUNNING)
    return run


def watch(run, monkeypatch, *events):
    """Watch a run, with `events` while it waits; what the page held before each, and at last."""
    pages, out, left = [], run / "report.html", iter(events)

    def sleep(seconds):
        pages.append(embedded(out.read_text()))
        next(left)()

    monkeypatch.setattr(report.time, "sleep", sleep)
    report.watch(report_cases.engine(), [str(run)], str(out))
    return [*pages, embedded(out.read_text())]


def add_row(run):
    with open(run / "metrics.csv", "a") as file:
        file.write("20,train,loss,0.125\n")


def test_a_watched_report_is_written_again_until_the_run_ends(running, monkeypatch):
    ends = lambda: report_cases.write_record(running, "0.1", identity.FINISHED)  # noqa: E731
    begun, grown, last = watch(running, monkeypatch, lambda: add_row(running), ends)
    assert begun["reload_s"] == grown["reload_s"] == page.RELOAD_S and last["reload_s"] is None
    assert begun["runs"][0]["curves"]["train"]["loss"][-1] != [20, 0.125]
    assert grown["runs"][0]["curves"]["train"]["loss"][-1] == [20, 0.125]
    assert grown["runs"][0]["overview"]["state"] == "running"
    assert last["runs"][0]["overview"]["state"] == "finished"


def test_a_run_that_is_killed_is_watched_no_more(running, trainer, monkeypatch, capsys):
    def kill():
        trainer.kill()
        trainer.wait()

    begun, last = watch(running, monkeypatch, kill)
    states = [found["runs"][0]["overview"]["state"] for found in (begun, last)]
    assert states == ["running", "ended without finishing"] and last["reload_s"] is None
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "ended" in line]
    assert line.startswith(f"{running}: ended without finishing; the command that began it goes on")


def test_a_report_that_is_watched_no_more_does_not_reload(running, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(running, monkeypatch, interrupt)
    assert embedded((running / "report.html").read_text())["reload_s"] is None
    report_cases.write_record(running, "0.1", identity.FINISHED)
    (last,) = watch(running, monkeypatch)
    assert last["reload_s"] is None


def test_a_folder_without_a_run_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["relay report", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert re.search(
        r"report: .*metrics\.csv: no such file; expected the folder of a run", str(ended.value)
    )
