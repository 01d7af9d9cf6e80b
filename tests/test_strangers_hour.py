"""A stranger's first hour in a minute: the commands of README.md's first screen, on 200 photos.

Nothing is called but what stands there, and what those commands say is to be typed next.
"""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from relaybp.data_prep.scenes import KINDS, draw
from test_train import ROOT

pytestmark = pytest.mark.heavy

CLASSES = list(KINDS)[:4]
PHOTOS = 50  # of a class
FIRST_SCREEN = 60  # lines
SHORTER = "SET=max_iter=12 snapshot=6 test_interval=6 display=2"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a clone holds, with an environment that is this one."""
    folder = tmp_path_factory.mktemp("clone") / "caffe relay"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git here, to tell what a clone holds")
    compiled = [str(path.relative_to(ROOT)) for path in ROOT.rglob("native/*.so")]
    for name in [*filter(None, listed.stdout.decode().split("\0")), *compiled]:
        if os.path.isfile(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    for name in (".ready", ".built"):
        (folder / ".venv" / name).touch()
    return folder


@pytest.fixture(scope="module")
def first_screen():
    """{target: the variables beside it} of the commands on README.md's first screen."""
    lines = (ROOT / "README.md").read_text().splitlines()[:FIRST_SCREEN]
    found = {}
    for line in lines:
        if line.startswith("make "):
            _, target, *words = shlex.split(line, comments=True)
            found.setdefault(target, set()).update(word.partition("=")[0] for word in words)
    return found


class Stranger:
    """Types commands; `said` is what the last one printed."""

    def __init__(self, folder, known):
        self.folder, self.known, self.said = folder, known, ""

    def start(self, *words):
        target, *variables = words
        unknown = {word.partition("=")[0] for word in variables} - self.known[target] - {"SET"}
        assert not unknown, f"the first screen does not tell {target} with {unknown}"
        hidden = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH", "CAFFE_ROOT", "CI")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment.update(XDG_CACHE_HOME=str(self.folder / "cache"), COLUMNS="80")
        return subprocess.Popen(
            ["make", target, *variables],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, *words, status=0):
        with self.start(*words) as process:
            self.said, _ = process.communicate(timeout=300)
        assert process.returncode == status, self.said
        assert "Traceback" not in self.said and "PYTHONPATH" not in self.said
        return self.said

    def type_and_stop(self, *words, at):
        """Press Ctrl-C, which reaches all that runs, once a line begins like `at`."""
        lines = []
        with self.start(*words) as process:
            for line in process.stdout:
                lines.append(line)
                if line.startswith(at):
                    os.killpg(process.pid, signal.SIGINT)
        self.said = "".join(lines)
        assert "Traceback" not in self.said, self.said
        return self.said


def draw_photos(folder):
    """PHOTOS of each class, and one that nobody has trained on."""
    for label, kind in enumerate(CLASSES):
        (folder / "photos" / kind).mkdir(parents=True)
        for k in range(PHOTOS + 1):
            pixels = draw(kind, np.random.RandomState(9000 + 1000 * label + k))
            name = f"photos/{kind}/{k}.jpg" if k < PHOTOS else f"new/{kind}.jpg"
            (folder / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name), cv2.resize(pixels, (160, 120)))


def test_from_a_clone_to_a_net_for_use_elsewhere(checkout, first_screen):
    onnxruntime = pytest.importorskip("onnxruntime")
    draw_photos(checkout)
    stranger = Stranger(checkout, first_screen)
    begun = time.monotonic()

    words = ["train", "MODEL=resnet20_relay", "DATA=photos", "PROFILE=short", SHORTER]
    said = stranger.type_and_stop(*words, at="resnet20_relay  4/12")
    assert "10 % of each class validate" in said and "Interrupted at iteration" in said
    again = next(line for line in said.splitlines() if line.endswith("go on"))
    command = shlex.split(again, comments=True)  # the whole line, as it is copied
    run = next(word for word in command if word.startswith("RUN=")).partition("=")[2]

    stranger.known["train"].add("RUN")  # as it was told
    said = stranger.type(*command[1:])
    assert "Converting" not in said and "Going on from" in said
    assert re.search(r"resnet20_relay: \d+ iterations in .* on \d+ images", said)
    for name in ("deploy.prototxt", "classes.txt", "mean.binaryproto", "plan.svg", "run.json"):
        assert (checkout / run / name).exists()
    assert (checkout / run / "classes.txt").read_text().split() == CLASSES
    nexts = said.partition("Next:\n")[2].splitlines()
    assert [shlex.split(line, comments=True)[:2] for line in nexts] == [
        ["make", name] for name in ("evaluate", "report", "classify")
    ]

    assert "on 20 images" in stranger.type("evaluate", f"RUN={run}")
    stranger.type("report", f"RUN={run}")
    assert "<html" in (checkout / run / "report.html").read_text()[:200]
    said = stranger.type("classify", f"RUN={run}", "IMAGE=new/beach.jpg")
    shown = {line.split()[0]: float(line.split()[-2]) for line in said.splitlines() if "%" in line}
    assert set(shown) == set(CLASSES) and abs(sum(shown.values()) - 100) < 0.3
    stranger.type("classify", f"RUN={run}", "IMAGE=new")
    with open(checkout / run / "classified_new.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows["new/beach.jpg"]["class1"] == max(shown, key=shown.get) and len(rows) == 4

    stranger.type("onnx", f"RUN={run}")
    session = onnxruntime.InferenceSession(str(checkout / run / "net.onnx"))
    (value,) = session.get_inputs()
    (scores,) = session.run(None, {value.name: np.zeros((2, *value.shape[1:]), np.float32)})
    assert scores.shape == (2, 4)
    print(f"{time.monotonic() - begun:.0f} s")
