"""The papers' tables: what they ask for, what they refuse, and the numbers that they print."""

import csv
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from relaybp import models, relay_file
from relaybp.commands import reproduce as command
from relaybp.commands import train
from relaybp.errors import RelayError
from relaybp.evaluation.protocol import Protocol
from relaybp.layers import scene_message
from relaybp.reproduce import data, reported, runs, scales
from relaybp.reproduce.layer_list import layer_list
from relaybp.reproduce.produce import TABLES, Production, without_reported
from relaybp.reproduce.relay_tables import CLASS_AWARE
from relaybp.reproduce.runs import Options, Runs
from relaybp.reproduce.spec import Key, Training
from relaybp.run_plan import make_plan
from test_train import ROOT, write_database

SCRIPTS = sorted((ROOT / "tools" / "tables").glob("*.sh"))
POSSIBLE = [*itertools.product(TABLES, scales.SCALES)]

# ---- what is asked for ---------------------------------------------------------------------------


def test_each_table_has_a_script_of_its_name():
    assert [path.stem for path in SCRIPTS] == sorted(TABLES)
    for path in SCRIPTS:
        assert path.read_text().splitlines()[-1].split()[-2:] == [path.stem, '"$@"']


@pytest.mark.parametrize("name, scale", POSSIBLE)
def test_every_table_asks_for_models_protocols_and_reported_lines_that_exist(name, scale):
    table = TABLES[name](scale)
    for training in table.trainings():
        folder, method = models.find(training.model)
        assert method == "RELAY" or not training.relay
        assert training.data == "drawn" if scale == "smoke" else data.kind_of(training.data)
    for test in table.tests():
        for training, protocol in test.members:
            Protocol.parse(protocol, loss=test.loss)
            net = (Path(models.find(training.model)[0]) / "train_val.prototxt").read_text()
            assert f'name: "{test.loss or "loss"}"' in net
    for block in table.blocks:
        labels = [row.label for row in block.rows]
        assert len(set(labels)) == len(labels)
        assert {row.over for row in block.rows} <= {"", *labels}
        for row in block.rows:
            assert row.reported is None or reported.find(row.reported).errors


@pytest.mark.parametrize("scale", scales.SCALES)
def test_table_3_compares_three_methods_on_two_models(scale):
    methods = [
        [member.model for row in block.rows for member, _ in row.test.members]
        for block in TABLES["table3"](scale).blocks
    ]
    assert all(
        names == [names[0], f"{names[0]}_multiloss", f"{names[0]}_relay"] for names in methods
    )
    assert len(methods) == 2
    papers = ["model_a", "model_b"]
    assert ([names[0] for names in methods] == papers) == (scale == "paper")


def test_table_2_lists_the_papers_layers_with_their_flows():
    a, b = (layer_list(caffe_pb2, *network) for network in TABLES["table2"]("paper").listed)
    assert a.rows() == [
        ["224", "aux", "[conv 3x3, 64] x 2, maxpool 2x2/2"],
        ["112", "aux", "[conv 3x3, 128] x 2, maxpool 2x2/2"],
        ["56", "aux", "[conv 3x3, 256] x 5, maxpool 2x2/2"],
        ["28", "aux + primary", "[conv 3x3, 512] x 5, maxpool 2x2/2"],
        ["14", "primary", "[conv 3x3, 256] x 5, spp {7, 3, 2, 1}"],
        ["", "primary", "[fc 4096] x 2, fc 401"],
    ]
    assert b.rows() == [
        ["224", "aux", "conv 7x7, 128 /2"],
        ["112", "aux", "maxpool 2x2/2"],
        ["56", "aux", "[modified inception, k = 64] x 4, maxpool 2x2/2"],
        ["28", "aux + primary", "[modified inception, k = 128] x 4, maxpool 2x2/2"],
        ["14", "primary", "[modified inception, k = 128] x 4, spp {7, 3, 2, 1}"],
        ["", "primary", "[fc 4096] x 2, fc 401"],
    ]


