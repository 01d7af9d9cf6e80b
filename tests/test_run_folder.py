"""What a run's folder is made of: the data that its net reads, and the solver's settings."""

import types

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe.files.text import read_text
from caffe.proto import caffe_pb2, extra_pb2
from caffe_plain.errors import CaffeError
from relaybp import models, run_folder
from relaybp.data_layers import DataLayer, choose_feed, data_layers
from relaybp.data_prep.small_images import write_set
from relaybp.errors import RelayError
from relaybp.layers.scene_message import SceneDataParameter, parse_options
from relaybp.prototxt import generate
from test_train import ROOT
from tests import scene_cases
from tests.data_folders import MEANS, SIZES, write_folder

SCENES = [name for name in generate.folders() if generate.load(name).scene is not None]
PLACES2 = ("model_a", "model_b", "vgg22", "vgg25")


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "folder")


def prepare(tmp_path, model, data=None, **given):
    """(SolverParameter, NetParameter, ExtraParameter or None) of the run folder of a model."""
    folder, method = models.find(model)
    run = tmp_path / "run"
    *made, _ = run_folder.compose(caffe_pb2, folder, method, str(run), data and str(data), **given)
    path = run_folder.save(str(run), *made)
    solver = read_text(path, caffe_pb2.SolverParameter())
    extra = run / "extra.prototxt"
    return (
        solver,
        read_text(solver.net, caffe_pb2.NetParameter()),
        read_text(str(extra), extra_pb2.ExtraParameter()) if extra.exists() else None,
    )


def feeds(net):
    """The options of the train and the test SceneData layer."""
    return [parse_options(layer.layer.python_param.param_str) for layer in data_layers(net.layer)]


# ---- SceneData -----------------------------------------------------------------------------------


def test_every_imagenet_and_places2_model_has_scene_data():
    assert set(SCENES) == {
        *PLACES2,
        *("vgg13", "vgg16", "vgg19", "resnet50_relay", "resnet200", "inception_v3"),
    }


@pytest.mark.parametrize("model", SCENES)
def test_the_papers_data_layers_point_at_the_folder(tmp_path, data, model):
    solver, net, _ = prepare(tmp_path, model, data)
    train, test = feeds(net)
    assert train.source == str(data / "train_lmdb") and test.source == str(data / "val_lmdb")
    assert train.mean_file == test.mean_file == str(data / "mean.binaryproto")
    assert train.color_file == str(data / "color.txt") and not test.color_file
    assert (train.class_aware, train.shuffle) == (model in PLACES2, model not in PLACES2)
    assert train.mirror and train.crop_size == test.crop_size == (299 if "ince" in model else 224)
    assert solver.test_iter == [1]  # 3 records in batches of 50
    assert not any(rule.not_stage for each in data_layers(net.layer) for rule in each.layer.include)


