"""The papers' figures: the numbers behind them, what is written on them, and what they refuse."""

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import caffe
import figure_texts
from caffe.proto import caffe_pb2
from caffe_plain.database import new_database
from relaybp import engines, style
from relaybp.colours import BLUE, GREY, METHODS, tint
from relaybp.commands import reproduce as command
from relaybp.commands import train
from relaybp.errors import RelayError
from relaybp.evaluation import measures, validation_set
from relaybp.evaluation.results import Result
from relaybp.figures import (
    class_figure,
    example_figures,
    flow_figure,
    gradient_figure,
    ratio_figure,
)
from relaybp.figures.produce import COMPARED, FIGURES, write
from relaybp.reproduce.cells import Measured
from relaybp.reproduce.data import DRAWN_TITLE, DataSet
from relaybp.reproduce.produce import TABLES
from relaybp.reproduce.runs import Options
from relaybp.reproduce.scales import SCALES
from relaybp.supervision import Block, Ratio
from scene_cases import picture, raw, write_lmdb
from test_reproduce import ROOT, script

SCRIPTS = sorted((ROOT / "tools" / "figures").glob("*.sh"))
LONG = "a name that does not fit, whatever one does"


@pytest.fixture(autouse=True)
def styled():
    with style.styled():
        yield


def csv_rows(path):
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


# ---- what is asked for ---------------------------------------------------------------------------


def test_each_figure_has_a_script_of_its_name():
    assert [path.stem for path in SCRIPTS] == sorted(FIGURES)
    for path in SCRIPTS:
        words = path.read_text().splitlines()[-1].split()
        assert words[-3:] == ["figure", path.stem, '"$@"']


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "name, table",
    [
        ("figure1", "table1"),
        ("figure3", "table5"),
        ("figure4", "table5"),
        ("figure5", "table5"),
        ("auxnet_ratio", "auxnet_methods"),
    ],
)
def test_figures_show_the_runs_of_the_tables(name, table, scale):
    of_tables = {*TABLES[table](scale).trainings(), *TABLES["table4"](scale).trainings()}
    asked = COMPARED[name](scale).trainings()
    assert asked and of_tables.issuperset(asked)


def test_figure1_shows_vgg22_and_its_run_is_probed():
    (training,) = COMPARED["figure1"]("paper").trainings()
    assert (training.model, training.data) == ("vgg22", "places2")
    args = train.arguments(["--model", "vgg22", *training.words])
    assert train.probe_interval(args.probe, 800_000) == 160_000


@pytest.mark.parametrize("flag, interval", [("500", 500), ("20%", 2), ("1%", 1)])
def test_a_probe_every_so_many_iterations_or_so_much_of_the_schedule(flag, interval):
    assert train.probe_interval(flag, 14) == interval


@pytest.mark.parametrize("flag", ["0", "0%", "-1", "often", "2.5"])
def test_another_probe_is_refused(flag, capsys):
    with pytest.raises(SystemExit):
        train.arguments(["--model", "vgg22", f"--probe={flag}"])
    assert f"--probe {flag}: expected a number of iterations" in capsys.readouterr().err


def options(*words, **environment):
    return command.parser("figure", "", COMPARED, environment).parse_args(words)


@pytest.mark.parametrize(
    "name, needed",
    [
        ("figure2", "No data, and nothing is trained."),
        ("figure3", "SCALE=paper: PLACES2=; for each seed 6 trainings (model_a"),
        ("auxnet_ratio", "SCALE=cifar: CIFAR10=; for each seed 3 trainings (auxnet-20-3,"),
    ],
)
def test_help_says_what_a_figure_needs(name, needed, capsys):
    with pytest.raises(SystemExit):
        options(name, "--help")
    assert needed in " ".join(capsys.readouterr().out.split())


def test_a_dry_run_trains_nothing(tmp_path, capsys):
    args = options("auxnet_ratio", "--dry-run", "--out", str(tmp_path / "out"))
    command.plan(args, COMPARED, {})
    assert "drawn-auxnet-20-3_relay-joint-seed1: to train" in capsys.readouterr().out
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize("name, seeds", [("figure1", (1, 2)), ("figure4", (1,))])
def test_images_are_of_one_seed(name, seeds, tmp_path):
    args = options(name, "--seeds", "1 2", "--out", str(tmp_path))
    assert command.plan(args, COMPARED, {}).options.seeds == seeds