def test_the_ensemble_of_table_5_has_five_architectures_and_several_inputs():
    for scale in scales.SCALES:
        members = TABLES["table5"](scale).blocks[0].rows[-1].test.members
        assert len({training.model for training, _ in members}) == 5
    assert (
        len({protocol for _, protocol in TABLES["table5"]("paper").blocks[0].rows[-1].test.members})
        > 3
    )


def test_the_numbers_are_those_of_the_papers():
    def find(*key):
        return reported.find(Key(*key)).errors

    assert find("3", "Model A", "Relay BP", "Places2 challenge", "val", "single crop") == {
        1: 49.75,
        5: 17.83,
    }
    five = "5", "WM (model ensemble)", "Relay BP", "Places2 challenge", "val", "ensemble of 5"
    assert find(*five) == {5: 15.74}
    assert reported.find(None).errors == {}
    with pytest.raises(RelayError, match="no line of"):
        find("7", "x", "", "", "", "")


FACTS = ROOT.parent / "shared" / "design" / "reported.tsv"


@pytest.mark.skipif(not FACTS.exists(), reason="the facts lie beside the developers' checkout")
def test_reported_values_are_the_collected_facts():
    def rows(path):
        return [line for line in path.read_text().splitlines() if not line.startswith("#")]

    assert rows(Path(reported.__file__).with_name("reported.tsv")) == rows(FACTS)


def test_rows_that_only_report_are_left_out_where_nothing_reported_is_shown():
    table = TABLES["table6"]("smoke")
    for block in without_reported(table).blocks:
        assert [row.label for row in block.rows] == ["standard BP (re-implemented)", "Relay BP"]
    assert len(without_reported(TABLES["table5"]("smoke")).blocks) == 1


# ---- data ----------------------------------------------------------------------------------------


def small_set(folder, classes=10, train=20, val=10, size=32):
    folder.mkdir(parents=True)
    write_database(folder / "train_lmdb", train, 1, size)
    write_database(folder / "val_lmdb", val, 2, size)
    (folder / "mean.binaryproto").write_bytes(
        caffe_pb2.BlobProto(
            shape={"dim": [1, 3, size, size]}, data=[100] * 3 * size**2
        ).SerializeToString()
    )
    (folder / "classes.txt").write_text("".join(f"class {k}\n" for k in range(classes)))
    return folder


def test_a_data_set_is_named_by_what_it_really_is(tmp_path, monkeypatch):
    small_set(tmp_path / "cifar")
    monkeypatch.chdir(tmp_path)
    found = data.find(["cifar10", "cifar100"], {"CIFAR10": "cifar"}, "out")
    assert list(found) == ["cifar10"] and found["cifar10"].path == str(tmp_path / "cifar")
    assert found["cifar10"].title == (
        "CIFAR-10 (20 training images instead of 50,000, 10 test images instead of 10,000)"
    )


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: folder.rename(folder.parent / "gone"), r"CIFAR10=.*/set: no such folder"),
        (lambda folder: (folder / "classes.txt").unlink(), r"no classes\.txt there"),
        (lambda folder: (folder / "mean.binaryproto").unlink(), r"no mean\.binaryproto there"),
        (
            lambda folder: (folder / "classes.txt").write_text("a\nb\n"),
            r"2 classes in classes\.txt; CIFAR-10 has 10",
        ),
        (
            lambda folder: (folder / "val_lmdb" / "data.mdb").unlink(),
            r"val_lmdb: no LMDB or LevelDB",
        ),
    ],
)
def test_missing_and_wrong_data_is_an_error(tmp_path, spoil, message):
    folder = small_set(tmp_path / "set")
    spoil(folder)
    with pytest.raises(CaffeError) as error:
        data.find(["cifar10"], {"CIFAR10": str(folder)}, "out")
    assert re.search(message, str(error.value))


def test_photos_are_no_cifar(tmp_path):
    folder = small_set(tmp_path / "set", size=48)
    message = (
        r"train_lmdb are 3x48x48, expected 3x32x32; see CIFAR in data_prep/README\.md \(--lmdb"
    )
    with pytest.raises(RelayError, match=message):
        data.find(["cifar10"], {"CIFAR10": str(folder)}, "out")


def test_without_data_there_is_nothing_to_train_on():
    with pytest.raises(RelayError, match="no data: name it with CIFAR10= and CIFAR100="):
        data.find(["cifar10", "cifar100"], {"CIFAR10": ""}, "out")