@pytest.mark.parametrize("model", ["model_a", "resnet50_relay"])
def test_their_layers_cut_crops_out_of_records_of_several_sizes(tmp_path, data, model):
    """The test phase is the central crop less the mean of the crop, pixel by pixel."""
    _, net, _ = prepare(tmp_path, model, data, batch=3)
    (tmp_path / "data.prototxt").write_text(
        text_format.MessageToString(
            caffe_pb2.NetParameter(layer=[each.layer for each in data_layers(net.layer)])
        )
    )
    scale = feeds(net)[1].scale
    mean = caffe.io.blobproto_to_array(
        caffe_pb2.BlobProto.FromString((data / "mean.binaryproto").read_bytes())
    )[0]
    test = caffe.Net(str(tmp_path / "data.prototxt"), caffe.TEST)
    test.forward()
    for k, size in enumerate(SIZES):
        top, left = ((side - 224) // 2 for side in size)
        crop = scene_cases.picture(k, *size)[:, top : top + 224, left : left + 224]
        np.testing.assert_allclose(test.blobs["data"].data[k], (crop - mean) * scale, rtol=1e-4)
    train = caffe.Net(str(tmp_path / "data.prototxt"), caffe.TRAIN)
    first = train.forward()["data"].copy()
    assert first.shape == (3, 3, 224, 224) and np.abs(first).max() < 400 * scale
    assert sorted(train.blobs["label"].data) == [0, 1, 2]
    assert not np.array_equal(train.forward()["data"], first)


def test_one_setting_leaves_out_class_aware_sampling_or_colours(tmp_path, data):
    _, net, _ = prepare(tmp_path, "model_b", data, scene=["class_aware=false"])
    assert not feeds(net)[0].class_aware and feeds(net)[0].color_file
    (data / "color.txt").unlink()
    _, net, _ = prepare(tmp_path, "model_b", data, scene=["color_file="])
    assert feeds(net)[0].class_aware and not feeds(net)[0].color_file


def test_the_batch_and_the_crop_change_what_belongs_to_them(tmp_path, data):
    _, net, _ = prepare(tmp_path, "resnet50_relay", data, batch=4, crop=112)
    train, test = feeds(net)
    assert train.batch_size == test.batch_size == 4
    assert train.crop_size == test.crop_size == 112
    assert (train.short_side_min, train.short_side_max) == (128, 240)  # as 256, 480 to 224
    for options in (train, test):  # a mean image of 224 x 224 fits no crop of 112
        assert not options.mean_file
        assert options.mean_value == pytest.approx(MEANS, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "given", "gone", "message"),
    [
        ("model_a", {}, "color.txt", "needs .*color.txt; make it with .*color_pca.py, or leave"),
        ("model_a", {}, "mean.binaryproto", "needs .*; make it with .*compute_image_mean.py$"),
        ("model_a", {"scene": ["colour=1"]}, None, "--scene colour=1: .*did you mean 'color_file'"),
        ("model_a", {"scene": ["source=x"]}, None, "SCENE=source=x: DATA= and --batch say it"),
        (
            "resnet20",
            {"scene": ["mirror=true"]},
            None,
            "SCENE=mirror=true: .* no SceneData.*FEED=scene puts",
        ),
    ],
)
def test_errors_name_the_file_or_the_option(
    tmp_path, data, monkeypatch, model, given, gone, message
):
    monkeypatch.chdir(ROOT)
    if gone:
        (data / gone).unlink()
    with pytest.raises(CaffeError, match=message):
        prepare(tmp_path, model, data, **given)


# ---- Caffe's own Data layer ----------------------------------------------------------------------


@pytest.mark.parametrize("model", SCENES)
def test_feed_data_is_caffes_layer_with_the_means_per_channel(tmp_path, data, model):
    _, net, _ = prepare(tmp_path, model, data, feed="data")
    train, test = [layer for layer in net.layer if layer.type == "Data"]
    assert not [layer for layer in net.layer if layer.type == "Python"]
    for layer in (train, test):
        assert layer.transform_param.mean_value == pytest.approx(MEANS, abs=1e-3)
        assert not layer.transform_param.mean_file
    assert train.data_param.source == str(data / "train_lmdb")
    assert [rule.stage for layer in (train, test) for rule in layer.include] == [[], []]


def test_a_net_of_one_feed_stays_as_it_is():
    text = """
    layer { name: "a" type: "Data" include { phase: TRAIN } data_param { source: "x" } }
    layer { name: "b" type: "Data" include { phase: TEST } }
    layer { name: "c" type: "ReLU" bottom: "a" top: "c" include { not_stage: "data" } }
    """
    for feed in (None, "data"):
        net = text_format.Parse(text, caffe_pb2.NetParameter())
        choose_feed(net, feed)
        assert net == text_format.Parse(text, caffe_pb2.NetParameter())


def test_feed_scene_gives_the_training_scenedata_with_the_same_settings():
    text = """
    layer { name: "a" type: "Data" top: "data" top: "label" include { phase: TRAIN }
            data_param { source: "x" batch_size: 8 backend: LMDB prefetch: 2 }
            transform_param { crop_size: 32 mirror: true scale: 0.5 mean_value: 1 mean_value: 2 } }
    layer { name: "a" type: "Data" top: "data" top: "label" include { phase: TEST }
            data_param { source: "y" batch_size: 4 backend: LMDB } }
    """
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    test = caffe_pb2.LayerParameter.FromString(net.layer[1].SerializeToString())
    choose_feed(net, "scene")
    train = net.layer[0]
    assert net.layer[1] == test and list(train.top) == ["data", "label"]
    assert not train.HasField("data_param") and not train.HasField("transform_param")
    assert parse_options(train.python_param.param_str) == SceneDataParameter(
        source="x", batch_size=8, crop_size=32, mirror=True, scale=0.5, mean_value=[1, 2]
    )


