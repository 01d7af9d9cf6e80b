"""Testing photos as they come: the mean image, gray and whole images, damaged records."""

import os
from functools import partial

import cv2
import lmdb
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import dirty_folders as dirty
from caffe.proto import caffe_pb2
from caffe_plain.class_names import write_class_names
from caffe_plain.database import new_database
from caffe_plain.errors import CaffeError
from evaluation_cases import CLASSES, CROP, draw_images, make_data, make_run
from relaybp import engines
from relaybp.commands.evaluate import write_tables
from relaybp.data_prep.datum_db import raw_datum
from relaybp.evaluation import nets
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import measure as measure_on
from relaybp.evaluation.validation_set import pictures, record_names
from relaybp.figures import by_class
from relaybp.figures.run_tables import Run
from test_results import scene_data

measure = partial(measure_on, gpu="none")
ENGINE = engines.of(caffe)
CROP_TEST, DENSE = Protocol(), Protocol.parse(str(CROP))
VALUE = "mean_value: 100"  # in the nets of evaluation_cases


def scores_of(run, values):
    """The scores (N, classes) of a run's net for inputs (N, C, H, W)."""
    param = text_format.Parse((run / "train_val.prototxt").read_text(), caffe_pb2.NetParameter())
    layers, top = nets.prediction_layers(caffe_pb2, param)
    layers.append(nets.softmax_of(caffe_pb2, top))
    net = nets.net_of(caffe, layers, "data", values.shape, str(run / "a_iter_7.caffemodel"))
    return nets.run(net, "data", np.float32(values), "prob")


def write_mean(data, channels, height, width):
    """A mean image of noise (C, H, W), also in data/mean.binaryproto."""
    mean = np.random.RandomState(3).uniform(60, 140, (channels, height, width)).astype(np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width)
    blob.data.extend(mean.ravel())
    (data / "mean.binaryproto").write_bytes(blob.SerializeToString())
    return mean


# ---- the mean image ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["Data", "SceneData"])
def test_at_the_size_of_crop_and_image_dense_is_the_crop(tmp_path, layer):
    data = make_data(tmp_path / "data", draw_images(5, CROP, CROP))
    mean = write_mean(data, 3, CROP, CROP)
    field = f'mean_file: "{data}/mean.binaryproto"'
    edits = {"Data": lambda text: text.replace(VALUE, field), "SceneData": scene_data(data, field)}
    run = make_run(tmp_path / "run", data, edit=edits[layer])
    values = (draw_images(5, CROP, CROP).transpose(0, 3, 1, 2) - mean) * np.float32(0.02)
    expected = scores_of(run, values)
    for protocol in (CROP_TEST, DENSE):
        found = measure(ENGINE, str(run), protocol).scores
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=protocol.name)


def test_at_another_scale_each_pixel_loses_the_mean_of_its_place(tmp_path):
    images = draw_images(3, 16, 20)
    data = make_data(tmp_path / "data", images)
    mean = write_mean(data, 3, 16, 20).transpose(1, 2, 0)
    field = f'mean_file: "{data}/mean.binaryproto"'
    run = make_run(tmp_path / "run", data, edit=lambda text: text.replace(VALUE, field))
    values = [cv2.resize(image, (16, 13)) - cv2.resize(mean, (16, 13)) for image in images]
    values = 0.02 * np.array(values).transpose(0, 3, 1, 2)
    expected = [scores_of(run, values[..., at : at + CROP]) for at in (0, 2)]
    found = measure(ENGINE, str(run), DENSE).scores
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-5)


def test_a_mean_of_other_channels_is_refused(tmp_path):
    data = make_data(tmp_path / "data", draw_images(3, CROP, CROP)[..., 0])
    write_mean(data, 3, CROP, CROP)
    field = f'mean_file: "{data}/mean.binaryproto"'
    edit = lambda text: text.replace(VALUE, field)  # noqa: E731
    run = make_run(tmp_path / "run", data, edit=edit, shape=(1, CROP, CROP))
    with pytest.raises(CaffeError, match="a mean of 3 channels for images of 1: .*force_color"):
        measure(ENGINE, str(run), DENSE)


