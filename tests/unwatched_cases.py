"""Trainings in processes of their own, forked from one that has imported everything: a start takes
a tenth of a second, so that hundreds can be killed."""

import contextlib
import csv
import ctypes
import functools
import multiprocessing
import os
import resource
import signal
import socket
import sys
from multiprocessing import forkserver
from pathlib import Path

from google.protobuf import text_format

from caffe.kernels import choice
from caffe.proto import caffe_pb2
from caffe_plain.errors import CaffeError
from relaybp import identity, snapshots
from relaybp.__main__ import run as relay
from relaybp.commands import train  # noqa: F401  imported before the processes are forked
from relaybp.planning import picture  # noqa: F401
from relaybp.relay_solver import RelaySolver
from relaybp.run_plan import Plan
from relaybp.scores import Scores
from test_train import NET, write_database

RELAYS = {
    "RELAY": 'flow { loss: "loss" to: "conv2" } flow { loss: "aux_loss" to: "conv1" }',
    "MULTI_WAY": "schedule: MULTI_WAY",
}
SETTINGS = {
    "base_lr": 0.01,
    "lr_policy": "fixed",
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "max_iter": 40,
    "display": 1,
    "snapshot": 4,
    "random_seed": 3,
    "test_iter": [3],
    "test_interval": 10,
}
FORKS = multiprocessing.get_context("forkserver")

choice.set_measured(False)  # here and in what is forked: separate runs are compared bit by bit


@functools.cache
def import_everything():
    """Start the process that all trainings are forked from.

    NOTE: Python before 3.12 imports what is preloaded only from its environment's path.
    """
    before = dict(os.environ)
    os.environ.update(PYTHONPATH=os.pathsep.join(sys.path), OMP_NUM_THREADS="1")
    FORKS.set_forkserver_preload(["unwatched_cases"])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def make(folder, relay="RELAY", **settings):
    """Write the data and files of a training in `folder`; it goes to folder/run."""
    (folder / "data").mkdir(parents=True)
    write_database(folder / "data" / "train_lmdb", 50, 1)
    write_database(folder / "data" / "val_lmdb", 18, 2)
    net = NET.replace('name: "relu1"', 'name: "drop1"').replace(
        'type: "ReLU" bottom: "conv1"', 'type: "Dropout" bottom: "conv1"'
    )
    (folder / "net.prototxt").write_text(net)
    param = caffe_pb2.SolverParameter(
        net="net.prototxt", snapshot_prefix="run/small", **{**SETTINGS, **settings}
    )
    (folder / "solver.prototxt").write_text(text_format.MessageToString(param))
    (folder / "relay.prototxt").write_text(RELAYS[relay])
    return folder


class Training:
    """`relay train` of what `make` wrote, with more words, in as many processes as `ranks` says.

    at: (phase, signal) that one of them, number `rank`, sends itself, with None an error; fault:
    one of FAULTS, in force from that phase on. They print to folder/printed.
    """

    def __init__(self, folder, *words, at=None, fault="none", ranks=1, rank=0):
        self.folder = folder
        files = ["--solver", "solver.prototxt", "--relay", "relay.prototxt"]
        words = ["--gpu", "none", *files, "--out", "run", "--snapshot", "auto", *words]
        import_everything()
        environments = group_of(ranks) if ranks > 1 else [{}]
        self.processes = [
            FORKS.Process(
                target=_run, args=(folder, words, at if k == rank else None, fault, environment)
            )
            for k, environment in enumerate(environments)
        ]
        for process in self.processes:
            process.start()

    def wait(self, seconds=120):
        """The exit status of the first process, as a shell has it, when all have ended."""
        for process in self.processes:
            process.join(seconds)
            assert process.exitcode is not None, "it does not end"
        code = self.processes[0].exitcode
        return code if code >= 0 else 128 - code

    def kill(self, after):
        """End it with SIGKILL after some seconds; whether it was still running."""
        self.processes[0].join(after)
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        return self.processes[0].exitcode == -signal.SIGKILL

    @property
    def text(self):
        return (self.folder / "printed").read_text()


def group_of(count):
    """What torchrun tells each of some processes that train together on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    same = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    same |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count))
    return [same | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(count)]


def _run(folder, words, at, fault, environment):
    os.chdir(folder)
    output = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.environ.update(environment)
    obey_modes()
    if at:
        send_in(*at, FAULTS[fault])
    relay("train", words)


def obey_modes():
    """Give up root's right to write where the modes of files forbid it (Linux)."""
    version_3, no_rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(version_3, no_rights)


# ---- faults --------------------------------------------------------------------------------------

LARGEST_BYTES = 4000  # of a file on a full disk: less than the weights, more than run.json


def close_the_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    for number in (1, 2):
        os.dup2(writing, number)


def fill_the_logs():
    """What is printed and logged goes to a full disk."""
    full = os.open("/dev/full", os.O_WRONLY)
    logs = [Path("run", name) for name in ("metrics.csv", "train.log")]
    for path in Path("/proc/self/fd").iterdir():
        if os.path.basename(os.path.realpath(path)) in ("printed", *(log.name for log in logs)):
            os.dup2(full, int(path.name))
    for log in logs:
        if not log.exists():  # yet
            log.symlink_to("/dev/full")


def fill_the_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_BYTES, LARGEST_BYTES))


def lock_the_folder():
    os.chmod("run", 0o555)


def fill_the_file_system():
    with contextlib.suppress(OSError), open("run/filling", "wb", buffering=0) as file:
        while file.write(b"0" * 512):
            pass


def repair(folder):
    """Undo what has been done to the folder of a run."""
    run = folder / "run"
    run.chmod(0o755)
    for path in run.iterdir():
        if path.is_symlink() or path.name == "filling":
            path.unlink()


FAULTS = {
    "none": lambda: None,
    "closed pipe": close_the_pipe,
    "full logs": fill_the_logs,
    "full disk": fill_the_disk,
    "full file system": fill_the_file_system,  # for a small one
    "read-only folder": lock_the_folder,
}


# ---- phases --------------------------------------------------------------------------------------

PHASES = {  # what is called in each, and its how manieth call sends the signal
    "start": (Plan, "save", 1),
    "iteration": (RelaySolver, "_on_loss", 6),
    "update": (RelaySolver, "_on_gradients", 12),  # of two in each iteration
    "test": (Scores, "observe", 5),
    "snapshot": (snapshots, "seal", 2),
}


def send_in(phase, number, fault=lambda: None):
    """Let this process send itself a signal in a phase, after a fault; None: let an error come."""
    where, name, call = PHASES[phase]
    whole, calls = getattr(where, name), []

    @functools.wraps(whole)
    def sends(*arguments):
        calls.append(name)
        if len(calls) == call:
            fault()
        if len(calls) == call and number is None:
            raise CaffeError("a broken layer")
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return whole(*arguments)

    setattr(where, name, sends)


def weights(folder, iteration=SETTINGS["max_iter"]):
    return (folder / "run" / f"small_iter_{iteration}.caffemodel").read_bytes()


def rows(folder):
    """Those of metrics.csv, without the speed."""
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return [row for row in csv.reader(file) if row[2] != "images/s"]


def state(folder):
    record = identity.read(str(folder / "run"))
    return record["state"], record["iteration"]
