"""Settings of the test run.

--gpu N runs every net on that GPU; --arrays: see array_modes; --replay records and replays every
pass, the first included; --require-native refuses to skip the tests of compiled code.
"""

import os
import signal

import pytest
import torch

import array_modes
import caffe
import in_force
import kernel_cases
import recorded
from caffe.kernels import choice, cpu, native
from caffe_plain import glog
from caffe_plain.cores import usable_cores
from relaybp import layers

# processes of pytest-xdist share the cores; those that they start do, too
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = usable_cores() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    torch.set_num_threads(max(1, cores))
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores))

# also fills every tensor from torch.empty with NaN, so that reading one before writing shows
torch.use_deterministic_algorithms(True)


choice.set_measured(False)  # the same bits in every run


def pytest_addoption(parser):
    parser.addoption("--gpu", type=int, help="run the nets of the tests on this GPU")
    parser.addoption("--arrays", choices=array_modes.MODES, help="hold or read all arrays of nets")
    parser.addoption("--replay", action="store_true", help="record and replay every pass of nets")
    parser.addoption(
        "--require-native", action="store_true", help="an error where kernels are not compiled"
    )


def pytest_configure(config):
    if config.getoption("--require-native"):
        in_force.require_kernels()
    gpu = config.getoption("--gpu")
    if gpu is not None:
        if gpu >= caffe.gpu_count():
            raise pytest.UsageError(
                f"--gpu {gpu}: PyTorch {torch.__version__} sees {caffe.gpu_count()} GPUs"
            )
        torch.use_deterministic_algorithms(True, warn_only=True)  # CUDA has not all of them
        config.addinivalue_line("filterwarnings", "ignore:.*deterministic:UserWarning")


def pytest_terminal_summary(terminalreporter):
    for line in in_force.lines():
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def device_in_force(request):
    gpu = request.config.getoption("--gpu")
    if gpu is not None:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
    yield
    if gpu is not None:
        caffe.set_mode_cpu()


@pytest.fixture(autouse=True)
def arrays_looked_at(request):
    mode = request.config.getoption("--arrays")
    if mode and request.node.get_closest_marker("unlooked"):
        pytest.skip("about nets whose arrays nobody looks at")
    with array_modes.looking(mode):
        yield


@pytest.fixture(autouse=True)
def passes_replayed(request):
    if not request.config.getoption("--replay"):
        yield
        return
    if request.node.get_closest_marker("unlooked"):
        pytest.skip("about nets whose passes run as ever")
    with recorded.recording_from(0):
        yield


@pytest.fixture
def clean_log():
    """Without the handlers that a command has set up."""
    yield
    glog.logger.handlers.clear()
    while glog._handlers:
        glog._handlers.pop().close()


@pytest.fixture
def default_sigint():
    """SIGINT raises KeyboardInterrupt, even in a suite that a shell started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def double():
    """Nets compute in double precision."""
    caffe.set_precision("fp64")
    yield
    caffe.set_precision("fp32")


@pytest.fixture(params=[1, 3])
def threads(request):
    """CPU kernels run in one thread, and in more than some work can be shared among."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project_layers():
    """The modified Split, registered as the driver does; afterwards the engine's own again."""
    own = caffe.layer_class("Split")
    layers.register(caffe)
    yield
    caffe.register_layer(own)


@pytest.fixture(params=["cpu", "gpu"])
def kernels(request):
    """A module of kernels; new tensors are created on its device."""
    if request.param == "cpu":
        if native.library() is None:
            pytest.skip(native.LIBRARY.state())
        yield cpu
        return
    if not (torch.cuda.is_available() or kernel_cases.INTERPRETED):
        pytest.skip("needs a GPU, or TRITON_INTERPRET=1")
    pytest.importorskip("triton")
    from caffe.kernels import gpu

    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        yield gpu