@pytest.mark.parametrize("size", [(16, 20), (13, 13), (32, 40)], ids=["image", "crop", "other"])
def test_each_crop_loses_the_mean_of_the_place_that_it_shows(tmp_path, size):
    """A mean of neither the image's nor the crop's size is resized to the image, then cut."""
    images = draw_images(3, 16, 20)
    data = make_data(tmp_path / "data", images)
    mean = write_mean(data, 3, *size).transpose(1, 2, 0)
    edit = scene_data(data, f'mean_file: "{data}/mean.binaryproto"')
    run = make_run(tmp_path / "run", data, edit=edit)
    of_crop = size == (CROP, CROP)
    if not of_crop:
        images = images - cv2.resize(mean, (20, 16))
    places = [(0, 2), (0, 5), (3, 2), (3, 5), (1, 3)]  # in the central square of 16 x 16
    crops = np.stack([images[:, y : y + CROP, x : x + CROP] for y, x in places])
    values = np.stack([crops, crops[..., ::-1, :]]) - (mean if of_crop else 0)
    values = 0.02 * values.reshape(-1, CROP, CROP, 3).transpose(0, 3, 1, 2)
    expected = scores_of(run, values).reshape(10, 3, -1)
    found = measure(ENGINE, str(run), Protocol.parse("10-crop")).scores
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-5)


# ---- nets of gray and of whole images ------------------------------------------------------------


@pytest.mark.parametrize("crop", [True, False], ids=["crop", "whole"])
@pytest.mark.parametrize("stored", ["gray", "gray as colour", "colour as gray", "raw gray"])
def test_gray_and_whole_images(tmp_path, stored, crop):
    """As the Data layer's own test shows them, whose pixels are OpenCV's."""
    images = draw_images(4, CROP, CROP)
    if stored != "colour as gray":
        images = images[..., :1]
    data = make_data(tmp_path / "data", images)
    if stored == "raw gray":
        store_raw(data / "val_lmdb", images)
    force = {"gray as colour": "force_color: true", "colour as gray": "force_gray: true"}
    wanted = "" if crop else "crop_size: 13 "
    edit = lambda text: text.replace(VALUE, f"{VALUE} {force.get(stored, '')}").replace(wanted, "")  # noqa: E731
    channels = 3 if stored == "gray as colour" else 1
    run = make_run(tmp_path / "run", data, edit=edit, shape=(channels, CROP, CROP))
    pixels = [
        cv2.imdecode(cv2.imencode(".png", image)[1], cv2.IMREAD_GRAYSCALE)[None].repeat(channels, 0)
        for image in images
    ]
    expected = scores_of(run, (np.array(pixels) - np.float32(100)) * np.float32(0.02))
    for protocol in (CROP_TEST, DENSE, *([Protocol.parse("10-crop")] if crop else [])):
        found = measure(ENGINE, str(run), protocol).scores
        if protocol.kind != "10-crop":  # which mirrors
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=protocol.name)


def store(db, changed):
    """Write records {number: Datum bytes} over those of a database."""
    with lmdb.open(str(db), map_size=1 << 22) as environment, environment.begin(write=True) as txn:
        for number, record in changed.items():
            txn.put(b"%04d" % number, record)


def store_raw(db, images):
    """Write images (H, W, C) as raw records over those of a database."""
    data = [image.transpose(2, 0, 1) for image in images]
    store(db, {k: raw_datum(pixels.tobytes(), pixels.shape, k) for k, pixels in enumerate(data)})


def test_a_gray_image_among_colours_is_named(tmp_path):
    data = make_data(tmp_path / "data", [*draw_images(3), draw_images(1)[0, ..., 0]])
    run = make_run(tmp_path / "run", data)
    for protocol in (CROP_TEST, DENSE):
        with pytest.raises(CaffeError, match="'0003'.* 1.*give .* force_color: true"):
            measure(ENGINE, str(run), protocol)
    coloured = make_run(tmp_path / "coloured", data, edit=lambda text: text.replace(
        VALUE, f"{VALUE} force_color: true"))  # fmt: skip
    one, other = (measure(ENGINE, str(coloured), protocol) for protocol in (CROP_TEST, DENSE))
    assert one.images == other.images == 4


# ---- damaged records -----------------------------------------------------------------------------