def test_wrong_data_is_an_error_before_anything_is_made(tmp_path):
    printed = figure_script("figure3", tmp_path, expect=1, CIFAR10="none")
    assert "figure figure3: CIFAR10=" in printed and "no such folder" in printed
    assert "Traceback" not in printed and not list(tmp_path.iterdir())
    with pytest.raises(RelayError, match="SVHN= names data that is not used here"):
        command.plan(options("figure3"), COMPARED, {"SVHN": str(tmp_path)})


def figure_script(name, folder, *words, **how):
    return script(f"../figures/{name}", folder, *words, **how)


# ---- tested runs that are made up ----------------------------------------------------------------


class MadeUp:
    """A result with random scores of 8 classes, which `good` of the images' own class exceed."""

    guesses = Result.guesses

    def __init__(self, seed, images=48, good=0.5, source=""):
        random = np.random.RandomState(seed)
        self.labels = np.arange(images) % 8
        scores = random.rand(images, 8)
        scores[np.arange(images), self.labels] += random.rand(images) < good
        self.scores = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
        self.arrays = {"ranks": measures.ranks(self.scores, self.labels)}
        self.names = ["%08d_%d.jpg" % (index, index) for index in range(images)]
        self.images, self.data = images, {"source": source}

    def class_errors(self, k=5):
        return measures.class_errors(self.arrays["ranks"], self.labels, 8, k)

    def class_name(self, label):
        return LONG if label == 3 else f"class {label}"

    def error(self, label):
        """By counting: in % of the images of a class, five others score as high or higher."""
        wrong = [
            sum(score >= scores[label] for score in scores) - 1 >= 5
            for scores, own in zip(self.scores.tolist(), self.labels, strict=True)
            if own == label
        ]
        return 100 * sum(wrong) / len(wrong)


def produced(name, results, tmp_path=".", seeds=(1,), engine=None):
    """A Production of made-up results: {row label: a result for each seed}."""
    table = COMPARED[name]("smoke")
    labels = {row.test: row.label for block in table.blocks for row in block.rows}
    return SimpleNamespace(
        name=name,
        table=table,
        options=Options("smoke", seeds, None, str(tmp_path)),
        data={"drawn": DataSet("", DRAWN_TITLE, 240)},
        measure=lambda test: Measured(tuple(results[labels[test]])),
        engine=engine,
        runs={("a", 1): "run"},
    )


def test_errors_by_class(tmp_path):
    results = {
        "standard BP": [MadeUp(1, good=0.2), MadeUp(2, good=0.2)],
        "Relay BP": [MadeUp(3), MadeUp(4)],
        "ensemble of these five": [MadeUp(5, good=0.7), MadeUp(6, good=0.7)],
    }
    production = produced("figure3", results, tmp_path, seeds=(1, 2))
    drawn = class_figure.draw(production)
    columns = dict(zip(drawn.header, zip(*drawn.rows, strict=True), strict=True))
    labels = ("standard BP", "Relay BP", "ensemble")
    for label, tested in zip(labels, results.values(), strict=True):
        expected = [np.mean([each.error(label) for each in tested]) for label in range(8)]
        assert columns[label] == pytest.approx(expected)
    assert columns["images"] == (6,) * 8 and columns["is an example"] == (1,) * 8
    left, right = drawn.figure.axes
    (line,) = right.lines
    assert list(line.get_ydata()) == sorted(columns["ensemble"])
    names = [label.get_text() for label in left.get_yticklabels()]
    widths = {
        container.get_label(): [bar.get_width() for bar in container]
        for container in left.containers
    }
    helped = np.subtract(widths["standard BP"], widths["Relay BP"])
    assert list(helped) == sorted(helped, reverse=True)
    for bar in left.containers[1]:
        assert bar.get_facecolor()[:3] == pytest.approx(tint(METHODS["Relay BP"], 1))
    assert left.get_xlabel() == right.get_ylabel() == "top-5 error, %"
    assert names.count("a name that does…") == 1
    figure_texts.check(drawn.figure)
    assert "Data: drawn scenes, nothing that a paper reports." in drawn.caption


def test_of_many_classes_examples_are_spread_over_the_improvement():
    standard = dict.fromkeys(range(401), 10.0)
    relay = {label: 10.0 - label for label in range(401)}
    shown = class_figure.examples(standard, relay)
    assert len(shown) == 10 and shown[0] == 400 and shown[-1] == 0
    assert set(np.diff(shown)) <= {-44, -45}


