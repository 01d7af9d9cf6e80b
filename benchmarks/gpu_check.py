#!/usr/bin/env python3
"""All that a GPU must show, in a quarter of an hour, written to one file.

    python benchmarks/gpu_check.py                # on GPU 0, and on GPU 1 where there are two
    python benchmarks/gpu_check.py --gpu none     # a small form on the CPU, to try this script

The tests on both GPUs run side by side, everything else by itself. The file names the machine, the
versions, each command, how it ended and the end of what it printed; it is written again after each
command. What is skipped stands there with its reason. `make gpu-check` runs this.
"""

import argparse
import datetime
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import train_step

LEAST_S = 20  # less time is not worth a start
LINES = 30  # of a command's output that are kept
TESTS = ("device", "not_finite")  # unless --tests names others, as `make gpu-check` does
STEP = ["benchmarks/train_step.py", "--precision", "bf16"]
SMALL = ["--model", "resnet56", "--size", "32", "--batch", "2", "--rounds", "1", "--steps", "1"]


class Check(NamedTuple):
    """A Python command, the seconds that it may take, and why it is skipped, if it is."""

    title: str
    command: list[str]
    limit_s: float
    skipped: str = ""


class Outcome(NamedTuple):
    """How a check ended."""

    check: Check
    result: str
    seconds: float = 0
    output: str = ""


def main():
    args = arguments()
    deadline = time.monotonic() + 60 * args.minutes
    outcomes = []
    for stage in stages(args):
        with ThreadPoolExecutor(len(stage)) as pool:
            outcomes += pool.map(lambda check: run(check, deadline), stage)
        write(args, outcomes)
    for outcome in outcomes:
        print(f"{outcome.result:<24} {outcome.seconds:5.0f} s  {outcome.check.title}")
    print(f"{args.out} holds the rest")
    sys.exit(any(outcome.result.startswith("FAILED") for outcome in outcomes))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--gpu", default="0", help="a GPU's number, or none: the small form")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="the X of tests/test_X.py")
    parser.add_argument("--minutes", type=float, default=15, help="for everything")
    parser.add_argument("--out", help="the file (gpu_check.md in benchmarks/results; none: build)")
    args = parser.parse_args()
    folder = "build" if args.gpu == "none" else "benchmarks/results"
    args.out = args.out or os.path.join(train_step.ROOT, folder, "gpu_check.md")
    return args


def stages(args):
    """Lists of Checks that run side by side, one list after another, the most telling first."""
    if args.gpu == "none":
        return small_stages(args)
    count = gpu_count()
    if int(args.gpu) >= count:
        raise SystemExit(f"--gpu {args.gpu}: PyTorch sees {count} GPUs; --gpu none needs no GPU")
    second = "" if count > 1 else "there is one GPU"
    other = "0" if args.gpu == "1" else "1"
    on = ["--gpu", args.gpu]
    resnet = [*STEP, *on, "--batch", "128", "--steps", "20"]
    return [
        [
            Check(f"tests on GPU {args.gpu}", [*tests(args), *on], 360),
            Check(f"tests on GPU {other}", [*tests(args), "--gpu", other], 360, second),
        ],
        [
            Check(
                "two processes train together",
                [
                    "tools/train.py",
                    "--model",
                    "resnet50_relay",
                    "--gpu",
                    "0,1",
                    "--set",
                    "max_iter=20",
                ],
                120,
                second,
            )
        ],
        [Check("where the time goes", ["benchmarks/gpu_profile.py", *on], 90)],
        [
            Check(
                "ResNet-50 beside PyTorch",
                [*resnet, "--methods", "standard,relay", "--peers", "caffe,eager_tuned"],
                360,
            )
        ],
        [
            Check(
                "ResNet-50 beside torch.compile",
                [*resnet, "--methods", "relay", "--peers", "caffe,compile"],
                420,
            )
        ],
    ]


def small_stages(args):
    """The same on the CPU: the tests that are about GPUs, and steps of a small net."""
    skipped = "needs a GPU"
    return [
        [Check("tests", tests(args), 600), Check("tests on GPU 1", tests(args), 0, skipped)],
        [Check("two processes train together", ["tools/train.py", "--gpu", "0,1"], 0, skipped)],
        [Check("where the time goes", ["benchmarks/gpu_profile.py"], 0, skipped)],
        [Check("a net beside PyTorch", [*STEP, *SMALL, "--peers", "caffe,eager_tuned"], 300)],
        [Check("a net beside torch.compile", [*STEP, "--peers", "compile"], 0, skipped)],
    ]


def tests(args):
    return ["-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in args.tests)]


def run(check, deadline):
    """The Outcome of a check; one that takes longer than its time is ended, with its children."""
    left_s = deadline - time.monotonic()
    if check.skipped or left_s < LEAST_S:
        return Outcome(check, "skipped: " + (check.skipped or "no time was left"))
    begun, limit_s = time.monotonic(), min(check.limit_s, left_s)
    process = subprocess.Popen(
        [sys.executable, *check.command],
        cwd=train_step.ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(("python", "."))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
        result = "passed" if process.returncode == 0 else f"FAILED: status {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        result = f"FAILED: ended after {limit_s:.0f} s"
    return Outcome(check, result, time.monotonic() - begun, output)


def gpu_count():
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def write(args, outcomes):
    """Write the file with what there is so far."""
    parts = [
        "# What a GPU shows\n",
        f"`{shlex.join(['python', *sys.argv])}`, made by `gpu_check.py`\n",
    ]
    parts += [f"- {line}" for line in machine()]
    for check, result, seconds, output in outcomes:
        lines = output.rstrip().splitlines()[-LINES:]
        parts.append(f"\n## {check.title}: {result}\n")
        if not check.skipped:
            command = shlex.join(["python", *check.command])
            parts += ["```", f"{command}   # {seconds:.0f} s", *lines, "```"]
    os.makedirs(os.path.dirname(args.out), exist_ok=True)
    with open(args.out, "w") as file:
        file.write("\n".join(parts) + "\n")


def machine():
    """Lines about the date, the commit, the hardware and the versions."""
    import torch

    commit = said_by("git", "describe", "--always", "--dirty") or "unknown"
    yield f"{datetime.date.today()}, commit {commit}"
    yield f"Python {platform.python_version()}, {train_step.hardware()}"
    yield f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {triton()}"
    query = "--query-gpu=index,name,memory.total,driver_version"
    yield from said_by("nvidia-smi", query, "--format=csv,noheader").splitlines() or ["no GPU"]


def triton():
    try:
        import triton
    except ImportError:
        return "no Triton"
    return f"Triton {triton.__version__}"


def said_by(*command):
    """What a program prints; nothing if it cannot run."""
    try:
        done = subprocess.run(
            command, cwd=train_step.ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    main()
