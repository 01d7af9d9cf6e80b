"""AnnotatedData: whatever is drawn, the boxes lie where the objects are seen."""

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from annotated import COLORS, database, drawn_records, picture, record, seen_box
from caffe.catalogue.forks import objects, pictures, sampling
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError

SSD = """
mirror: true resize_param { prob: 1 resize_mode: WARP height: 90 width: 120 interp_mode: NEAREST }
expand_param { prob: 0.5 max_expand_ratio: 3 } emit_constraint { emit_type: CENTER }
"""
SAMPLERS = """
batch_sampler { max_sample: 1 max_trials: 1 }
batch_sampler { sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
                sample_constraint { min_jaccard_overlap: 0.1 } max_sample: 1 max_trials: 50 }
batch_sampler { sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
                sample_constraint { min_object_coverage: 0.5 } max_sample: 2 max_trials: 50 }
"""


def make_net(source, transform="", annotated="", batch=5, phase=caffe.TRAIN, tops=2):
    names = " ".join(f'top: "{name}"' for name in ("data", "label")[:tops])
    param = text_format.Parse(
        f'layer {{ name: "in" type: "AnnotatedData" {names} transform_param {{ {transform} }} '
        f'data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }} '
        f"annotated_data_param {{ {annotated} }} }}",
        caffe_pb2.NetParameter(),
    )
    return caffe.Net(param, phase)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return database(tmp_path_factory.mktemp("annotated") / "lmdb", drawn_records(10))


def assert_boxes_are_seen(net, pixels_off):
    """Every object lies where its color is; returns how many there are."""
    data, rows = net.blobs["data"].data, net.blobs["label"].data
    assert rows.shape[:2] == (1, 1) and rows.shape[3] == 8
    for image, label, _, *box, difficult in rows[0, 0].tolist():
        if image < 0:
            continue
        seen = seen_box(data[int(image)], int(label))
        off = np.abs(np.subtract(seen, box)) * [*data.shape[:1:-1], *data.shape[:1:-1]]
        assert (off <= pixels_off).all(), (label, box, seen)
        assert difficult == label - 1
    return (rows[0, 0, :, 0] >= 0).sum()


# ---- the layer ----------------------------------------------------------------------------------


def test_records_come_as_they_are(source):
    net = make_net(source, phase=caffe.TEST)
    net.forward()
    assert net.blobs["data"].data.shape == (5, 3, 60, 80)
    assert net.blobs["label"].data.shape == (1, 1, 10, 8)
    assert assert_boxes_are_seen(net, 1e-3) == 10
    np.testing.assert_array_equal(net.blobs["label"].data[0, 0, :, 0], np.repeat(range(5), 2))


@pytest.mark.parametrize(
    "transform, annotated, pixels_off",
    [
        ("mirror: true", "", 1e-3),
        ("crop_size: 40 mirror: true", "", 1e-3),
        ("crop_h: 50 crop_w: 30", "", 1e-3),
        ("resize_param { height: 90 width: 70 interp_mode: NEAREST }", "", 1),
        ("resize_param { resize_mode: FIT_SMALL_SIZE height: 90 width: 90 }", "", 2),
        ("resize_param { resize_mode: FIT_LARGE_SIZE_AND_PAD height: 90 width: 90 }", "", 2),
        ("resize_param { resize_mode: FIT_LARGE_SIZE_AND_PAD height: 60 width: 160 }", "", 2),
        (SSD, "", 2),
        (SSD, SAMPLERS, 12),
        (SSD.replace("CENTER", "MIN_OVERLAP emit_overlap: 0.3"), SAMPLERS, 12),
    ],
    ids=lambda value: str(value)[:40],
)
def test_boxes_follow_the_pixels(source, transform, annotated, pixels_off):
    """A window is cut at whole pixels, which are several of the resized image."""
    found = 0
    for seed in range(3):
        caffe.set_random_seed(seed)
        net = make_net(source, transform, annotated)
        for _ in range(3):
            net.forward()
            found += assert_boxes_are_seen(net, pixels_off)
    assert found > 20


def test_a_batch_without_objects_holds_one_row_of_minus_one(tmp_path):
    net = make_net(database(tmp_path / "db", [record((20, 20), [])]), batch=2)
    net.forward()
    np.testing.assert_array_equal(net.blobs["label"].data, np.full((1, 1, 1, 8), -1))


def test_the_number_of_objects_changes_with_the_batch(tmp_path):
    box = (1, 2, 3, 10, 12, 0)
    records = [record((20, 20), [box] * count) for count in (1, 3, 0, 2)]
    net = make_net(database(tmp_path / "db", records), batch=1)
    found = []
    for _ in range(5):
        net.forward()
        found.append(net.blobs["label"].data.shape[2])
    assert found == [1, 3, 1, 2, 1]


