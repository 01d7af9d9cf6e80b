"""Damaged files and prototxts: nothing but the project's errors, within a GiB and a few seconds.

tests/fuzz.py makes and tries them, in a process of its own that its limits can end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fuzz

ROOT = Path(__file__).parents[1]
SEARCH_PATH = os.pathsep.join(map(str, [ROOT / "python", ROOT, ROOT / "tests"]))
SHORT = {"nets": 200, "solvers": 60, "weights": 120, "states": 80, "records": 120}
SHORT.update(archives=60, hdf5=60)


def run(folder, counts, seed):
    """What the fuzzer counted, {kind: {"refused": n, "accepted": n}}, for {kind: how many}."""
    program = f"import fuzz\nfor kind, count in {counts}.items(): fuzz.main(kind, count, {seed})"
    environment = {**os.environ, "PYTHONPATH": SEARCH_PATH, "GLOG_minloglevel": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True
    )
    assert not done.returncode, (
        f"seed {seed} ended with {done.returncode} after {done.stdout.decode()}, on the case "
        f"{(folder / 'case').read_bytes()!r}\n" + done.stderr[-4000:].decode(errors="replace")
    )
    return {found.pop("kind"): found for found in map(json.loads, done.stdout.splitlines())}


def test_damage_gives_only_the_projects_errors(tmp_path):
    found = run(tmp_path, SHORT, seed=0)
    assert found.keys() == fuzz.KINDS.keys()
    for kind, counts in found.items():
        assert counts["refused"] > SHORT[kind] // 4  # the damage shows, and not all is refused
        assert counts["accepted"] > 0


@pytest.mark.heavy
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_thousand_damaged_cases(tmp_path, kind):
    counts = run(tmp_path, {kind: 1000}, seed=1)[kind]
    assert counts["refused"] + counts["accepted"] == 1000
    assert min(counts.values()) > 10


NOTICES = """
import os, sys
import fuzz

fuzz.CASE_SECONDS = 1
FAULTS = {
    "foreign error": "raise KeyError('x')",
    "hang": "import time; time.sleep(60)",
    "memory": "import numpy; numpy.ones(3 << 28)",
    "crash": "import signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "refusal": "import caffe; raise caffe.CaffeError('x')",
}
for name, code in FAULTS.items():
    if not os.fork():
        fuzz.KINDS["faulty"] = lambda rng, count: [(b"", lambda data: exec(code))] * count
        fuzz.main("faulty", 2)
        sys.exit()
    print(name, os.wait()[1] == 0, flush=True)
"""


def test_the_fuzzer_notices(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NOTICES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
    )
    passed = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if line[0] != "{")
    assert passed == {
        "foreign error": "False",
        "hang": "False",
        "memory": "False",
        "crash": "False",
        "refusal": "True",
    }, done.stderr
    for shown in ("KeyError: 'x'", "Timeout", "MemoryError"):
        assert shown in done.stderr