@pytest.mark.parametrize(
    "table, environment, scale",
    [
        ("table3", {}, "smoke"),
        ("table3", {"CIFAR10": "x"}, "cifar"),
        ("table3", {"PLACES2": "x", "CIFAR10": "x"}, "paper"),
        ("table1", {"PLACES2": "x"}, "paper"),
        ("auxnet_cifar100", {"CIFAR100": "x"}, "paper"),
        ("sampling", {"PLACES2": "x"}, "paper"),
        ("sampling", {"CIFAR10": "x"}, "cifar"),
    ],
)
def test_the_scale_follows_from_the_data(table, environment, scale):
    assert command.choose_scale(TABLES[table], environment) == scale


@pytest.mark.parametrize(
    "table, variable", [("table3", "IMAGENET"), ("auxnet_methods", "CIFAR100"), ("table6", "SVHN")]
)
def test_data_that_a_table_does_not_use_is_no_reason_to_draw_scenes(table, variable):
    with pytest.raises(RelayError, match=f"{variable}= names data that is not used here"):
        command.choose_scale(TABLES[table], {variable: "x"})


def test_long_tailed_sets_are_made_of_cifar_once_for_each_whole_set(tmp_path):
    """Ten classes, three of them with images, 134, 133 and 133: 50 ** (-k / 9) of class k stay."""
    folder = small_set(tmp_path / "cifar", train=400)
    for _ in range(2):
        found = data.find(["cifar10-tail50"], {"CIFAR10": str(folder)}, str(tmp_path / "out"))
        kept = found["cifar10-tail50"]
        assert kept.train == 134 + 86 + 56
        assert f"long-tailed 50 to 1 ({kept.train} training images)" in kept.title
    assert len(list((tmp_path / "out").iterdir())) == 1
    other = small_set(tmp_path / "other", train=400)  # with the same keys, as CIFAR's always are
    for sets, (name, records) in enumerate((("train_lmdb", 400), ("val_lmdb", 10)), 2):
        shutil.rmtree(other / name)
        write_database(other / name, records, 3, 32)
        data.find(["cifar10-tail50"], {"CIFAR10": str(other)}, str(tmp_path / "out"))
        assert len(list((tmp_path / "out").iterdir())) == sets


@pytest.mark.parametrize(
    "words, message",
    [
        (["--scale", "big"], "SCALE=big: expected one of paper, cifar, smoke"),
        (["--seeds", "1 1"], "different whole numbers"),
        (["--seeds", "1 01"], "different whole numbers"),
        (["--seeds", "1²"], "different whole numbers"),
        (["--seeds", "one"], "different whole numbers"),
        (["--epochs", "0"], "EPOCHS=0: expected a number above 0"),
        (["--epochs", "nan"], "EPOCHS=nan: expected a number above 0"),
        (["--gpu", "0,1"], "GPU=0,1: expected one"),
        (["--precision", "int8"], "PRECISION=int8: expected one of fp32, tf32, bf16"),
    ],
)
def test_options_are_checked(words, message):
    args = command.parser("reproduce", "", TABLES, {"SCALE": "smoke"}).parse_args(
        ["table3", *words]
    )
    with pytest.raises(RelayError, match=message):
        command.options_of(args)


def test_variables_stand_in_for_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"SCALE": "cifar", "SEEDS": "1 2 3", "EPOCHS": "2", "OUT": "mine", "GPU": "none"}
    environment |= {"PRECISION": "bf16", "ONLY": "*_relay"}
    args = command.parser("reproduce", "", TABLES, environment).parse_args(["table3"])
    assert command.options_of(args) == Options(
        "cifar", (1, 2, 3), 2.0, str(tmp_path / "mine"), "none", "bf16", "*_relay"
    )


# ---- runs ----------------------------------------------------------------------------------------


def cifar_runs(tmp_path, epochs=None, train=256, precision="fp32"):
    folder = small_set(tmp_path / "cifar", train=train)
    options = Options("cifar", (1,), epochs, str(tmp_path / "out"), "none", precision)
    engine = SimpleNamespace(pb=caffe_pb2)
    return Runs(engine, options, data.find(["cifar10"], {"CIFAR10": str(folder)}, "out"))