def test_records_without_a_type_have_labels(tmp_path):
    records = [record((8, 8), [], is_typed=False, label=label) for label in (4, 7)]
    source = database(tmp_path / "db", records)
    net = make_net(source, batch=3)
    net.forward()
    np.testing.assert_array_equal(net.blobs["label"].data, [4, 7, 4])
    typed = make_net(source, annotated="anno_type: BBOX", batch=3)
    typed.forward()
    assert typed.blobs["label"].data.shape == (1, 1, 1, 8)
    assert list(make_net(source, tops=1).blobs) == ["data"]


def test_the_same_seed_gives_the_same_draws_from_any_position(source):
    def batches(start, count):
        caffe.set_random_seed(4)
        net = make_net(source, SSD, SAMPLERS)
        net.layers[0].position = start
        found = []
        for _ in range(count):
            net.forward()
            found.append((net.blobs["data"].data.copy(), net.blobs["label"].data.copy()))
        return found

    whole = batches(0, 3)
    for (data, rows), (again, rows_again) in zip(whole[1:], batches(5, 2), strict=True):
        np.testing.assert_array_equal(data, again)
        np.testing.assert_array_equal(rows, rows_again)
    assert not np.array_equal(whole[0][0], whole[2][0])  # of the same records


def test_mean_values_are_subtracted_and_fill_an_expansion(tmp_path):
    source = database(tmp_path / "db", [record((20, 30), [])])
    net = make_net(
        source,
        "mean_value: 10 mean_value: 20 mean_value: 30 "
        "expand_param { max_expand_ratio: 4 } resize_param { height: 50 width: 50 }",
        batch=1,
    )
    net.forward()
    data = net.blobs["data"].data[0]
    for plane, mean in zip(data, (10, 20, 30), strict=True):
        assert set(np.unique(plane.round())) >= {-mean, 0}  # the image, and what is around it


@pytest.mark.parametrize(
    "transform, annotated, pattern",
    [
        ("resize_param { height: 3 }", "", "resize_param must be positive"),
        ("resize_param { height: 3 width: 3 prob: 0.5 }", "", "prob below 1"),
        ("crop_size: 3 crop_h: 3 crop_w: 3", "", "give crop_size, or both"),
        ("crop_h: 3", "", "both crop_h and crop_w"),
        ("crop_size: 99", "", "crop_size 99 must fit into it"),
        ("noise_param { hist_eq: true }", "", "noise_param changes .*SSD"),
        ("expand_param { max_expand_ratio: 0.5 }", "", "max_expand_ratio must be at least 1"),
        ("", "batch_sampler { sampler { min_scale: 0 } }", "batch_sampler 0: .*min_scale"),
        ("", "batch_sampler { sampler { max_aspect_ratio: 0.5 } }", "min_aspect_ratio"),
        ("", "yolo_data_type: 1", "yolo_data_type changes .*YOLO"),
    ],
)
def test_what_cannot_be_done_is_refused(source, transform, annotated, pattern):
    with pytest.raises(CaffeError, match=f"layer 'in'.*{pattern}"):
        make_net(source, transform, annotated)


def test_images_of_several_sizes_and_other_records_are_errors(tmp_path):
    net = make_net(database(tmp_path / "sizes", [record((8, 8), []), record((8, 9), [])]), batch=2)
    with pytest.raises(CaffeError, match="layer 'in'.*record '00000001'.*give resize_param"):
        net.forward()
    other = database(tmp_path / "other", [caffe_pb2.Datum(label=3, data=b"abc")])
    with pytest.raises(CaffeError, match="not an AnnotatedDatum.*convert_annoset"):
        make_net(other)


@pytest.mark.parametrize(
    "field, options",
    [
        ("expand_param", "expand_param { prob: 1 max_expand_ratio: 2 }"),
        ("distort_param", "distort_param { brightness_prob: 1 brightness_delta: 9 }"),
    ],
)
def test_what_needs_bytes_is_named(tmp_path, field, options):
    floats = record((8, 8), [])
    floats.datum.float_data.extend([0.5] * (3 * 8 * 8))
    floats.datum.ClearField("data")
    net = make_net(database(tmp_path / "floats", [floats]), options, batch=1)
    with pytest.raises(CaffeError, match=f"'00000000' of .* holds no bytes; {field} needs bytes"):
        net.forward()


# ---- windows ------------------------------------------------------------------------------------


def sampler(text):
    return text_format.Parse(text, caffe_pb2.BatchSampler())


def share(part, whole):
    cut = [*np.maximum(part[:2], whole[:2]), *np.minimum(part[2:], whole[2:])]
    size = np.maximum(np.subtract(cut[2:], cut[:2]), 0).prod()
    return size, size / np.subtract(part[2:], part[:2]).prod()