@pytest.mark.parametrize("name", ["figure4", "figure5"])
def test_images_with_their_guesses(tmp_path, name):
    source = write_lmdb(tmp_path / "lmdb", [raw(caffe_pb2, picture(k), k % 8) for k in range(48)])
    tested = MadeUp(7, source=source)
    engine = SimpleNamespace(caffe=caffe)
    production = produced(name, {"ensemble of these five": [tested]}, tmp_path, engine=engine)
    drawn = FIGURES[name].draw(production)
    by_image = {}
    for image, label, _, place, guess, _, score in drawn.rows:
        by_image.setdefault(image, []).append((guess, score))
        assert place == len(by_image[image]) and int(image.split("_")[0]) % 8 == label
    assert len(by_image) == 8
    for image, guesses in by_image.items():
        index = int(image.split("_")[0])
        scores = tested.scores[index].tolist()
        best = sorted(range(8), key=lambda label: -scores[label])[:5]
        assert guesses == [(label, scores[label]) for label in best]
        assert (index % 8 in best) == (name == "figure4")
    pictures, bars = drawn.figure.axes[::2], drawn.figure.axes[1::2]
    for axes, below, (image, guesses) in zip(pictures, bars, by_image.items(), strict=True):
        index = int(image.split("_")[0])
        np.testing.assert_array_equal(
            axes.images[0].get_array(), picture(index).transpose(1, 2, 0)[..., ::-1]
        )
        colours = [bar.get_facecolor()[:3] for bar in below.patches]
        right = [tint(BLUE if guess == index % 8 else GREY) for guess, _ in guesses]
        np.testing.assert_allclose(colours, right)
        assert f"{100 * guesses[0][1]:.1f} %" in [text.get_text() for text in below.texts]
    figure_texts.check(drawn.figure)


def test_where_all_images_are_right_there_is_no_figure_of_wrong_ones():
    tested = MadeUp(8, good=1)
    with pytest.raises(RelayError, match="of the 48 images tested none is classified wrongly"):
        example_figures.draw_wrong(produced("figure5", {"ensemble of these five": [tested]}))


def test_pictures_are_found_by_name_in_rgb(tmp_path):
    source = write_lmdb(tmp_path / "a", [raw(caffe_pb2, picture(k), k) for k in range(4)])
    every = list(validation_set.read(caffe, source))
    shown = validation_set.pictures(caffe, source, [every[2].name, every[0].name])
    for found, bgr in zip(shown, (picture(2), picture(0)), strict=True):
        np.testing.assert_array_equal(found, bgr[::-1].transpose(1, 2, 0))
    with pytest.raises(RelayError, match="no record '00000001_2.jpg'; the database has changed"):
        validation_set.pictures(caffe, source, ["00000001_2.jpg"])


def test_pictures_of_a_database_that_stores_rgb(tmp_path):
    """As Caffe's convert_cifar_data leaves it, without a word; another tool's size is BGR."""
    rgb = np.zeros((3, 32, 32), np.uint8)
    rgb[0] = 200
    gray = picture(0)[:1]
    with new_database(tmp_path / "cifar") as put:
        put(b"00000", raw(caffe_pb2, rgb, 0))
        put(b"00001", raw(caffe_pb2, gray, 0))
    colour, repeated = validation_set.pictures(caffe, str(tmp_path / "cifar"), ["00000", "00001"])
    np.testing.assert_array_equal(colour, rgb.transpose(1, 2, 0))
    np.testing.assert_array_equal(repeated, np.repeat(gray.transpose(1, 2, 0), 3, axis=2))
    with new_database(tmp_path / "own") as put:
        put(b"00000", raw(caffe_pb2, rgb[:, 1:], 0))
    (blue,) = validation_set.pictures(caffe, str(tmp_path / "own"), ["00000"])
    np.testing.assert_array_equal(blue, rgb[::-1, 1:].transpose(1, 2, 0))


# ---- figures of nets -----------------------------------------------------------------------------


def test_vgg19_beside_standard_bp():
    drawn = flow_figure.draw(SimpleNamespace(engine=engines.of(caffe)))
    assert drawn.rows == [
        ("standard BP", "loss", 1.0, "conv1_1", "fc8", 19),
        ("Relay BP", "loss", 1.0, "conv4_1", "fc8", 11),
        ("Relay BP", "aux2_loss", pytest.approx(0.3), "conv3_1", "conv4_4", 8),
        ("Relay BP", "aux1_loss", pytest.approx(0.3), "conv1_1", "conv3_4", 8),
    ]
    assert drawn.figure.get_size_inches()[0] == pytest.approx(style.PAGE)
    figure_texts.check(drawn.figure)


