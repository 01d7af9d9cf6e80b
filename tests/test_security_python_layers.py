"""Python layers from elsewhere, which a stranger's prototxt must not run in a command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import caffe
from caffe.command import draw_net, summarize
from caffe.command import main as command
from caffe.files.text import read_net
from caffe_plain import python_layers
from relaybp.evaluation.identity import net_of_run

ROOT = Path(__file__).parents[1]

LAYER = """
import caffe
print("ran", __name__)
class Twice(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom): pass
"""
SOLVER = 'net: "{}" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_after_train: false'


def python_net(path, module, layer="Twice"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        """layer { name: "in" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }
        layer { name: "evil" type: "Python" bottom: "x" top: "y" python_param { """
        f'module: "{module}" layer: "{layer}" }} }}'
    )
    return path


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Folders with a module each, of which `path` is on Python's path, as the current one is."""
    for folder in ("beside", "allowed", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"in_{folder}.py").write_text(LAYER)
    (tmp_path / "beside" / "json").mkdir()  # names that Python itself has
    (tmp_path / "beside" / "google").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "path"), *sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("in_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "module, where",
    [
        ("in_path", "path"),
        ("os", ""),
        ("sys", "Python itself"),
        ("json.tool", "lib"),
        ("google.protobuf.message", "packages"),
        ("relaybp.commands.train", ""),
        ("relaybp.layers_of_mine", ""),
        ("__main__", ""),
    ],
)
def test_a_prototxt_names_no_module_from_elsewhere(modules, capsys, module, where):
    net = python_net(modules / "beside" / "net.prototxt", module)
    assert command.main(["time", "-model", str(net), "-iterations", "1"]) == 1
    shown = capsys.readouterr()
    assert re.search(rf"layer 'evil' \(Python\): module '{module}' lies in .*{where}", shown.err)
    assert "-python_layers FOLDER, or CAFFE_PYTHON_LAYERS=FOLDER" in shown.err
    assert "ran" not in shown.out


def test_what_stands_in_for_a_known_module_runs_nothing_from_elsewhere(modules, capsys):
    """CTPN's layers.text_proposal_layer, where a package `layers` of others is on the path."""
    (modules / "path" / "layers").mkdir()
    (modules / "path" / "layers" / "__init__.py").write_text("print('ran')")
    known = "layers.text_proposal_layer"
    refused = f"'{known}' lies in .*path"
    for layer, complaint in [("ProposalLayer", "expected \"'feat_stride"), ("Other", refused)]:
        net = python_net(modules / "beside" / "net.prototxt", known, layer)
        assert command.main(["time", "-model", str(net), "-iterations", "1"]) == 1
        shown = capsys.readouterr()
        assert re.search(complaint, shown.err) and "ran" not in shown.out
    (modules / "path" / "layers" / "text_proposal_layer.py").write_text(LAYER)
    python_net(net, known, "ProposalLayer")
    assert command.main(["time", "-model", str(net), "-iterations", "1"]) == 1
    assert re.search(refused, capsys.readouterr().err)


def test_it_names_modules_of_its_folder_and_of_those_allowed(modules, capsys, monkeypatch):
    beside = python_net(modules / "beside" / "net.prototxt", "in_beside")
    allowed = python_net(modules / "beside" / "other.prototxt", "in_allowed")
    time = ["time", "-iterations=1", "-model"]
    assert command.main([*time, "beside/net.prototxt"]) == 0
    assert command.main([*time, str(allowed)]) == 1
    assert "cannot import module 'in_allowed'" in capsys.readouterr().err
    assert command.main([*time, str(allowed), "-python_layers", "allowed"]) == 0
    monkeypatch.setenv(python_layers.VARIABLE, f"nowhere{os.pathsep}{modules / 'allowed'}")
    assert command.main([*time, str(allowed)]) == 0
    assert summarize.main([str(allowed)]) == 0
    assert draw_net.main([str(python_net(beside, "os")), "net.dot"]) == 0  # which builds no net


def test_the_projects_own_layers_are_allowed(modules, capsys):
    net = python_net(modules / "beside" / "net.prototxt", "relaybp.layers.scene_data", "SceneData")
    assert command.main(["time", "-model", str(net), "-iterations", "1"]) == 1
    assert "lies in" not in (shown := capsys.readouterr().err) and "SceneData" in shown


@pytest.mark.parametrize("field", ["net", "net_param"])
def test_nets_of_solvers_name_no_module_from_elsewhere(modules, capsys, field):
    net = python_net(modules / "beside" / "net.prototxt", "in_path")
    text = SOLVER.format(net)
    if field == "net_param":
        text = text.replace(f'net: "{net}"', f"net_param {{ {net.read_text()} }}")
    (modules / "solver.prototxt").write_text(text)
    assert command.main(["train", "-solver", "solver.prototxt"]) == 1
    assert "module 'in_path' lies in" in capsys.readouterr().err


def test_a_net_without_a_file_names_no_module_from_elsewhere(modules, capsys):
    param = read_net(str(python_net(modules / "beside" / "net.prototxt", "in_path")))
    with python_layers.restricted(), pytest.raises(caffe.LayerError, match="'in_path' lies in"):
        caffe.Net(param, caffe.TEST)
    assert "ran" not in capsys.readouterr().out
    with python_layers.restricted(str(modules / "path")):
        caffe.Net(param, caffe.TEST)


def test_a_runs_folder_may_hold_its_layers(modules, capsys):
    """The net that is tested is composed elsewhere."""
    net = python_net(modules / "beside" / "net.prototxt", "in_beside")
    (modules / "beside" / "solver.prototxt").write_text(f'net: "{net}"')
    with python_layers.restricted():
        param = net_of_run(caffe.proto.caffe_pb2, str(modules / "beside"))
        caffe.Net(param, caffe.TEST)
    assert "ran in_beside" in capsys.readouterr().out


def test_a_users_own_script_is_free(modules):
    net = caffe.Net(str(python_net(modules / "beside" / "net.prototxt", "in_path")), caffe.TEST)
    assert net.forward()["y"].shape == (1,)


@pytest.mark.parametrize(
    "arguments",
    [
        ["tools/export_onnx.py", "NET", "none.caffemodel", "out.onnx"],
        ["tools/plan.py", "--no-picture", "--net", "NET"],
        ["-m", "relaybp", "plan", "--no-picture", "--net", "NET"],
        ["tools/train.py", "--gpu", "none", "--out", "run", "--solver", "SOLVER"],
    ],
)
def test_tools_name_no_module_from_elsewhere(modules, arguments):
    net = python_net(modules / "beside" / "net.prototxt", "in_path")
    (modules / "solver.prototxt").write_text(SOLVER.format(net))
    files = {"NET": str(net), "SOLVER": "solver.prototxt"}
    words = [
        str(ROOT / word) if word[:5] == "tools" else files.get(word, word) for word in arguments
    ]
    search = os.pathsep.join(map(str, [ROOT / "python", ROOT, modules / "path"]))
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "module 'in_path' lies in" in done.stderr and "ran" not in done.stdout