@pytest.mark.parametrize(
    "constraint, holds",
    [
        ("min_jaccard_overlap: 0.3", lambda both, of_box, of_window: both >= 0.3),
        ("max_jaccard_overlap: 0.2", lambda both, of_box, of_window: both <= 0.2),
        ("min_object_coverage: 0.9", lambda both, of_box, of_window: of_box >= 0.9),
        ("min_sample_coverage: 0.4", lambda both, of_box, of_window: of_window >= 0.4),
        (
            "min_object_coverage: 0.2 max_sample_coverage: 0.3",
            lambda both, of_box, of_window: of_box >= 0.2 and of_window <= 0.3,
        ),
    ],
)
def test_a_window_is_within_the_limits_of_some_object(constraint, holds):
    boxes, random = np.array([[0.1, 0.1, 0.4, 0.5], [0.5, 0.6, 0.9, 0.9]]), np.random.default_rng(0)
    wanted = sampler(
        "sampler { min_scale: 0.3 max_scale: 0.9 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } "
        f"sample_constraint {{ {constraint} }} max_sample: 1"
    )
    for _ in range(50):
        window = sampling.draw_window([wanted], boxes, random)
        width, height = window[2:] - window[:2]
        assert (window >= 0).all() and (window <= 1 + 1e-12).all()
        assert 0.3 <= (width * height) ** 0.5 <= 0.9 and 0.45 <= width / height <= 2.2
        measures = []
        for box in boxes:
            size, of_box = share(box, window)
            _, of_window = share(window, box)
            whole = width * height + np.subtract(box[2:], box[:2]).prod() - size
            measures.append((size / whole, of_box, of_window))
        assert any(holds(*measure) for measure in measures)


def test_where_no_window_is_found_there_is_none():
    wanted = sampler("sample_constraint { min_jaccard_overlap: 0.99 } max_sample: 1")
    small = np.array([[0.1, 0.1, 0.2, 0.2]])
    assert sampling.draw_window([wanted], small, np.random.default_rng(0)) is None
    none = np.empty((0, 4))
    assert sampling.draw_window([wanted], none, np.random.default_rng(0)) is None
    free = sampler("max_sample: 1 max_trials: 1")
    np.testing.assert_array_equal(
        sampling.draw_window([free], none, np.random.default_rng(0)), [0, 0, 1, 1]
    )


def test_an_object_stays_by_its_center_or_its_area():
    window = np.array([0.5, 0, 1, 1])
    rows = np.array([[1, 0, 0.2, 0.1, 0.7, 0.3, 0], [2, 0, 0.4, 0.1, 0.7, 0.3, 1.0]])
    kept = [
        objects.seen(rows, window, emit)
        for emit in (
            None,
            caffe_pb2.EmitConstraint(emit_type="CENTER"),
            caffe_pb2.EmitConstraint(emit_type="MIN_OVERLAP", emit_overlap=0.35),
        )
    ]
    assert [found[:, 0].tolist() for found in kept] == [[1, 2], [2], [1, 2]]
    np.testing.assert_allclose(kept[1][0], [2, 0, 0, 0.1, 0.4, 0.3, 1])


# ---- colors -------------------------------------------------------------------------------------


def distorted(text, image, seed=0):
    param = text_format.Parse(text, caffe_pb2.DistortionParameter())
    return pictures.distort(image, param, np.random.default_rng(seed))


@pytest.fixture
def image():
    return np.random.RandomState(0).randint(0, 256, (20, 30, 3)).astype(np.uint8)


def test_distortions_that_are_not_drawn_change_nothing(image):
    np.testing.assert_array_equal(distorted("brightness_delta: 99 hue_delta: 9", image), image)


def test_brightness_adds_one_number_to_all(image):
    for seed in range(5):
        found = distorted("brightness_prob: 1 brightness_delta: 32", image, seed).astype(float)
        inside = (found > 0) & (found < 255)
        added = (found - image)[inside]
        assert np.ptp(added) == 0 and abs(added[0]) <= 32


def test_contrast_multiplies_all_by_one_number(image):
    text = "contrast_prob: 1 contrast_lower: 0.5 contrast_upper: 0.9"
    found = distorted(text, image).astype(float)
    ratio = found.sum() / image.sum()
    assert 0.5 <= ratio <= 0.9
    np.testing.assert_allclose(found, image * ratio, atol=1)


def test_saturation_and_hue_change_theirs_only(image):
    before = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int)
    paler = distorted("saturation_prob: 1 saturation_lower: 0.5 saturation_upper: 0.5", image)
    after = cv2.cvtColor(paler, cv2.COLOR_BGR2HSV).astype(int)
    assert np.abs(after[..., 1] - before[..., 1] / 2).mean() < 3
    assert np.abs(after[..., 2] - before[..., 2]).max() <= 2
    turned = distorted("hue_prob: 1 hue_delta: 18", image)
    after = cv2.cvtColor(turned, cv2.COLOR_BGR2HSV).astype(int)
    assert np.abs(after[..., 2] - before[..., 2]).max() <= 2
    assert 0 < np.median((after - before)[..., 0] % 180) <= 180


def test_channels_are_put_in_another_order():
    image = picture((4, 6), [(1, 0, 0, 2, 2, 0)]).transpose(1, 2, 0)
    found = {
        distorted("random_order_prob: 1", image, seed)[0, 0].tolist().index(COLORS[1][0])
        for seed in range(20)
    }
    assert found == {0, 1, 2}