def plan_of(run):
    return make_plan(caffe_pb2, train.arguments(run.words), draws=False)


@pytest.mark.parametrize(
    "data_set, words, shuffle, class_aware",
    [("cifar10", (), True, False), ("cifar10-tail50", CLASS_AWARE, False, True)],
)
def test_networks_for_cifar_train_on_shifted_crops(tmp_path, data_set, words, shuffle, class_aware):
    """Padded by 4 pixels, a random 32 x 32 crop: He et al. (2016), which AuxNet follows."""
    runs = cifar_runs(tmp_path)
    runs.data[data_set] = runs.data["cifar10"]
    (layer, *_) = plan_of(runs.plan(Training("resnet20", data_set, "", words), 1)).net.layer
    fed = scene_message.parse_options(layer.python_param.param_str)
    assert (fed.pad, fed.crop_size, fed.mirror) == (4, 32, True)
    assert (fed.shuffle, fed.class_aware) == (shuffle, class_aware)


def test_epochs_shorten_a_schedule_proportionally(tmp_path):
    """256 images in batches of 128 are 2 iterations an epoch; the steps are at 1/2 and 3/4."""
    run = cifar_runs(tmp_path, epochs=32).plan(Training("resnet20", "cifar10"), 1)
    solver = plan_of(run).solver
    assert (solver.max_iter, list(solver.stepvalue)) == (64, [32, 48])
    assert (solver.test_interval, solver.snapshot, solver.random_seed) == (64, 64, 1)
    assert (run.iterations, run.images) == (64, 64 * 128)
    assert run.folder.endswith("cifar10-resnet20-32epochs-seed1")


def test_without_epochs_the_models_own_schedule_runs(tmp_path):
    run = cifar_runs(tmp_path).plan(Training("resnet20", "cifar10"), 7)
    assert (run.iterations, run.state) == (64000, runs.NEW)
    assert run.identity["seed"] == 7 and run.folder.endswith("cifar10-resnet20-seed7")


def test_a_precision_is_part_of_the_identity_and_of_the_folder(tmp_path):
    training = Training("resnet20", "cifar10")
    plain, half = (
        cifar_runs(tmp_path / name, precision=name).plan(training, 1) for name in ("fp32", "bf16")
    )
    assert os.path.basename(plain.folder) == "cifar10-resnet20-seed1"
    assert os.path.basename(half.folder) == "cifar10-resnet20-bf16-seed1"
    found = [run.identity["settings"]["precision"] for run in (plain, half)]
    assert (
        found == ["fp32", "bf16"] == [train.arguments(run.words).precision for run in (plain, half)]
    )


def test_ways_of_training_differ_in_the_relay_file_alone(tmp_path):
    maker = cifar_runs(tmp_path)
    table = TABLES["auxnet_methods"]("cifar")
    found = {training: plan_of(maker.plan(training, 1)) for training in table.trainings()}
    standard, joint, normalised, pair_wise, multi_way = found.values()
    assert "standard" in standard.solver.train_state.stage
    words = [relay_file.schedule_name(plan.relay) for plan in list(found.values())[1:]]
    assert words == ["JOINT", "JOINT", "PAIR_WISE", "MULTI_WAY"]
    assert normalised.relay.step.normalize and not joint.relay.step.normalize
    assert pair_wise.relay.step == multi_way.relay.step
    assert len({str(plan.net) for plan in found.values()}) == 1
    for plan in (joint, normalised, pair_wise, multi_way):
        assert plan.relay.flow == multi_way.relay.flow
        assert plan.relay.weight_law == multi_way.relay.weight_law


def test_gamma_changes_nothing_else(tmp_path):
    maker = cifar_runs(tmp_path)
    plans = [plan_of(maker.plan(one, 1)) for one in TABLES["auxnet_gamma"]("cifar").trainings()]
    assert [plan.relay.weight_law.gamma for plan in plans] == [0, 0.5, 1, 2, 4]
    for plan in plans:
        plan.relay.weight_law.gamma = 2
        assert plan.relay == plans[3].relay


