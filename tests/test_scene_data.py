"""The SceneData layer against the Data layer, BVLC Caffe and the definitions of its options."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
import data_cases
from caffe import device
from caffe.proto import caffe_pb2
from relaybp.layers import draws
from relaybp.layers.crops import Cutter
from relaybp.layers.errors import SceneError
from relaybp.layers.scene_message import SceneDataParameter, parse_options
from scene_cases import forwards, label, layer, make_net, picture, raw_lmdb

ROOT = Path(__file__).resolve().parents[1]
WORKERS = "workers: 1 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with raw_lmdb, two means and a colour file."""
    path = tmp_path_factory.mktemp("scenes")
    raw_lmdb(caffe_pb2, path / "raw")
    data_cases.write_mean(caffe_pb2, path / "mean.binaryproto", (3, 12, 14))
    data_cases.write_mean(caffe_pb2, path / "crop_mean.binaryproto", (3, 8, 8))
    np.savetxt(path / "color.txt", COLOR)
    return path


COLOR = np.array([[0.2, 0.6, 0.0, 0.8], [0.1, 0.0, 1.0, 0.0], [0.05, -0.8, 0.0, 0.6]])


@pytest.fixture(autouse=True)
def seed():
    caffe.set_random_seed(3)


def net(folder, options, phase="TRAIN", tops=("data", "label")):
    options = options.replace("FOLDER", str(folder))
    return make_net(caffe, folder, layer(folder / "raw", WORKERS + options, tops), phase)


