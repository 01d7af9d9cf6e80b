"""pycaffe's whole surface: its names, and its helpers against BVLC Caffe 1.0.

tests/golden/pycaffe*.{json,npz} hold what tests/oracle/record_pycaffe.py recorded there.
"""

import importlib
import inspect
import json
import logging
import multiprocessing
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import caffe
import caffe._caffe
import pycaffe_cases
from caffe import coord_map, draw
from caffe import layers as L
from caffe.files.text import parse_text
from caffe.proto import caffe_pb2
from caffe_plain import glog

GOLDEN = Path(__file__).parent / "golden"
NAMES = json.loads((GOLDEN / "pycaffe_names.json").read_text())
RECORDED = json.loads((GOLDEN / "pycaffe.json").read_text())


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "pycaffe.npz") as file:
        return dict(file)


def net_of(text, phase=caffe.TEST):
    return caffe.Net(parse_text(text, caffe_pb2.NetParameter()), phase)


# ---- names ---------------------------------------------------------------------------------------


def owner_of(name):
    if name.split(".")[0] == "caffe":
        return importlib.import_module(name)
    return getattr(caffe._caffe, name, None) or getattr(caffe, name)


@pytest.fixture(scope="module")
def instances(tmp_path_factory):
    """An object of every class, for what only objects have."""
    model = pycaffe_cases.write_model(str(tmp_path_factory.mktemp("model")))
    param = caffe_pb2.SolverParameter(lr_policy="fixed")
    parse_text(REGRESSION, param.net_param)
    solver = caffe.get_solver(param)
    return {
        "Net": solver.net,
        "Blob": caffe.Blob(1),
        "BlobVec": solver.net.params["fc"],
        "Layer": caffe.Layer(),
        "Solver": solver,
        "SGDSolver": solver,
        "Classifier": caffe.Classifier(*model),
        "Detector": caffe.Detector(*model),
        "Timer": caffe.Timer(),
        "NetSpec": caffe.NetSpec(),
        "SolverParameter": solver.param,
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_pycaffe_is_here(instances, name):
    found = set(dir(owner_of(name))) | set(dir(instances.get(name)))
    assert NAMES[name].keys() - found == set()


@pytest.mark.parametrize("name", NAMES)
def test_python_functions_take_what_pycaffes_take(name):
    owner = owner_of(name)
    signatures = {n: given for n, given in NAMES[name].items() if given is not None}
    assert {n: bare_signature(getattr(owner, n)) for n in signatures} == signatures


def bare_signature(function):
    """Names, kinds and defaults of the arguments, without annotations."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def test_the_binary_module_is_there_after_import_caffe():
    script = "import caffe; print(caffe._caffe.Net is caffe.Net, caffe.pycaffe.Net is caffe.Net)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


# BVLC Caffe's pycaffe.py: what it makes of Net, and under which name.
NET_FUNCTIONS = {
    f"_Net_{name.lstrip('_')}": name
    for name in [
        "blobs",
        "blob_loss_weights",
        "layer_dict",
        "params",
        "inputs",
        "outputs",
        "forward",
        "backward",
        "forward_all",
        "forward_backward_all",
        "set_input_arrays",
        "_batch",
    ]
}


def test_nets_methods_have_their_names_in_the_original_module():
    found = {n for n in vars(caffe.pycaffe) if n.startswith("_Net_")} - {"_Net_get_id_name"}
    assert found == set(NET_FUNCTIONS)
    for function, method in NET_FUNCTIONS.items():
        assert getattr(caffe.pycaffe, function) is getattr(caffe.Net, method)


def test_a_script_may_put_its_own_forward_in_place(monkeypatch):
    seen = []

    def counted(net, *args, **kwargs):
        seen.append(net)
        return caffe.pycaffe._Net_forward(net, *args, **kwargs)

    net = net_of(REGRESSION)
    monkeypatch.setattr(caffe.Net, "forward", counted)
    assert net.forward().keys() == {"loss"}
    assert seen == [net]


def test_names_by_layer_can_be_asked_for_as_the_original_does(monkeypatch):
    tops = caffe.pycaffe._Net_get_id_name(caffe.Net._top_ids, "_my_tops")
    monkeypatch.setattr(caffe.Net, "my_tops", tops, raising=False)
    net = net_of(REGRESSION)
    assert net.my_tops == net.top_names
    assert net.my_tops is net.my_tops is net._my_tops


@pytest.mark.parametrize(
    "use",
    [
        lambda net: net.forward(start="no"),
        lambda net: net.forward(end="no"),
        lambda net: net.backward(start="no"),
        lambda net: net.backward(end="no"),
        lambda net: net.forward(blobs=["no"]),
        lambda net: net.backward(diffs=["no"]),
    ],
)
def test_an_unknown_name_is_what_scripts_catch(use):
    """BVLC Caffe raises ValueError (list.index) for a layer's name, KeyError for a blob's."""
    for kind in (KeyError, ValueError):
        with pytest.raises(kind, match="no (layer|blob) 'no'"):
            net = net_of(REGRESSION)
            net.forward()
            use(net)


# ---- helpers against BVLC Caffe ------------------------------------------------------------------


def test_coordinate_maps_are_bvlcs():
    for name, (axis, a, b) in pycaffe_cases.coordinate_maps().items():
        assert [axis, a, b] == RECORDED["maps"][name]


def test_crop_aligns_as_bvlc_does():
    def read(text):
        return parse_text(text, caffe_pb2.NetParameter())

    assert read(pycaffe_cases.crop_text()) == read(RECORDED["crop"])


@pytest.mark.parametrize(
    ("tops", "error", "message"),
    [
        (
            lambda: pycaffe_cases.fcn(conv_pad=-9, deconv={"kernel_size": 7, "stride": 4}),
            AssertionError,
            "begins inside the second",
        ),
        (lambda: pycaffe_cases.fcn(), AssertionError, "apart by parts of a pixel"),
        (
            lambda: pycaffe_cases.fcn(deconv={"kernel_size": 4, "stride": 2}),
            AssertionError,
            "differ in scale",
        ),
        (lambda: (L.Input(), L.Input()), RuntimeError, "no way between"),
        (
            lambda: pycaffe_cases.fcn(extra=lambda up: L.InnerProduct(up)),
            RuntimeError,
            "no way between",
        ),
        (
            lambda: pycaffe_cases.fcn(extra=lambda up: L.Pooling(up, kernel_h=2)),
            AssertionError,
            "Pooling with kernel_h",
        ),
        (
            lambda: pycaffe_cases.fcn(extra=lambda up: L.Convolution(up, kernel_size=1, axis=2)),
            coord_map.AxisMismatchException,
            "axis 2 on and one from axis 1",
        ),
    ],
)
def test_crop_says_what_does_not_fit(tops, error, message):
    data, score = tops()
    with pytest.raises(error, match=message) as raised:
        coord_map.crop(score, data)
    assert isinstance(raised.value, caffe.CaffeError)


def test_layers_of_forks_keep_coordinates_too():
    data = L.Input()
    top = L.DepthwiseConvolution(data, kernel_size=[3], stride=[2], pad=[1], num_output=3)
    plain = L.Convolution(data, kernel_size=[3], stride=[2], pad=[1], num_output=3)
    for kind in (L.BN, L.ReLU6, L.Normalize):
        top = kind(top)
    found, expected = (coord_map.coord_map_from_to(each, data) for each in (top, plain))
    assert found == expected


def test_drawn_labels_are_bvlcs():
    assert pycaffe_cases.labels(draw) == RECORDED["labels"]


@pytest.mark.parametrize("name", ["v1_all_types", "v0_all_types", "input_v1"])
def test_old_nets_are_drawn_as_bvlcs_upgrade_of_them(name):
    old, new = (
        parse_text((GOLDEN / "upgrade" / f"{name}.{form}.prototxt").read_text(), net)
        for form, net in (("old", caffe_pb2.NetParameter()), ("new", caffe_pb2.NetParameter()))
    )
    assert old.layers and not old.layer
    given = old.SerializeToString()
    for phase in (None, caffe.TRAIN, caffe.TEST):
        drawn = draw.get_dot_text(old, "LR", phase=phase)
        assert drawn == draw.get_dot_text(new, "LR", phase=phase)
        assert "layer:" in drawn
    assert old.SerializeToString() == given


def test_classifier_scores_are_bvlcs(arrays, tmp_path):
    for name, scores in pycaffe_cases.classify(str(tmp_path)).items():
        np.testing.assert_allclose(scores, arrays[f"classify/{name}"], rtol=2e-5)


def test_detector_crops_and_scores_are_bvlcs(arrays, tmp_path):
    for name, found in pycaffe_cases.detect(str(tmp_path)).items():
        np.testing.assert_allclose(found, arrays[f"detect/{name}"], rtol=2e-5, atol=1e-6)


def test_detector_refuses_a_window_outside(tmp_path):
    model = pycaffe_cases.write_model(str(tmp_path))
    detector = caffe.Detector(*model, context_pad=1)
    with pytest.raises(caffe.CaffeError, match="outside of the image, which has 20 rows"):
        detector.crop(pycaffe_cases.image(), (50, 50, 60, 60))


def test_selective_search_names_its_package(tmp_path):
    detector = caffe.Detector(*pycaffe_cases.write_model(str(tmp_path)))
    with pytest.raises(caffe.CaffeError, match="needs the package selective_search"):
        detector.detect_selective_search(["a.jpg"])


def test_batches_are_bvlcs(arrays, tmp_path):
    found = pycaffe_cases.batched(str(tmp_path))
    expected = {name[8:]: a for name, a in arrays.items() if name.startswith("batched/")}
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], err_msg=name)


def test_debug_info_lines_are_bvlcs(tmp_path, caplog):
    caplog.set_level(logging.INFO, "caffe")
    pycaffe_cases.debug(str(tmp_path))
    assert [record.getMessage() for record in caplog.records] == RECORDED["debug"]


# ---- Net -----------------------------------------------------------------------------------------


def test_losses_of_forward_all_are_one_per_batch():
    net = net_of(
        pycaffe_cases.SPLIT
        + """
        layer { name: "sum" type: "Reduction" bottom: "square" top: "sum" }"""
    )
    net.params["fc"][0].data[...] = 1
    out = net.forward_all(data=np.ones((4, 3)))
    np.testing.assert_allclose(out["sum"], [2 * 2 * 9] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "an array for each of the inputs"),
        ({"data": np.ones((0, 3))}, "without an item"),
        ({"data": np.ones((2, 3)), "fc": np.ones((3, 2))}, "arrays of different lengths"),
    ],
)
def test_forward_all_says_what_is_wrong(arguments, message):
    with pytest.raises(caffe.CaffeError, match=message):
        net_of(pycaffe_cases.SPLIT).forward_all(**arguments)


def test_ids_point_into_the_lists():
    net = net_of(pycaffe_cases.DEBUG)
    names = net._blob_names
    for index, layer in enumerate(net._layer_names):
        assert [names[i] for i in net._top_ids(index)] == net.top_names[layer]
        assert [names[i] for i in net._bottom_ids(index)] == net.bottom_names[layer]
    assert [names[i] for i in net._inputs] == net.inputs == ["data"]
    assert [names[i] for i in net._outputs] == net.outputs == ["sum"]
    assert dict(zip(names, net._blob_loss_weights, strict=True)) == net.blob_loss_weights
    assert net._blobs[0] is net.blobs[names[0]]


def test_set_input_arrays_feeds_a_memory_data_layer():
    net = net_of("""layer { name: "m" type: "MemoryData" top: "data" top: "label"
        memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }""")
    data = np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3)
    net.set_input_arrays(data, np.arange(4, dtype=np.float32))
    for part in (slice(0, 2), slice(2, 4), slice(0, 2)):
        out = net.forward()
        np.testing.assert_array_equal(out["data"], data[part])
        np.testing.assert_array_equal(out["label"].ravel(), np.arange(4)[part])
    with pytest.raises(caffe.CaffeError, match="must be a MemoryData; this net's is 'data' "):
        net_of(pycaffe_cases.SPLIT).set_input_arrays(data, np.zeros(4))


def test_hdf5_weights_come_back_under_any_name(tmp_path):
    net, other = net_of(pycaffe_cases.DEPLOY), net_of(pycaffe_cases.DEPLOY)
    net.params["conv"][0].data[...] = np.random.RandomState(0).randn(4, 3, 3, 3)
    path = str(tmp_path / "weights")
    net.save_hdf5(path)
    assert (tmp_path / "weights").read_bytes().startswith(b"\x89HDF")
    other.load_hdf5(path)
    np.testing.assert_array_equal(other.params["conv"][0].data, net.params["conv"][0].data)


def test_debug_info_can_be_switched():
    net, calls = net_of(pycaffe_cases.DEBUG), []
    assert net.debug_info
    net.debug_info = False
    net.after_forward(calls.append)
    net.forward()
    assert calls == [0, 1, 2, 3] and not net.debug_info


# ---- the rest ------------------------------------------------------------------------------------


def test_timer(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("caffe.timer.time", SimpleNamespace(perf_counter=lambda: now[0]))
    timer = caffe.Timer()
    assert timer.ms == 0
    timer.start()
    now[0] += 0.02
    timer.stop()
    now[0] += 0.03
    assert timer.ms == pytest.approx(20)
    timer.start()
    now[0] += 0.001
    assert timer.ms == pytest.approx(1)


def test_log_lines_have_glogs_form(capsys, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "0")
    handler = caffe.init_log()
    try:
        caffe.log("Using devices 0")
        glog.say("net", "bad", logging.ERROR)
        assert caffe.init_log(2) is not handler
        caffe.log("not shown")
    finally:
        glog.logger.handlers.clear()
        glog._handlers.clear()
    first, second = capsys.readouterr().err.splitlines()
    stamp = r"\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ "
    assert_matches(rf"I{stamp}_caffe\.cpp:\d+\] Using devices 0", first)
    assert_matches(rf"E{stamp}net\.cpp:\d+\] bad", second)


def assert_matches(pattern, text):
    import re

    assert re.fullmatch(pattern, text), text


def test_log_can_go_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    handler = caffe.init_log(0, False)
    try:
        caffe.log("to the file")
    finally:
        glog.logger.removeHandler(handler)
        glog._handlers.clear()
        handler.close()
    (path,) = tmp_path.iterdir()
    assert ".log.INFO." in path.name and path.read_text().endswith("] to the file\n")


def test_python_layers_need_no_setup(tmp_path, monkeypatch):
    (tmp_path / "bare_layer.py").write_text(
        "import caffe\n"
        "class Double(caffe.Layer):\n"
        "    def reshape(self, bottom, top):\n"
        "        top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top):\n"
        "        top[0].data[...] = 2 * bottom[0].data\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    net = net_of("""layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 } } }
        layer { name: "p" type: "Python" bottom: "d" top: "p"
                python_param { module: "bare_layer" layer: "Double" } }""")
    np.testing.assert_array_equal(net.forward(d=np.array([1, 2]))["p"], [2, 4])


def test_set_multiprocess_refuses_several_solvers_in_one_process():
    caffe.set_multiprocess(True)
    caffe.set_multiprocess(False)
    caffe.set_solver_count(2)
    try:
        with pytest.raises(caffe.CaffeError, match="2 solvers in one process"):
            caffe.set_multiprocess(False)
    finally:
        caffe.set_solver_count(1)


NET = """name: "g" layer { name: "data" type: "Data" top: "data" top: "label"
    include { phase: TRAIN } data_param { batch_size: 3 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
    convolution_param { num_output: 4 kernel_h: 3 kernel_w: 5 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }"""


def test_dot_text_has_every_layer_blob_and_arrow():
    param = parse_text(NET, caffe_pb2.NetParameter())
    text = draw.get_dot_text(param, "LR")
    assert text.count("->") == 2 + 2 + 2 + 3  # one for every bottom and top
    assert text.count("shape=") == 4 + 4
    assert '"layer:conv" -> "blob:conv" [label="4"]' in text
    assert "kernel size: 3x5" in text and "#90EE90" in text
    assert '"layer:data"' not in draw.get_dot_text(param, "LR", phase=caffe.TEST)


def test_drawing_writes_dot_and_names_graphviz(tmp_path, monkeypatch):
    param = parse_text(NET, caffe_pb2.NetParameter())
    draw.draw_net_to_file(param, str(tmp_path / "net.dot"))
    assert (tmp_path / "net.dot").read_text() == draw.get_dot_text(param, "LR")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(caffe.CaffeError, match="drawing a png needs Graphviz"):
        draw.draw_net_to_file(param, str(tmp_path / "net.png"))
    dot = tmp_path / "dot"
    dot.write_text('#!/bin/sh\necho "$1"\n/bin/cat\n')
    dot.chmod(0o755)
    assert draw.draw_net(param, "LR", "svg") == b"-Tsvg\n" + draw.draw_net(param, "LR", "raw")
    dot.write_text("#!/bin/sh\necho no such format >&2\nexit 1\n")
    with pytest.raises(caffe.CaffeError, match="dot -Txyz: no such format"):
        draw.draw_net(param, "LR", "xyz")


# ---- several processes ---------------------------------------------------------------------------

TRAINED = """
train_net: "{net}" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 3 snapshot: 2
snapshot_prefix: "{folder}/rank{rank}" random_seed: {rank} {more}
"""
REGRESSION = """
layer { name: "data" type: "Input" top: "data" top: "target"
        input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { name: "w" }
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }
"""


def train_as(rank, count, folder, uid, more):
    """Train on this rank's part of the batch; save the parameters."""
    torch.set_num_threads(1)
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    glog.logger.addHandler(logging.NullHandler())
    net, path = (Path(folder) / f"{name}{count}_{rank}.prototxt" for name in ("net", "solver"))
    net.write_text(REGRESSION.replace("dim: 2 dim", f"dim: {4 // count} dim"))
    path.write_text(TRAINED.format(net=net, folder=folder, rank=rank, more=more))
    solver = caffe.SGDSolver(str(path))
    if uid:
        nccl = caffe.NCCL(solver, uid)
        nccl.bcast()
        solver.add_callback(nccl)
        solver.net.after_backward(nccl)
    else:
        solver.net.params["fc"][0].data[...] = np.load(Path(folder) / "start.npy")
    random = np.random.RandomState(0)
    part = slice(rank * 4 // count, (rank + 1) * 4 // count)
    if rank == 0 and uid:
        np.save(Path(folder) / "start.npy", solver.net.params["fc"][0].data)
    for name in ("data", "target"):
        shape = solver.net.blobs[name].shape
        solver.net.blobs[name].data[...] = random.randn(4, shape[1])[part]
    solver.step(3)
    np.save(Path(folder) / f"end{count}_{rank}.npy", solver.net.params["fc"][0].data)


@pytest.mark.parametrize("more", ["", "iter_size: 2"])
def test_two_processes_train_as_one_on_the_whole_batch(tmp_path, more):
    uid = caffe.NCCL.new_uid()
    context = multiprocessing.get_context("spawn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranks = [
            context.Process(target=train_as, args=(rank, 2, str(tmp_path), uid, more))
            for rank in range(2)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    try:
        train_as(0, 1, str(tmp_path), None, more)
    finally:
        caffe.set_solver_count(1)
    ends = [np.load(tmp_path / f"end{name}.npy") for name in ("2_0", "2_1", "1_0")]
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_allclose(ends[0], ends[2], rtol=1e-5)
    assert sorted(p.name for p in tmp_path.glob("*.solverstate")) == ["rank0_iter_2.solverstate"]