@pytest.mark.parametrize("feed, kind", [("scene", "SceneData"), ("data", "Data")])
def test_a_net_without_a_layer_of_the_feed_is_refused(tmp_path, monkeypatch, feed, kind):
    net = text_format.Parse('layer { name: "a" type: "HDF5Data" }', caffe_pb2.NetParameter())
    for folder, option in ((ROOT, "FEED="), (tmp_path, "--feed ")):
        monkeypatch.chdir(folder)
        message = f"{option}{feed}: .*no {kind} layer; leave {option.strip()} out"
        with pytest.raises(RelayError, match=message):
            choose_feed(net, feed)


def test_feed_scene_refuses_what_scenedata_does_not_have():
    text = """layer { name: "a" type: "Data" include { phase: TRAIN }
              data_param { source: "x" batch_size: 8 rand_skip: 3 } }"""
    with pytest.raises(RelayError, match="layer 'a' sets rand_skip"):
        choose_feed(text_format.Parse(text, caffe_pb2.NetParameter()), "scene")


def test_a_net_that_trains_on_scenedata_gets_the_records_that_data_gives(tmp_path):
    """Without --scene the order stays, and without a mirror the pixels: the same first batch."""
    draw = np.random.default_rng(1)
    images = [(draw.integers(0, 256, (8, 3, 32, 32), np.uint8), np.arange(8) % 2)]
    folder = tmp_path / "set"
    write_set(folder, {"train": images, "val": images}, ["a", "b"], lmdb=True)
    batches = []
    for feed in (None, "scene"):
        _, net, _ = prepare(tmp_path, "plain10", folder, feed=feed, batch=4)
        DataLayer(net.layer[0]).set("mirror", False)
        path = tmp_path / "first.prototxt"
        path.write_text(str(caffe_pb2.NetParameter(layer=net.layer[:1])))
        one = caffe.Net(str(path), caffe.TRAIN)
        one.forward()
        batches.append([one.blobs[name].data.copy() for name in ("data", "label")])
    for mine, theirs in zip(*batches, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


def test_a_layer_without_a_crop_gets_one():
    text = """layer { name: "a" type: "Data" data_param { batch_size: 2 } }
    layer { name: "b" type: "Python" python_param { layer: "SceneData" param_str: 'pad: 4' } }"""
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    run_folder.resize(net, None, 28)
    assert [layer.get("crop_size") for layer in data_layers(net.layer)] == [28, 28]
    assert data_layers(net.layer)[0].get("batch_size") == 2


def test_data_layers_have_the_names_of_scene_datas_fields():
    layer = DataLayer(caffe_pb2.LayerParameter(type="Data"))
    for field, value in (("source", "a"), ("batch_size", 3), ("mean_value", [1.0, 2.0])):
        layer.set(field, value)
        assert layer.get(field) == value
    assert layer.layer.data_param.batch_size == 3 and layer.get("color_file") is None
    layer.clear("mean_value")
    assert layer.layer.transform_param == caffe_pb2.TransformationParameter()


# ---- the solver ----------------------------------------------------------------------------------


def test_a_plateau_observes_the_top_1_error_unless_it_says_what(tmp_path):
    settings = ["lr_policy=plateau", "plateau_winsize=5,6"]
    _, _, extra = prepare(tmp_path, "model_a", settings=settings)
    assert extra == extra_pb2.ExtraParameter(
        lr_policy="plateau", plateau_winsize=[5, 6], plateau_output="accuracy_top1"
    )
    _, _, extra = prepare(tmp_path, "model_a", settings=[*settings, "plateau_output=loss"])
    assert extra.plateau_output == "loss"
    _, _, extra = prepare(tmp_path, "auxnet-56-5", settings=settings)
    assert extra.plateau_output == "accuracy_top1"  # of the final output, not of an auxiliary one


def test_the_last_policy_that_is_set_counts(tmp_path):
    solver, _, extra = prepare(
        tmp_path, "vgg13", settings=["lr_policy=fixed", "lr_policy=cosine", "rampup_interval=7"]
    )
    assert extra == extra_pb2.ExtraParameter(lr_policy="cosine", rampup_interval=7)
    assert solver.lr_policy == "fixed"


def test_the_last_policy_may_be_caffes(tmp_path):
    solver, _, extra = prepare(tmp_path, "vgg13", settings=["lr_policy=cosine", "lr_policy=fixed"])
    assert extra is None and solver.lr_policy == "fixed"


def test_inception_v3_smooths_its_labels_unless_told_not_to(tmp_path):
    _, _, extra = prepare(tmp_path, "inception_v3_relay")
    assert [(each.layer, each.amount) for each in extra.label_smoothing] == [
        ("", pytest.approx(0.1))
    ]


def test_label_smoothing_can_be_left_out(tmp_path):
    _, _, extra = prepare(tmp_path, "inception_v3_relay", settings=["label_smoothing="])
    assert extra is None


def test_an_original_caffe_refuses_what_only_this_engine_has(tmp_path):
    from relaybp.engines.bvlc import Bvlc

    original = Bvlc(types.SimpleNamespace(proto=types.SimpleNamespace(caffe_pb2=caffe_pb2)))
    prepare(tmp_path, "inception_v3_relay", settings=["rampup_interval=3"])
    run = tmp_path / "run"
    message = (
        "an original Caffe has no rampup_interval, label_smoothing.*or leave it out: "
        "--set rampup_interval= --set label_smoothing="
    )
    with pytest.raises(CaffeError, match=message):
        original.make_solver(str(run / "solver.prototxt"), str(run / "extra.prototxt"))
    (run / "solver.prototxt").write_text('lr_policy: "plateau"')
    with pytest.raises(CaffeError, match="lr_policy 'plateau': an original Caffe has only fixed"):
        original.make_solver(str(run / "solver.prototxt"))


# ---- the papers' solvers -------------------------------------------------------------------------


def test_resnet_50_has_its_own_papers_solver():
    """He et al. 2016, section 3.4."""
    folder, _ = models.find("resnet50_relay")
    solver = read_text(f"{folder}/solver.prototxt", caffe_pb2.SolverParameter())
    assert (solver.type, solver.momentum) == ("SGD", pytest.approx(0.9))
    assert solver.base_lr == pytest.approx(0.1) and solver.gamma == pytest.approx(0.1)
    assert solver.weight_decay == pytest.approx(1e-4) and solver.max_iter == 600000
    net = read_text(f"{folder}/train_val.prototxt", caffe_pb2.NetParameter())
    train = data_layers(net.layer)[0]
    assert train.get("batch_size") * solver.iter_size == 256
    assert (train.get("short_side_min"), train.get("short_side_max")) == (256, 480)


def test_inception_v3_has_its_own_papers_solver():
    """Szegedy et al. 2016, section 8, with an epoch of 1,281,167 images."""
    folder, _ = models.find("inception_v3")
    solver = read_text(f"{folder}/solver.prototxt", caffe_pb2.SolverParameter())
    assert solver.type == "RMSProp" and solver.rms_decay == pytest.approx(0.9)
    assert solver.delta == 1 and solver.clip_gradients == 2 and solver.momentum == 0
    assert solver.base_lr == pytest.approx(0.045) and solver.gamma == pytest.approx(0.94)
    epoch = 1281167 / 32
    assert solver.lr_policy == "step" and solver.stepsize == pytest.approx(2 * epoch, abs=1)
    assert solver.max_iter == pytest.approx(100 * epoch, abs=100)
    net = read_text(f"{folder}/train_val.prototxt", caffe_pb2.NetParameter())
    assert data_layers(net.layer)[0].get("batch_size") * solver.iter_size == 32