JPEG = cv2.imencode(".jpg", draw_images(1)[0])[1].tobytes()
DAMAGED = {
    "no Datum": b"\xff\xff\xff",
    "no image": caffe_pb2.Datum(encoded=True, data=b"hello").SerializeToString(),
    "empty": caffe_pb2.Datum(encoded=True).SerializeToString(),
    "cut off": caffe_pb2.Datum(encoded=True, data=JPEG[:-40]).SerializeToString(),
    "too few pixels": caffe_pb2.Datum(
        channels=3, height=16, width=20, data=b"x" * 30
    ).SerializeToString(),
    "deep": caffe_pb2.Datum(
        encoded=True, data=cv2.imencode(".png", np.zeros((16, 20, 3), np.uint16))[1].tobytes()
    ).SerializeToString(),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_record_is_named(tmp_path, kind):
    data = make_data(tmp_path / "data", draw_images(4))
    store(data / "val_lmdb", {2: DAMAGED[kind]})
    run = make_run(tmp_path / "run", data)
    for text in ("crop", "14", "10-crop"):
        with pytest.raises(CaffeError, match="record '?0002"):
            measure(ENGINE, str(run), Protocol.parse(text))


def test_no_other_record_stands_in_for_a_damaged_one(tmp_path):
    """Its neighbour's scores would be kept under its name."""
    data = make_data(tmp_path / "data", draw_images(4), labels=[0] * 4)
    store(data / "val_lmdb", {2: DAMAGED["no image"]})
    edit = scene_data(data, VALUE + " skip_damaged: true")
    run = make_run(tmp_path / "run", data, edit=edit)
    for protocol in (CROP_TEST, DENSE):
        with pytest.raises(CaffeError, match="record '?0002"):
            measure(ENGINE, str(run), protocol)


# ---- names ---------------------------------------------------------------------------------------


def test_class_names_of_any_bytes(tmp_path):
    data = make_data(tmp_path / "data", draw_images(3))
    run = make_run(tmp_path / "run", data)
    names = [os.fsdecode(name) for name in dirty.NAMES if b"\r" not in name]
    write_class_names(data / "classes.txt", names)
    result = measure(ENGINE, str(run), CROP_TEST)
    assert result.class_names == names
    write_tables(str(run), result)
    text = (run / "per_class_crop.csv").read_text("utf-8")
    assert "caf\\xe9," in text and "\\xff\\xfe\\x80," in text and "Stra\xdfe," in text
    write_class_names(data / "classes.txt", names[::-1])
    assert measure(ENGINE, str(run), CROP_TEST).path != result.path


def test_records_are_found_by_names_of_any_bytes(tmp_path):
    keys, images = (b"0_caf\xe9.png", b"1_\xff\xfe.png", b"2_plain.png"), draw_images(3)
    with new_database(tmp_path / "db") as put:
        for key, image in zip(keys, images, strict=True):
            pixels = image.transpose(2, 0, 1)
            put(key, raw_datum(pixels.tobytes(), pixels.shape, 0))
    names = record_names(str(tmp_path / "db"), 3)
    assert names == ["0_caf\\xe9.png", "1_\\xff\\xfe.png", "2_plain.png"]
    for image, found in zip(images, pictures(caffe, str(tmp_path / "db"), names), strict=True):
        np.testing.assert_array_equal(found, image[..., ::-1])


# ---- errors by class -----------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [5, 6])
def test_errors_of_each_class_by_hand(tmp_path, classes):
    """The first class is right, the second in second place, the third in the last."""
    data = make_data(tmp_path / "data", draw_images(3), labels=[0, 1, 2])
    edit = lambda text: text.replace("num_output: 7", f"num_output: {classes}")  # noqa: E731
    run = make_run(tmp_path / "run", data, "fully connected", edit=edit)
    net = caffe.Net(str(run / "train_val.prototxt"), caffe.TEST)
    net.params["fc"][0].data[...] = 0
    net.params["fc"][1].data[...] = [9, 8, 0, *range(1, classes - 2)]
    net.save(str(run / "a_iter_7.caffemodel"))
    write_tables(str(run), measure(ENGINE, str(run), CROP_TEST))
    rows = (run / "per_class_crop.csv").read_text().splitlines()
    last = {5: ["", "", ""], 6: ["0.00", "0.00", "100.00"]}[classes]  # all are among five of five
    assert rows == [
        "class,images,top1_error,top5_error",
        f"class 0,1,0.00,{last[0]}",
        f"class 1,1,100.00,{last[1]}",
        f"class 2,1,100.00,{last[2]}",
    ]
    shown = [("class 0", 0), ("class 1", 100), ("class 2", 100)]  # in first place
    assert Run(str(with_metrics(run))).classes == {"crop": (1, shown)}


def with_metrics(run):
    (run / "metrics.csv").write_text("iteration,kind,name,value\n1,train,loss,2\n")
    return run


def test_two_classes_of_one_name_stay_apart(tmp_path):
    """ImageNet has two cranes."""
    data = make_data(tmp_path / "data", draw_images(14))
    names = ["crane", "fox", "crane", "crab", "owl", "bat", "elk"]
    write_class_names(data / "classes.txt", names)
    run = make_run(tmp_path / "run", data)
    result = measure(ENGINE, str(run), CROP_TEST)
    shown = ["crane (0)", "fox", "crane (2)", *names[3:]]
    assert [result.class_name(label) for label in range(CLASSES)] == shown
    write_tables(str(run), result)
    (axes,) = by_class.classes([Run(str(with_metrics(run)))]).axes
    bars = zip(axes.get_yticklabels(), axes.patches, strict=True)
    found = {name.get_text(): bar.get_width() for name, bar in bars}
    errors = {shown[label]: error for label, _, error in result.class_errors(1)}
    assert found == pytest.approx(errors, abs=0.01) and len(found) == CLASSES