def test_a_training_that_does_not_end_well_gives_no_number(tmp_path, monkeypatch):
    maker = cifar_runs(tmp_path)
    run = maker.plan(Training("resnet20", "cifar10"), 1)
    monkeypatch.setattr(runs, "run_together", lambda command: 130)
    with pytest.raises(RelayError, match="ended before it began, with status 130"):
        maker.train(run)
    monkeypatch.setattr(runs, "run_together", lambda command: 0)
    with pytest.raises(RelayError, match="ended before it began"):
        maker.train(run)


CHILD = """
import signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
print("ready", flush=True)
end = time.monotonic() + 30
while not got and time.monotonic() < end: time.sleep(0.02)
time.sleep(0.3)
sys.exit(100 + len(got))
"""


def test_a_signal_reaches_the_training_once_and_its_status_comes_back(tmp_path):
    code = (
        "import sys; from relaybp.reproduce import runs\n"
        f"sys.exit(runs.run_together([sys.executable, '-c', {CHILD!r}]))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=60) == 101
    process.stdout.close()


# ---- from end to end -----------------------------------------------------------------------------


def script(name, folder, *words, expect=0, **environment):
    """What a script prints that is called from `folder`, which is no checkout."""
    kept = {key: value for key, value in os.environ.items() if key not in data.VARIABLES}
    kept |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "GPU": "none"}
    done = subprocess.run(
        ["bash", str(ROOT / "tools" / "tables" / f"{name}.sh"), *words],
        cwd=folder,
        env={
            **kept,
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "GPU": "none",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def csv_rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_table_from_nothing_to_its_files_and_what_changes_it(tmp_path):
    printed = script("auxnet_selection", tmp_path, OUT="mine")
    title = "AuxNet: model selection. Data: drawn scenes, nothing that a paper reports"
    assert title in printed
    rows = csv_rows(tmp_path / "mine" / "auxnet_selection.csv")
    assert [row["row"] for row in rows] == ["after layer 11", "after layer 15", "the last"]
    for row in rows:
        assert 0 <= float(row["measured"]) <= 100 and row["images"] == "40"
        assert row["runs"] == "drawn-auxnet-20-3_relay-seed1" and row["errors"] == row["measured"]
        assert row["reported"] == ""
    assert title in (tmp_path / "mine" / "auxnet_selection.md").read_text()

    # again: nothing is trained, nothing is tested
    (run,) = (tmp_path / "mine" / "runs").iterdir()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    again = script("auxnet_selection", tmp_path, OUT="mine")
    assert "seed1: finished" in again and again.endswith(printed[printed.index(title) :])
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before

    # another table shows what is finished of it, and trains nothing that was not asked for
    only = {"OUT": "mine", "ONLY": "*-20-3_relay"}
    assert "drawn-auxnet-20-3-seed1: left out" in script("auxnet_methods", tmp_path, **only)
    *others, multi_way = csv_rows(tmp_path / "mine" / "auxnet_methods.csv")
    assert {(row["measured"], row["errors"], row["runs"]) for row in others} == {("", "", "")}
    for column in ("measured", "runs", "identities"):
        assert multi_way[column] == rows[-1][column] != ""
    assert multi_way["improvement"] == ""  # over what was not trained
    none = script("auxnet_methods", tmp_path, expect=1, OUT="mine", ONLY="joint")
    assert "ONLY=joint: none of the trainings, which are" in none
    figure = script("../figures/auxnet_ratio", tmp_path, expect=1, **only)
    assert "drawn-auxnet-20-3_relay-joint-seed1 is not trained" in figure
    assert "Traceback" not in figure

    # a folder that was moved still is the same run
    (tmp_path / "mine").rename(tmp_path / "moved")
    moved = script("auxnet_selection", tmp_path, OUT="moved")
    assert "seed1: finished" in moved and "Snapshot" not in moved
    assert (
        csv_rows(tmp_path / "moved" / "auxnet_selection.csv")[0]["measured"] == rows[0]["measured"]
    )
    (tmp_path / "moved").rename(tmp_path / "mine")

    # another seed or length is another run
    dry = script("auxnet_selection", tmp_path, "--dry-run", OUT="mine", SEEDS="1 2")
    assert "seed1: finished" in dry and "seed2: to train; 3 iterations, 24 images" in dry
    dry = script("auxnet_selection", tmp_path, "--dry-run", OUT="mine", EPOCHS="1")
    assert "1epochs-seed1: to train; 30 iterations, 240 images, about 0:00" in dry

    # an interrupted run goes on, a stranger's is refused
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "interrupted"}))
    dry = script("auxnet_selection", tmp_path, "--dry-run", OUT="mine")
    assert "seed1: goes on from auxnet-20-3_iter_3.solverstate" in dry
    record["identity"]["data"]["train"]["source"]["records"] = 50_000
    (run / "run.json").write_text(json.dumps(record))
    refused = script("auxnet_selection", tmp_path, OUT="mine", expect=1)
    assert "data: 50,000 training records instead of 240" in refused
    assert "Traceback" not in refused and title not in refused


