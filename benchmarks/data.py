"""Images per second and core of the data layers and of their peers, side by side in one run.

    python benchmarks/data.py [--rounds 7] [--out benchmarks/results/data.txt]

Draws pictures of 256 x 341 with the statistics of photographs, stores them as JPEG and raw in two
LMDBs, and has every peer make batches of random 224 crops, randomly mirrored, with the mean
subtracted, as floats. The peers take turns. The CPU time of all their processes is measured, so
other work on the machine matters little. The spread of the rounds is printed with the medians;
"times the best DataLoader" is the median of that ratio over the rounds.
"""

import argparse
import contextlib
import json
import operator
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.data_peers import PEERS
from relaybp.data_prep.datum_db import DatumDB, encoded_datum, raw_datum
from relaybp.layers.native.build import LIBRARIES

ROOT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH = 256, 341
QUALITY = 95  # OpenCV's own, as convert_imageset -encoded uses
OURS = ("SceneData layer", "Data layer")
BVLC = "BVLC Caffe's Data layer"
TARGETS = {"jpeg": 1.5, "raw": 3.0}  # times the best DataLoader


def parser():
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--rounds", type=int, default=7, help="turns of every peer (default: 7)")
    flags.add_argument("--batches", type=int, default=16, help="batches a turn (default: 16)")
    flags.add_argument("--batch", type=int, default=64, help="images a batch (default: 64)")
    flags.add_argument("--records", type=int, default=512, help="pictures (default: 512)")
    flags.add_argument("--kinds", nargs="+", default=["jpeg", "raw"], choices=["jpeg", "raw"])
    flags.add_argument("--bvlc", help="command prefix that runs a command in BVLC Caffe")
    flags.add_argument("--out", help="file for the table, besides the screen")
    return flags


def photograph(random):
    """A picture with the spectrum, contrast and colours of a photograph, (H, W, 3) uint8."""
    y, x = np.fft.fftfreq(HEIGHT)[:, None], np.fft.fftfreq(WIDTH)[None]
    falling = 1 / np.maximum(np.hypot(y, x), 1 / WIDTH)

    def cloud(power):
        waves = np.fft.fft2(random.normal(size=(HEIGHT, WIDTH))) * falling**power
        values = np.fft.ifft2(waves).real
        return values / values.std()

    light = cloud(1.2)
    picture = np.stack([115 + 50 * (light + 0.35 * cloud(1.3)) for _ in range(3)], axis=2)
    return cv2.GaussianBlur(picture, (0, 0), 1.0).clip(0, 255).astype(np.uint8)


def write_databases(folder, count):
    """The LMDBs folder/jpeg and folder/raw; returns the mean size of a JPEG."""
    random, sizes = np.random.RandomState(0), []
    with DatumDB(folder / "jpeg", {}) as jpegs, DatumDB(folder / "raw", {}) as raws:
        for k in range(count):
            picture, key = photograph(random), b"%08d_" % k
            jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            sizes.append(len(jpeg))
            jpegs.put(key, encoded_datum(jpeg, k % 10))
            planes = picture.transpose(2, 0, 1)
            raws.put(key, raw_datum(planes.tobytes(), planes.shape, k % 10, encoded=False))
        for db in (jpegs, raws):
            db.finish(np.bincount(np.arange(count) % 10).tolist(), list(range(10)))
    return statistics.mean(sizes)


class Peer:
    """A running peer of data_peers."""

    def __init__(self, name, settings):
        command = [sys.executable]
        path = f"{ROOT}{os.pathsep}{ROOT / 'python'}"
        if name == BVLC:
            words = shlex.split(settings["bvlc"])  # the peer runs in another folder
            words = [os.path.abspath(word) if os.path.isfile(word) else word for word in words]
            command, path = [*words, "python3"], ""
        shutil.copy(ROOT / "benchmarks" / "data_peers.py", settings["folder"])
        self.images, self.log = settings["batch"], Path(settings["folder"], f"{name}.log")
        with open(self.log, "w") as log:
            self._process = subprocess.Popen(
                [*command, "data_peers.py", name, json.dumps(settings)],
                cwd=settings["folder"],
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def rate(self, batches):
        """Images per second of CPU time over so many batches."""
        with contextlib.suppress(BrokenPipeError):
            print(batches, file=self._process.stdin, flush=True)
            for line in self._process.stdout:
                if line.startswith("cost "):
                    return batches * self.images / float(line.split()[1])
        raise SystemExit(
            f"{self.log.stem} ended, exit status {self._process.wait()}:\n"
            f"{self.log.read_text()[-3000:]}"
        )

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def measure(kind, folder, options):
    """{peer: its rates}, the peers taking turns."""
    settings = {
        "db": str(folder / kind),
        "folder": str(folder),
        "batch": options.batch,
        "records": options.records,
        "bvlc": options.bvlc,
    }
    names = [name for name in PEERS if name != BVLC or options.bvlc]
    if kind == "raw":  # nothing to decode
        names = [name for name in names if "Pillow" not in name]
    peers = {name: Peer(name, settings) for name in names}
    for peer in peers.values():
        peer.rate(2 * options.batches)  # starts processes, touches all memory once
    rates = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, peer in peers.items():
            rates[name].append(peer.rate(options.batches))
    for peer in peers.values():
        peer.close()
    return rates


def report(kind, rates, size):
    """The lines of a table."""
    what = f"JPEG of {size / 1000:.0f} kB" if kind == "jpeg" else "raw"
    yield f"{HEIGHT} x {WIDTH} {what} -> random {224} crops, images per second and core"
    best = max(
        (name for name in rates if "Loader" in name),
        key=lambda name: statistics.median(rates[name]),
    )
    times = {
        name: statistics.median(map(operator.truediv, found, rates[best]))
        for name, found in rates.items()
    }  # round by round, because the machine's speed drifts
    for name, found in sorted(rates.items(), key=lambda row: -statistics.median(row[1])):
        yield (
            f"  {name:42} {statistics.median(found):8.0f}   (rounds {min(found):.0f} to "
            f"{max(found):.0f})   {times[name]:5.2f} x the best DataLoader"
        )
    reached = times[OURS[0]]
    yield f"  target {TARGETS[kind]:g} x: {'reached' if reached >= TARGETS[kind] else 'missed'}"


def hardware():
    """What it ran on, in lines."""
    import lmdb
    import PIL
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    yield f"command: python {shlex.join(sys.argv)}"
    yield f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    modules = {"torch": torch, "numpy": np, "OpenCV": cv2, "Pillow": PIL, "lmdb": lmdb}
    versions = [f"{name} {module.__version__}" for name, module in modules.items()]
    yield f"Python {platform.python_version()}, {', '.join(versions)}"
    for library in LIBRARIES:
        yield f"{library.name}: {library.state()}"


def main():
    options = parser().parse_args()
    lines = list(hardware())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        size = write_databases(Path(folder), options.records)
        for kind in options.kinds:
            lines += ["", *report(kind, measure(kind, Path(folder), options), size)]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out:
        Path(options.out).write_text(text)


if __name__ == "__main__":
    main()
