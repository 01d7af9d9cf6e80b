"""caffe_plain: what the engine, the driver, the layers and the data tools share."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError, ParseError
from caffe_plain.means import mean_outputs
from caffe_plain.settings import apply_setting
from caffe_plain.signals import Signals

PACKAGE = Path(__file__).parent.parent / "python" / "caffe_plain"


def test_every_module_is_imported_without_torch_and_caffe():
    names = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
    code = "import sys; sys.modules.update(torch=None, caffe=None)\n" + "".join(
        f"import caffe_plain.{name}\n" for name in names
    )
    environment = dict(os.environ, PYTHONPATH=str(PACKAGE.parent))
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("base_lr=0.5", {"base_lr": 0.5, "stepvalue": [9], "net": "old"}),
        ("stepvalue=1,2,3", {"base_lr": 1.0, "stepvalue": [1, 2, 3], "net": "old"}),
        ("stepvalue=", {"base_lr": 1.0, "stepvalue": [], "net": "old"}),
        ("net=a b", {"base_lr": 1.0, "stepvalue": [9], "net": "a b"}),
        ('net=a,"b\\', {"base_lr": 1.0, "stepvalue": [9], "net": 'a,"b\\'}),
    ],
)
def test_a_setting_changes_one_field(setting, expected):
    param = caffe_pb2.SolverParameter(base_lr=1, stepvalue=[9], net="old")
    apply_setting(param, setting, "-set")
    assert param == caffe_pb2.SolverParameter(**expected)


@pytest.mark.parametrize("setting", ["base_l=1", "base_lr"])
def test_a_setting_without_a_known_field_names_the_flag_and_the_message(setting):
    with pytest.raises(ParseError, match=rf"^--set {setting}: .* of SolverParameter; did you mean"):
        apply_setting(caffe_pb2.SolverParameter(), setting, "--set")


@pytest.mark.parametrize(
    "setting", ["base_lr=", "max_iter=", "net=", "solver_mode=", "test_compute_loss="]
)
def test_a_setting_without_a_value_is_an_error(setting):
    param = caffe_pb2.SolverParameter(base_lr=1, net="old")
    with pytest.raises(ParseError, match=f"^-set {setting}: no value; expected {setting}VALUE"):
        apply_setting(param, setting, "-set")
    assert param == caffe_pb2.SolverParameter(base_lr=1, net="old")


def test_a_text_may_be_cleared_where_that_means_something():
    param = caffe_pb2.SolverParameter(base_lr=1, net="old")
    apply_setting(param, "net=", "--scene", clears_text=True)
    assert param == caffe_pb2.SolverParameter(base_lr=1)
    with pytest.raises(ParseError, match="no value; expected base_lr=VALUE"):
        apply_setting(param, "base_lr=", "--scene", clears_text=True)


@pytest.mark.parametrize(
    "setting",
    ["base_lr=0.1,0.2", "base_lr=0.1 max_iter: 5", "base_lr=nan", "max_iter=1.5", "stepvalue=1,,2"],
)
def test_a_setting_holds_one_value_of_its_field(setting):
    with pytest.raises(ParseError, match=f"^-set {setting}: "):
        apply_setting(caffe_pb2.SolverParameter(), setting, "-set")


def test_a_setting_is_looked_for_in_the_first_message_that_has_it():
    solver, net = caffe_pb2.SolverParameter(), caffe_pb2.NetParameter()
    for setting in ("name=n", "debug_info=true"):
        apply_setting(solver, setting, "-set", net)
    assert net == caffe_pb2.NetParameter(name="n") and solver.debug_info
    with pytest.raises(ParseError, match="SolverParameter or NetParameter; did you mean 'name'"):
        apply_setting(solver, "nam=n", "-set", net)


# ---- signals -------------------------------------------------------------------------------------


def test_each_signal_has_the_effect_that_it_was_given():
    with Signals({signal.SIGUSR1: "stop", signal.SIGHUP: "none"}) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.requested() is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert [signals.requested() for _ in range(2)] == ["stop", None]


def test_an_unknown_effect_is_an_error():
    with pytest.raises(CaffeError, match="invalid signal effect 'halt'; expected one of snapshot"):
        Signals({signal.SIGINT: "halt"})


# ---- means ---------------------------------------------------------------------------------------


class Counting:
    """A net whose every pass adds one to its output."""

    layers, outputs = [SimpleNamespace(type="Input"), SimpleNamespace(type="Power")], ["count"]
    _layer_names = ["data", "count"]

    def __init__(self):
        self.blobs = {"count": SimpleNamespace(data=np.array([0, 10], np.float32))}

    def _forward(self, start, end):
        assert (start, end) == (0, 1)
        self.blobs["count"].data += 1
        return 2 * float(self.blobs["count"].data[0])


def test_outputs_are_averaged_over_the_batches():
    seen = []
    loss, means = mean_outputs(Counting(), 4, observe=seen.append)
    assert (loss, seen) == (5, [0, 1, 2, 3])
    assert means["count"].tolist() == [2.5, 12.5]
    assert means["count"].dtype == np.float64


def test_a_test_that_ends_early_has_no_means():
    net = Counting()
    assert mean_outputs(net, 9, lambda: net.blobs["count"].data[0] < 2) is None
    assert net.blobs["count"].data[0] == 2, "passes"
    assert mean_outputs(net, 0) == (0, {})
