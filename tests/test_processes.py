"""Several processes that train together: the same weights as one, and one end for all."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import numpy as np
import pytest

import caffe
from caffe.files.weights import read_weights

ROOT = Path(__file__).parent.parent
RECORDS, BATCH, ITERATIONS = 40, 8, 20  # BATCH: of all processes together
ENDS_WITHIN_S = 30
_started = []

NET = """
name: "small"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
        transform_param {{ scale: 0.01 mean_value: 120 }}
        data_param {{ source: "{data}" batch_size: {batch} backend: LMDB }} }}
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
        transform_param {{ scale: 0.01 mean_value: 120 }}
        data_param {{ source: "{data}" batch_size: 4 backend: LMDB }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param {{ num_output: 8 kernel_size: 3 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param {{ num_output: 8 kernel_size: 3 stride: 2
                            weight_filler {{ type: "msra" }} }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }}
layer {{ name: "aux_fc" type: "InnerProduct" bottom: "conv2" top: "aux_fc"
        include {{ phase: TRAIN }}
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux_fc" bottom: "label"
        top: "aux_loss" loss_weight: 0.3 include {{ phase: TRAIN }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""
SOLVER = """
net: "{net}" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001
max_iter: {max_iter} display: 1 test_iter: {test_iter} test_interval: {test_interval}
test_initialization: {test_first} snapshot_prefix: "{prefix}" solver_mode: CPU
{more}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a database, and with weights to start from."""
    folder = tmp_path_factory.mktemp("processes")
    random = np.random.RandomState(1)
    with (
        lmdb.open(str(folder / "lmdb"), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for index in range(RECORDS):
            pixels = np.clip(random.normal(60 + 60 * (index % 3), 30, (3, 12, 12)), 0, 255)
            datum = caffe.io.array_to_datum(pixels.astype(np.uint8), index % 3)
            transaction.put(b"%08d" % index, datum.SerializeToString())
    (folder / "start.prototxt").write_text(NET.format(data=folder / "lmdb", batch=1))
    caffe.Net(str(folder / "start.prototxt"), caffe.TRAIN).save(str(folder / "start.caffemodel"))
    return folder


def solver(folder, run, count, **settings):
    """Write the solver and net of one of `count` processes into `run`; return the solver's path."""
    (run / "net.prototxt").write_text(NET.format(data=folder / "lmdb", batch=BATCH // count))
    settings = {
        "max_iter": ITERATIONS,
        "test_iter": 2,
        "test_interval": 10,
        "test_first": "false",
        "more": f'weights: "{folder}/start.caffemodel"',
        **settings,
    }
    path = run / "solver.prototxt"
    path.write_text(SOLVER.format(net=run / "net.prototxt", prefix=run / "snap", **settings))
    return str(path)


@pytest.fixture(autouse=True)
def no_process_stays():
    """End what a failed test has left running."""
    yield
    for process in _started:
        if process.poll() is None:
            for pid in [process.pid, *children(process.pid)]:  # torchrun's have their own sessions
                os.kill(pid, signal.SIGKILL)
            process.wait()
    _started.clear()


def start(run, *command):
    """A training that runs in `run`, in a session of its own and with signals as a shell has it."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/python:{ROOT}", "OMP_NUM_THREADS": "1"}
    with (run / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=run,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    _started.append(process)
    return process


def caffe_train(run, count, path, *how):
    return start(run, str(ROOT / "tests" / "train_on_cpus.py"), str(count), path, *how)


def weights_of(run, iteration):
    return read_weights(str(run / f"snap_iter_{iteration}.caffemodel"))


def finish(process, run, seconds=300):
    """Wait for the end of a training; return its status and what it printed."""
    status = process.wait(seconds)
    return status, (run / "log").read_text()


def assert_same_weights(one, several, iteration=ITERATIONS):
    expected = dict(weights_of(one, iteration))
    found = dict(weights_of(several, iteration))
    assert {"conv1", "conv2", "fc", "aux_fc"} <= expected.keys() == found.keys()
    for name, arrays in expected.items():
        for mine, theirs in zip(found[name], arrays, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)


# ---- caffe train ---------------------------------------------------------------------------------


def assert_command_trains_as_one(folder, tmp_path, count):
    runs = tmp_path / "one", tmp_path / "several"
    for run, processes in zip(runs, (1, count), strict=True):
        run.mkdir()
        process = caffe_train(run, processes, solver(folder, run, processes))
        status, log = finish(process, run)
        assert status == 0, log
    assert_same_weights(*runs)


def test_two_processes_of_the_command_train_as_one(folder, tmp_path):
    assert_command_trains_as_one(folder, tmp_path, 2)


def test_two_processes_that_replay_their_passes_train_as_one(folder, tmp_path):
    runs = tmp_path / "one", tmp_path / "several"
    for run, processes, how in zip(runs, (1, 2), ([], ["replay"]), strict=True):
        run.mkdir()
        process = caffe_train(run, processes, solver(folder, run, processes), *how)
        status, log = finish(process, run)
        assert status == 0, log
    # of forward and backward in training and of forward in tests; backward in several parts
    recordings, steps = map(int, re.search(r"(\d+) recordings of (\d+) steps", log).groups())
    assert recordings >= 2 and steps >= recordings + 4
    assert_same_weights(*runs)


@pytest.mark.heavy
def test_four_processes_of_the_command_train_as_one(folder, tmp_path):
    assert_command_trains_as_one(folder, tmp_path, 4)


def children(pid):
    """The processes that take part in a training, other than its first."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        line = Path(f"/proc/{child}/cmdline").read_bytes()
        if any(name in line for name in (b"spawn_main", b"train.py", b"relaybp")):
            found.append(int(child))
    return found


def wait_for(log, text, seconds=300):
    """Wait until the file `log` contains `text`."""
    until = time.monotonic() + seconds
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < until, f"{log}: does not say {text!r}"
        time.sleep(0.05)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pids, since, log):
    """Within ENDS_WITHIN_S of a moment no process is left."""
    while not all(map(is_gone, pids)):
        assert time.monotonic() < since + ENDS_WITHIN_S, log
        time.sleep(0.05)


def end_by(folder, run, number, rank, endless):
    """Send a signal to one rank of two; return the status of the first and the log."""
    process = caffe_train(run, 2, solver(folder, run, 2, **endless))
    wait_for(run / "log", "Iteration 3" if "test_first" not in endless else "Testing net")
    pids = [process.pid, *children(process.pid)]
    assert len(pids) == 2
    sent = time.monotonic()
    os.kill(pids[rank], number)
    status, log = finish(process, run, ENDS_WITHIN_S)
    wait_until_gone(pids, sent, log)
    return status, log


TRAINING = {"max_iter": 10**7, "test_interval": 10**7}
TESTING = {"max_iter": 10**7, "test_iter": 10**7, "test_interval": 10**7, "test_first": "true"}


@pytest.mark.parametrize(
    "number, rank, endless, expected",
    [
        (signal.SIGINT, 0, TRAINING, 0),
        (signal.SIGINT, 1, TRAINING, 0),
        (signal.SIGTERM, 1, TRAINING, 128 + signal.SIGTERM),
        (signal.SIGTERM, 1, TESTING, 128 + signal.SIGTERM),
        (signal.SIGKILL, 1, TRAINING, 1),
        (signal.SIGKILL, 1, TESTING, 1),
    ],
)
def test_what_ends_one_process_ends_all_with_a_snapshot(
    folder, tmp_path, number, rank, endless, expected
):
    status, log = end_by(folder, tmp_path, number, rank, endless)
    assert status == expected, log
    if number == signal.SIGKILL:
        assert "process of rank 1 ended with status -9" in log
    (state,) = tmp_path.glob("snap_iter_*.solverstate")
    resumed = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    resumed.restore(str(state))
    assert (resumed.iter == 0) == (endless is TESTING)
    before = resumed.iter
    resumed.param.test_initialization = False
    resumed.param.test_interval = 0
    resumed.step(1)
    assert resumed.iter == before + 1


def test_the_end_of_the_first_process_ends_the_others(folder, tmp_path):
    status, _ = end_by(folder, tmp_path, signal.SIGKILL, 0, TRAINING)
    assert status == -signal.SIGKILL


def test_a_process_that_hangs_does_not_keep_the_others_from_ending(folder, tmp_path):
    process = caffe_train(tmp_path, 2, solver(folder, tmp_path, 2, **TRAINING))
    wait_for(tmp_path / "log", "Iteration 3")
    (other,) = children(process.pid)
    os.kill(other, signal.SIGSTOP)
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    status, log = finish(process, tmp_path, ENDS_WITHIN_S)
    assert status == 1 and "process 0 of 2 lost another one" in log
    wait_until_gone([other], sent, log)
    assert len(list(tmp_path.glob("snap_iter_*.solverstate"))) == 1, log


# ---- the relay driver ----------------------------------------------------------------------------

SCHEDULES = {
    "RELAY": 'flow { loss: "loss" to: "conv2" } flow { loss: "aux_loss" to: "conv1" }',
    "JOINT": "schedule: JOINT",
    "PAIR_WISE": "schedule: PAIR_WISE",
    "MULTI_WAY": "schedule: MULTI_WAY",
}


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def relay_train(run, count, path, schedule="RELAY", *more, launcher=()):
    (run / "relay.prototxt").write_text(SCHEDULES[schedule])
    gpus = "none" if launcher else ",".join(["none"] * count)
    return start(
        run,
        *launcher,
        *(str(ROOT / "tools" / "train.py"), "--gpu", gpus, "--solver", path),
        *("--relay", str(run / "relay.prototxt"), "--out", str(run), *more),
    )


def assert_driver_trains_as_one(folder, tmp_path, count, schedule, *more):
    runs = tmp_path / "one", tmp_path / "several"
    for run, processes in zip(runs, (1, count), strict=True):
        run.mkdir()
        process = relay_train(run, processes, solver(folder, run, processes), schedule, *more)
        status, log = finish(process, run)
        assert status == 0, log
    assert_same_weights(*runs)


def test_two_processes_of_the_driver_train_as_one(folder, tmp_path):
    assert_driver_trains_as_one(folder, tmp_path, 2, "RELAY")


@pytest.mark.heavy
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("more", [(), ("--no-fuse",)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_trains_in_several_processes_as_in_one(
    folder, tmp_path, count, schedule, more
):
    assert_driver_trains_as_one(folder, tmp_path, count, schedule, *more)


@pytest.mark.parametrize(
    "number, target, endless",
    [
        (signal.SIGINT, 1, TRAINING),
        (signal.SIGTERM, 1, TESTING),
        (signal.SIGTERM, "launcher", TRAINING),
        (signal.SIGKILL, 1, TRAINING),
        (signal.SIGKILL, 1, TESTING),
    ],
)
def test_what_ends_one_process_of_the_driver_ends_all_with_a_snapshot(
    folder, tmp_path, number, target, endless
):
    launcher = TORCHRUN if target == "launcher" else ()
    path = solver(folder, tmp_path, 2, **endless)
    process = relay_train(tmp_path, 2, path, launcher=launcher)
    running = "Testing net" if endless is TESTING else "Iteration 3"
    wait_for(tmp_path / "train.log", running)
    ranks = children(process.pid)
    assert len(ranks) == 2
    sent = time.monotonic()
    os.kill(process.pid if target == "launcher" else ranks[target], number)
    status, log = finish(process, tmp_path, ENDS_WITHIN_S)
    wait_until_gone(ranks, sent, log)
    assert status != 0, log
    assert len(list(tmp_path.glob("snap_iter_*.solverstate"))) == 1, log