def assert_equal(found, expected, **tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for top in ours:
            np.testing.assert_allclose(ours[top], theirs[top], **tolerance)


# ---- against the Data layer and BVLC Caffe -------------------------------------------------------


@pytest.mark.parametrize(
    "transform",
    [
        "",
        "crop_size: 7",
        "crop_size: 8 scale: 0.5 mean_value: 104 mean_value: 117 mean_value: 123",
        'mean_file: "FOLDER/mean.binaryproto"',
        'crop_size: 7 mean_file: "FOLDER/mean.binaryproto"',
        "crop_size: 8 mean_value: 120",
    ],
)
def test_the_test_phase_is_the_data_layers(folder, transform):
    transform = transform.replace("FOLDER", str(folder))
    ours = net(folder, "batch_size: 4 " + transform, "TEST")
    text = data_cases.data("raw", transform).replace("FOLDER", str(folder))
    theirs = make_net(caffe, folder, text, "TEST")
    assert_equal(forwards(ours, 9), forwards(theirs, 9), rtol=1e-6, atol=1e-4)


ORACLE = ROOT.parent / "shared" / "oracle" / "run.sh"
EVERYTHING = (
    "batch_size: 6 class_aware: true crop_size: 8 mirror: true seed: 7 scale: 0.5 "
    'mean_file: "mean.binaryproto" color_file: "color.txt"'
)
WITH_BVLC = """
import caffe, sys, numpy as np
from scene_cases import layer, make_net
net = make_net(caffe, ".", layer("raw", "workers: 2 " + sys.argv[1]))
for _ in range(9):
    net.forward()
np.savez("read.npz", position=net.layers[0].position, **{k: b.data for k, b in net.blobs.items()})
"""


@pytest.mark.skipif(
    not ORACLE.exists()
    or subprocess.run(["bash", str(ORACLE), "true"], cwd=ROOT, capture_output=True).returncode != 0,
    reason="needs BVLC Caffe",
)
def test_bvlc_caffe_runs_it_with_the_same_numbers(folder, monkeypatch):
    for source, name in [  # as a wheel lays them out
        ("python/caffe_plain", "caffe_plain"),
        ("relaybp", "relaybp"),
        ("layers", "relaybp/layers"),
        ("tests/scene_cases.py", "scene_cases.py"),
    ]:
        subprocess.run(["cp", "-r", ROOT / source, folder / name], check=True)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    done = subprocess.run(
        ["bash", str(ORACLE), "python3", "-c", WITH_BVLC, EVERYTHING],
        cwd=folder,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    monkeypatch.chdir(folder)
    ours = make_net(caffe, ".", layer("raw", WORKERS + EVERYTHING))
    expected = forwards(ours, 9)[-1]
    with np.load("read.npz") as read:
        assert read["position"] == ours.layers[0].position == 54
        for top in ("data", "label"):
            np.testing.assert_allclose(read[top], expected[top], rtol=1e-6, atol=1e-4)


# ---- the options against their definitions -------------------------------------------------------


def by_definition(folder, mean):
    """{(record, top, left, mirrored): crop of 8 x 8 with the mean image `mean` subtracted}."""
    blob = caffe_pb2.BlobProto.FromString((folder / mean).read_bytes())
    mean = caffe.io.blobproto_to_array(blob)[0]
    crops = {}
    for record in range(30):
        for top in range(5):
            for left in range(7):
                window = np.s_[:, top : top + 8, left : left + 8]
                crop = picture(record)[window] - (mean if mean.shape[1] == 8 else mean[window])
                crops[record, top, left, False] = crop
                crops[record, top, left, True] = crop[:, :, ::-1]
                if mean.shape[1] == 8:  # of the crop's size: subtracted after the mirroring
                    crops[record, top, left, True] = picture(record)[window][:, :, ::-1] - mean
    return crops


@pytest.mark.parametrize("mean", ["mean.binaryproto", "crop_mean.binaryproto"])
def test_crops_and_mirrors_are_uniform_and_cut_with_the_mean(folder, mean):
    known = {
        crop.astype(np.float32).round(2).tobytes(): place
        for place, crop in by_definition(folder, mean).items()
    }
    assert len(known) == 30 * 5 * 7 * 2
    train = net(
        folder, f'seed: 1 batch_size: 30 crop_size: 8 mirror: true mean_file: "FOLDER/{mean}"'
    )
    counts = np.zeros((5, 7, 2))
    for tops in forwards(train, 70):
        for index, crop in enumerate(tops["data"]):
            record, top, left, mirrored = known[crop.round(2).tobytes()]
            assert (record, label(record)) == (index, tops["label"][index])
            counts[top, left, int(mirrored)] += 1
    expected = counts.sum() / counts.size
    # chi-square with 69 degrees of freedom exceeds 111.1 once in a thousand times
    assert ((counts - expected) ** 2 / expected).sum() < 111.1


def test_color_shifts_have_the_covariance_of_their_definition(folder):
    """Along eigenvector p with eigenvalue l, in [0, 1]: standard deviation 0.1 l, times 255."""
    plain = net(folder, "batch_size: 30")
    shifted = net(folder, 'batch_size: 30 color_file: "FOLDER/color.txt"')
    shifts = []
    for ours, theirs in zip(forwards(shifted, 60), forwards(plain, 60), strict=True):
        difference = ours["data"] - theirs["data"]
        assert np.ptp(difference, axis=(2, 3)).max() < 1e-3  # one shift for an image
        shifts.append(difference[:, :, 0, 0])
    along = np.concatenate(shifts) @ COLOR[:, 1:].T / (25.5 * COLOR[:, 0])  # standard normal
    count = len(along)
    assert np.abs(along.mean(axis=0)).max() < 4 / count**0.5
    covariance = along.T @ along / count
    assert np.abs(covariance - np.eye(3)).max() < 4 * (2 / count) ** 0.5
    assert abs((along**4).mean() - 3) < 4 * (96 / along.size) ** 0.5


def test_padding_is_zero_and_its_crops_are_uniform(folder):
    train = net(
        folder,
        "batch_size: 30 pad: 2 crop_size: 12 mirror: true mean_value: 300 "
        'color_file: "FOLDER/color.txt" color_deviation: 0',
    )
    counts = np.zeros((5, 7, 2))
    for tops in forwards(train, 40):
        for record, crop in enumerate(tops["data"]):
            padded = np.pad(picture(record) - 300.0, ((0, 0), (2, 2), (2, 2)))
            found = [
                (top, left, mirrored)
                for top in range(5)
                for left in range(7)
                for mirrored in (0, 1)
                if np.array_equal(
                    padded[:, top : top + 12, left : left + 12][:, :, :: -1 if mirrored else 1],
                    crop,
                )
            ]
            counts[found[0]] += 1
            assert len(found) == 1
    expected = counts.sum() / counts.size
    assert ((counts - expected) ** 2 / expected).sum() < 111.1


def test_padding_with_a_mean_image_of_the_records(folder):
    blob = caffe_pb2.BlobProto.FromString((folder / "mean.binaryproto").read_bytes())
    centered = [picture(k) - caffe.io.blobproto_to_array(blob)[0] for k in range(30)]
    train = net(
        folder,
        'batch_size: 30 pad: 1 crop_size: 12 mirror: true mean_file: "FOLDER/mean.binaryproto"',
    )
    for tops in forwards(train, 5):
        for record, crop in enumerate(tops["data"]):
            padded = np.pad(centered[record], ((0, 0), (1, 1), (1, 1)))
            windows = [
                padded[:, top : top + 12, left : left + 12] for top in range(3) for left in range(5)
            ]
            assert (
                sum(
                    np.allclose(crop, window[:, :, ::step], atol=1e-3)
                    for window in windows
                    for step in (1, -1)
                )
                == 1
            )


def windows(options, height, width, count=4000):
    """(count, 4) windows that random draws choose."""
    parsed = parse_options('source: "x" batch_size: 1 ' + options)
    cutter = Cutter(parsed, True, (parsed.crop_size, parsed.crop_size))
    return np.array(
        [cutter.window(height, width, draw) for draw in draws.uniform(1, np.arange(count), 5)]
    )


def assert_uniform(values, low, high, cells=10):
    counts = np.histogram(values, cells, (low, high))[0]
    expected = len(values) / cells
    assert counts.sum() == len(values)
    assert ((counts - expected) ** 2 / expected).sum() < 33.7  # 9 degrees: once in ten thousand


def test_scale_jitter_draws_the_shorter_side_uniformly():
    found = windows("crop_size: 224 short_side_min: 256 short_side_max: 480", 1000, 1400)
    assert (found[:, 2] == found[:, 3]).all()
    assert_uniform(224 * 1000 / found[:, 2], 256, 480.5)
    assert_uniform(found[:, 0] / (1000 - found[:, 2]), 0, 1.001)
    assert_uniform(found[:, 1] / (1400 - found[:, 3]), 0, 1.001)


def test_areas_and_shapes_are_drawn_uniformly():
    top, left, tall, wide = windows("crop_size: 224 area_min: 0.08 area_max: 0.5", 900, 1000).T
    assert_uniform(tall * wide / 900_000, 0.079, 0.501)
    assert_uniform(np.log(wide / tall) / np.log(4 / 3), -1.004, 1.004)
    assert min(top.min(), left.min()) == 0
    assert (top + tall).max() <= 900
    assert (left + wide).max() <= 1000


def test_a_window_that_does_not_fit_keeps_its_shape():
    _, _, tall, wide = windows("crop_size: 8 area_min: 1 aspect_max: 4", 100, 1000, 500).T
    assert tall.max() == 100
    assert (wide <= 1000).all()
    assert (wide / tall < 4.1).all()
    assert (wide / tall > 0.24).all()


@pytest.mark.parametrize(
    "options", ["short_side_min: 200 short_side_max: 300", "area_min: 0.3 area_max: 0.8", ""]
)
@pytest.mark.parametrize("kind", ["planes", "encoded"])
def test_a_window_is_resized_to_the_crop(options, kind):
    """On a picture that rises from left to right and from top to bottom, a crop must, too."""
    cv2 = pytest.importorskip("cv2")
    parsed = parse_options(f'source: "x" batch_size: 1 crop_size: 100 mirror: true {options}')
    cutter = Cutter(parsed, True, (100, 100))
    y, x = np.mgrid[:240, :250]
    image = np.stack([x, y, x // 2 + y // 2], axis=2).astype(np.uint8)
    for draw in draws.uniform(5, np.arange(20), 5):
        out = np.empty((100, 100, 3), np.uint8)
        if kind == "planes":
            place = cutter.planes(image.transpose(2, 0, 1), draw, out)
        else:
            png = cv2.imencode(".png", image)[1].tobytes()
            place = cutter.encoded(png, True, draw, out)
        top, left, tall, wide = cutter.window(240, 250, draw)
        assert place == (draw[0] < 0.5, top, left)
        across = left + (np.arange(100) + 0.5) * wide / 100 - 0.5
        down = top + (np.arange(100) + 0.5) * tall / 100 - 0.5
        assert np.abs(out[:, :, 0] - across[:: -1 if place[0] else 1]).max() <= 2
        assert np.abs(out[:, :, 1].T - down).max() <= 2


def test_decoding_at_a_reduced_scale_is_nearly_shrinking_by_area():
    cv2 = pytest.importorskip("cv2")
    noise = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(
        cv2.resize(noise, (1000, 800), interpolation=cv2.INTER_CUBIC), (0, 0), 3
    )
    jpeg = cv2.imencode(".jpg", image)[1]
    cutter = Cutter(
        parse_options(
            'source: "x" batch_size: 1 crop_size: 100 area_min: 0.08 reduced_decode: true'
        ),
        True,
        (100, 100),
    )
    used = set()
    for draw in draws.uniform(2, np.arange(30), 5):
        window = cutter.window(800, 1000, draw)
        reduction = max(k for k in (1, 2, 4, 8) if min(window[2:]) >= 100 * k or k == 1)
        used.add(reduction)
        small = cv2.resize(
            cv2.imdecode(jpeg, cv2.IMREAD_COLOR),
            (1000 // reduction, 800 // reduction),
            interpolation=cv2.INTER_AREA,
        )
        top, left, tall, wide = (side // reduction for side in window)
        expected = cv2.resize(small[top : top + tall, left : left + wide], (100, 100))
        found = np.empty((100, 100, 3), np.uint8)
        cutter.encoded(jpeg.tobytes(), True, draw, found)
        assert np.abs(found.astype(int) - expected).mean() < 1.5
    assert used >= {2, 4}


# ---- chance, workers, processes ------------------------------------------------------------------


def test_draws_are_uniform_and_belong_to_their_position():
    numbers = draws.uniform(9, np.arange(20000), 5)
    for column in numbers.T:
        assert_uniform(column, 0, 1)
    correlation = np.corrcoef(np.vstack([numbers[:-1].T, numbers[1:].T]))
    assert np.abs(correlation - np.eye(10)).max() < 4.5 / 20000**0.5
    np.testing.assert_array_equal(draws.uniform(9, [700, 3], 5), numbers[[700, 3]])
    assert (draws.uniform(10, np.arange(9), 5) != numbers[:9]).all()
    normal = draws.normal(9, np.arange(20000), 2)
    for column in normal.T:
        assert_uniform(torch.special.ndtr(torch.tensor(column)).numpy(), 0, 1)


ORDERS = ["class_aware: true", "shuffle: true", ""]
AUGMENTED = 'crop_size: 8 mirror: true color_file: "FOLDER/color.txt" '


@pytest.mark.parametrize("order", ORDERS)
def test_workers_and_batches_do_not_change_what_comes(folder, order):
    def rows(options, count):
        found = forwards(net(folder, f"{options} {order} {AUGMENTED}"), count)
        return {top: np.concatenate([tops[top] for tops in found]) for top in ("data", "label")}

    expected = rows("batch_size: 60", 1)
    assert_equal([rows("batch_size: 20 ahead: 1", 3)], [expected], rtol=1e-6)
    assert_equal([rows("workers: 3 batch_size: 30", 2)], [expected], rtol=1e-6)
    caffe.set_random_seed(4)
    assert not np.array_equal(rows("batch_size: 60", 1)["data"], expected["data"])


def test_a_seed_of_its_own_stands_above_the_engines(folder):
    first = forwards(net(folder, "batch_size: 9 shuffle: true seed: 5"), 1)
    caffe.set_random_seed(4)
    assert_equal(forwards(net(folder, "batch_size: 9 shuffle: true seed: 5"), 1), first)


def test_where_the_database_lies_changes_nothing(folder, tmp_path):
    raw_lmdb(caffe_pb2, tmp_path / "raw")
    raw_lmdb(caffe_pb2, tmp_path / "other")
    options = "batch_size: 30 shuffle: true crop_size: 8"
    here, there, other = (
        forwards(make_net(caffe, tmp_path, layer(source, options)), 1)
        for source in (folder / "raw", f"{tmp_path / 'raw'}/", tmp_path / "other")
    )
    assert_equal(there, here)
    assert not np.array_equal(other[0]["data"], here[0]["data"])


@pytest.mark.parametrize("order", ORDERS)
def test_position_continues_with_the_very_next_draw(folder, order):
    options = f"batch_size: 7 workers: 2 {order} {AUGMENTED}"
    first = net(folder, options)
    forwards(first, 3)
    position = first.layers[0].position
    expected = forwards(first, 6)
    resumed = net(folder, options)
    resumed.layers[0].position = position
    assert_equal(forwards(resumed, 6), expected)
    resumed.layers[0].position = position  # back, with batches under way
    assert_equal(forwards(resumed, 6), expected)


@pytest.fixture
def solvers():
    yield
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)


@pytest.mark.parametrize("order", ORDERS)
def test_processes_share_the_draws_without_overlap(folder, order, solvers):
    options = f"{order} {AUGMENTED}"
    alone = forwards(net(folder, "batch_size: 60 " + options), 1)[0]
    caffe.set_solver_count(3)
    for rank in range(3):
        caffe.set_solver_rank(rank)
        share = forwards(net(folder, "batch_size: 10 " + options), 2)
        for top in ("data", "label"):
            np.testing.assert_allclose(
                np.concatenate([tops[top] for tops in share]), alone[top][rank::3], rtol=1e-6
            )


SOLVER = 'net: "{0}/train.prototxt" base_lr: 0.01 lr_policy: "fixed" snapshot_prefix: "{0}/s"'
LEARNER = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
    inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }"""


@pytest.mark.parametrize("more", ["", "mixup_alpha: 0.4 cutmix_alpha: 1"])
def test_a_snapshot_continues_with_the_very_next_draw(folder, more):
    options = f"batch_size: 7 class_aware: true workers: 2 {AUGMENTED} scale: 0.01 {more}"
    text = layer(folder / "raw", options.replace("FOLDER", str(folder))) + LEARNER
    (folder / "train.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(SOLVER.format(folder))
    first = caffe.get_solver(str(folder / "solver.prototxt"))
    first.step(4)
    first.snapshot()
    first.step(5)
    caffe.set_random_seed(99)
    second = caffe.get_solver(str(folder / "solver.prototxt"))
    second.restore(str(folder / "s_iter_4.solverstate"))
    second.step(5)
    for name, blobs in first.net.params.items():
        for ours, theirs in zip(second.net.params[name], blobs, strict=True):
            np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(first.net.blobs["data"].data, second.net.blobs["data"].data)


def test_one_top_is_enough(folder):
    tops = net(folder, "batch_size: 4", tops=("data",)).forward()
    np.testing.assert_array_equal(tops["data"], [picture(k) for k in range(4)])


@pytest.mark.parametrize("precision", ["bf16", "fp64"])
def test_precision(folder, precision):
    exact = net(folder, "batch_size: 4 scale: 0.3").forward()["data"]
    device.set_precision(precision)
    try:
        made = net(folder, "batch_size: 4 scale: 0.3")
        made.forward()
        data, labels = (made.blobs[name].tensor for name in ("data", "label"))
    finally:
        device.set_precision("fp32")
    assert data.dtype == device.PRECISIONS[precision]
    assert labels.dtype == (torch.float64 if precision == "fp64" else torch.float32)
    np.testing.assert_allclose(data.double().cpu().numpy(), exact, rtol=2**-8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "more", ["", "pad: 2", "short_side_min: 9 short_side_max: 12", "mixup_alpha: 1 cutmix_alpha: 1"]
)
def test_a_gpu_gives_the_same(folder, more):
    options = (
        f"batch_size: 30 class_aware: true mean_value: 99 scale: 0.5 ahead: 2 {AUGMENTED}" + more
    )
    expected = forwards(net(folder, options), 8)
    caffe.set_mode_gpu()
    try:
        assert_equal(forwards(net(folder, options), 8), expected, rtol=1e-5, atol=1e-4)
    finally:
        caffe.set_mode_cpu()


# ---- options -------------------------------------------------------------------------------------

BAD_OPTIONS = [
    ("crop: 3", 'no field named "crop".*its fields are source, batch_size'),
    ("class_aware: true shuffle: true", "exclude each other; class-aware draws are shuffled"),
    ('mean_file: "x" mean_value: 1', "mean_file and mean_value exclude each other"),
    ("crop_size: 8 short_side_min: 7 short_side_max: 9", "expected crop_size 8 <= short_side_min"),
    ("crop_size: 8 area_min: 0.9 area_max: 0.5", "area_min 0.9, area_max 0.5: expected 0 <"),
    ("aspect_max: 0.5", "aspect_max 0.5: expected 1 or more"),
    ("crop_size: 8 pad: 1 area_min: 0.5", "pad and area_min exclude each other"),
    ("pad: 1", "pad needs crop_size"),
    ("ahead: 0", "ahead 0: expected 1 or more"),
    ("crop_size: 13", "record '00000000_0.jpg': 12 x 14 .* is smaller than the crop of 13 x 13"),
    ("mean_value: 1 mean_value: 2", r"the mean has .* \(2, 1, 1\), the records \(3, 12, 14\)"),
    ('crop_size: 7 mean_file: "FOLDER/crop_mean.binaryproto"', r"mean has .* \(3, 8, 8\)"),
    ('mean_file: "FOLDER/none"', "mean_file .*none: .*No such file"),
    ('mean_file: "FOLDER/color.txt"', "mean_file .*color.txt: .*as compute_image_mean makes it"),
    (
        'crop_size: 8 short_side_min: 9 short_side_max: 9 mean_file: "FOLDER/mean.binaryproto"',
        r"no meaning where they are resized: give one of the crop's size \(8, 8\)",
    ),
    ('color_file: "FOLDER/none"', "color_file .*none.*make it with color_pca"),
    ('color_file: "FOLDER/mean.binaryproto"', "color_file .*mean.binaryproto: "),
]


@pytest.mark.parametrize("options, pattern", BAD_OPTIONS)
def test_bad_options(folder, options, pattern):
    with pytest.raises(caffe.LayerError, match=pattern) as error:
        net(folder, "batch_size: 4 " + options).forward()
    assert isinstance(error.value.__cause__, SceneError)


def test_source_and_batch_size_must_be_given(folder):
    with pytest.raises(caffe.LayerError, match="source .* and batch_size must be given"):
        net(folder, "")
    with pytest.raises(caffe.LayerError, match="none: no LMDB"):
        make_net(caffe, folder, layer(folder / "none", "batch_size: 1"))


def test_every_field_is_described():
    text = (ROOT / "layers" / "README.md").read_text()
    for name in SceneDataParameter.DESCRIPTOR.fields_by_name:
        assert f"`{name}" in text