def test_help_says_what_a_table_needs_and_trains_nothing(tmp_path):
    printed = " ".join(script("table3", tmp_path, "--help").split())
    assert (
        "SCALE=paper: PLACES2=; for each seed 6 trainings (model_a, model_a_multiloss," in printed
    )
    assert not list(tmp_path.iterdir())


def test_scenes_that_cannot_be_drawn_are_an_error(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    with pytest.raises(RelayError, match="no data to train on, for the reason above"):
        data.drawn(str(tmp_path / "file" / "scenes"))
    assert "file/scenes: " in capfd.readouterr().err


def test_a_dry_run_leaves_nothing(tmp_path):
    printed = script("table3", tmp_path, "--dry-run")
    assert re.search(r"^  drawn: drawn scenes, nothing that a paper reports$", printed, re.M)
    assert re.search(r"_relay-seed1: to train; \d+ iterations", printed)
    assert not list(tmp_path.iterdir())


def test_wrong_data_is_an_error_before_anything_is_made(tmp_path):
    for environment, message in (
        ({"CIFAR10": "none"}, "CIFAR10=.*/none: no such folder"),
        ({"CIFAR100": "none"}, "CIFAR100= names data that is not used here"),
        ({"SCALE": "paper"}, "no data: name it with PLACES2="),
    ):
        printed = script("table3", tmp_path, expect=1, **environment)
        assert re.search(message, printed) and "Traceback" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
def test_every_script_fills_every_cell_on_drawn_scenes(tmp_path):
    for path in SCRIPTS:
        began = time.monotonic()
        script(path.stem, tmp_path, OUT="smoke")
        print(f"{path.stem}: {time.monotonic() - began:.0f} s")
        for row in csv_rows(tmp_path / "smoke" / f"{path.stem}.csv"):
            if "measured" in row:
                assert row["measured"] and row["images"] == "40", row


def test_the_command_that_repeats_a_cell_is_one_of_that_table(tmp_path, monkeypatch):
    """As it is printed."""
    cifar = str(small_set(tmp_path / "cifar"))
    options = Options("cifar", (3, 4), 0.5, str(tmp_path / "out"), "none", "bf16")
    sets = data.find(["cifar10"], {"CIFAR10": cifar}, "out")
    engine, table = SimpleNamespace(pb=caffe_pb2), TABLES["table3"]("cifar")
    production = Production(engine, "table3", table, options, sets)
    monkeypatch.chdir(ROOT)
    *settings, shell, path = shlex.split(production._command())
    assert shell == "bash" and (ROOT / path).name == "table3.sh" and (ROOT / path).exists()
    monkeypatch.chdir(tmp_path)
    assert shlex.split(production._command()) == [*settings, "relay", "reproduce", "table3"]
    environment = dict(setting.split("=") for setting in settings)
    assert environment["CIFAR10"] == cifar
    parser = command.parser("reproduce", "", TABLES, environment)
    words = ["table3", "--gpu", "none"]
    again = command.plan(parser.parse_args(words), TABLES, environment)
    asked = [run for run in again.runs.values() if again._is_asked_for(run)]
    assert len(asked) == 1 and asked[0].folder in [run.folder for run in production.runs.values()]
