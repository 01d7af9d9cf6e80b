"""Every layer type with random parameters never recorded, against a live BVLC Caffe."""

import shutil
from pathlib import Path

import pytest

import data_cases
import random_judge
from caffe.proto import caffe_pb2

TESTS = Path(__file__).parents[1]
SEEDS = (1, 2, 3, 4, 5)
TOLERANCE = 1e-4  # a sum that happens to cancel has fewer right digits
NETS_TOLERANCE = 1e-3


@pytest.mark.oracle
def test_random_parameters_agree_with_a_live_bvlc_caffe(tmp_path, oracle):
    """In a copy of what the recorder needs, since BVLC Caffe may see one folder only."""
    shutil.copytree(TESTS / "catalogue_cases", tmp_path / "tests" / "catalogue_cases")
    for path in [
        *TESTS.glob("*_cases.py"),
        TESTS / "random_nets.py",
        TESTS / "user_layers.py",
        TESTS / "oracle" / "golden.py",
        TESTS / "oracle" / "record_random.py",
    ]:
        target = tmp_path / "tests" / path.relative_to(TESTS)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    oracle(
        tmp_path,
        "python3",
        "tests/oracle/record_random.py",
        "--out",
        tmp_path / "random.npz",
        "--seeds",
        *SEEDS,
    )
    golden, failures, rows = random_judge.load(tmp_path / "random.npz"), [], 0
    data_cases.write_files(caffe_pb2, str(tmp_path))
    for type in random_judge.TYPES:
        for seed in SEEDS:
            count, lines = random_judge.failures(
                golden, random_judge.digests(type, seed, tmp_path), TOLERANCE
            )
            rows, failures = rows + count, failures + lines
    assert rows >= 10 * len(SEEDS) * len(random_judge.TYPES)
    for seed in SEEDS:
        count, lines = random_judge.failures(
            golden, random_judge.nets(seed), NETS_TOLERANCE, random_judge.NET_SMALL
        )
        rows, failures = rows + count, failures + lines
    assert rows == len(golden)
    assert not failures, "\n".join(failures)