def test_the_supervision_ratio_of_three_ways(monkeypatch):
    def ratios(engine, folder):
        """Of blocks 1 to 4, of which the last is smaller, times the number in the folder's name."""
        return [
            Ratio(
                Block(f"res{k}", k, "", (16 << (k > 3),), 2 * k + 1),
                "loss" if k > 2 else "aux5_loss",
                int(folder) * k,
            )
            for k in (1, 2, 3, 4)
        ]

    engine = SimpleNamespace(use_device=lambda gpu: None)
    production = produced("auxnet_ratio", {}, engine=engine)
    production.runs = {
        (training, 1): SimpleNamespace(folder=folder)
        for training, folder in zip(production.table.trainings(), "123", strict=True)
    }
    monkeypatch.setattr(ratio_figure, "of_run", ratios)
    drawn = ratio_figure.draw(production)
    (axes,) = drawn.figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) and line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in lines] == [[3, 5, 7], [9]] * 3
    assert list(lines[4].get_ydata()) == [3, 6, 9]
    assert [lines[k].get_color() for k in (0, 2, 4)] == [
        METHODS[name] for name in ("standard BP", "joint", "multi-way")
    ]
    outputs = sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":")
    assert outputs == [5, 9]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "layer at which the block ends",
        "supervision ratio",
    )
    assert drawn.rows[-1] == ("multi-way", "res4", 9, "loss", 12)
    figure_texts.check(drawn.figure)


# ---- from end to end -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder in which figure1.sh has drawn its figure."""
    folder = tmp_path_factory.mktemp("figures")
    printed = figure_script("figure1", folder, OUT="out")
    assert "drawn-plain28-seed1: to train" in printed
    return folder / "out"


def test_figure1_from_nothing_to_its_files(out):
    for ending in ("svg", "png"):
        assert (out / f"figure1.{ending}").stat().st_size > 10_000
    caption = (out / "figure1.md").read_text()
    assert "Network: plain28. Data: drawn scenes, nothing that" in caption
    probed = csv_rows(out / "runs" / "drawn-plain28-seed1" / "probe.csv")
    rows = csv_rows(out / "figure1.csv")
    assert {row["iteration"] for row in rows} == {"0", "1", "2"}
    assert len({row["layer"] for row in rows}) == 28
    for row in rows:
        for quantity in ("gradient", "relative"):
            (value,) = (
                each["value"]
                for each in probed
                if (each["iteration"], each["layer"]) == (row["iteration"], row["layer"])
                and (each["quantity"], each["flow"]) == (quantity, "all")
            )
            assert float(row[quantity]) == float(value)


def planned(out, name):
    return command.plan(options(name, "--out", str(out), "--gpu", "none"), COMPARED, {})


def test_what_is_written_on_figure1(out):
    production = planned(out, "figure1")
    drawn = gradient_figure.draw(production)
    left, right = drawn.figure.axes
    assert left.get_ylabel() == "mean |gradient|"
    assert right.get_ylabel() == "mean |gradient| / mean |weight|"
    assert left.get_yscale() == right.get_yscale() == "log"
    assert [label.get_text() for label in left.get_xticklabels()][:2] == ["conv1_1", "conv1_2"]
    figure_texts.check(drawn.figure)
    before = (out / "figure1.png").read_bytes()
    write(production)
    assert (out / "figure1.png").read_bytes() == before
    (folder,) = (run.folder for run in production.runs.values())
    Path(folder, "probe.csv").unlink()
    with pytest.raises(RelayError, match=r"no probe\.csv there, .* move the folder away"):
        gradient_figure.draw(production)


@pytest.mark.heavy
def test_every_script_draws_its_figure_of_drawn_scenes(tmp_path):
    for path in SCRIPTS:
        figure_script(path.stem, tmp_path, OUT="smoke")
        for ending in ("svg", "png", "csv", "md"):
            assert (tmp_path / "smoke" / f"{path.stem}.{ending}").stat().st_size
    for name in sorted(FIGURES):
        figure_texts.check(FIGURES[name].draw(planned(tmp_path / "smoke", name)).figure)
    rows = csv_rows(tmp_path / "smoke" / "auxnet_ratio.csv")
    ends = [row for row in rows if row["layer"] == "43"]
    assert [float(row["ratio"]) for row in ends] == [1, 1, 1]
    by_way = {row["layer"]: row for row in rows if row["method"] == "multi-way"}
    assert float(by_way["27"]["ratio"]) == float(by_way["35"]["ratio"]) == 1
    assert [by_way[layer]["loss"] for layer in ("27", "29", "37")] == [
        "aux27_loss",
        "aux35_loss",
        "loss",
    ]
