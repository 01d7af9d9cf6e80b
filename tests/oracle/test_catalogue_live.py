"""Every row of tests/catalogue_cases against a live BVLC Caffe, on numbers never recorded."""

import shutil
from pathlib import Path

import pytest

import catalogue_judge

TESTS = Path(__file__).parents[1]
SEEDS = (2, 3, 4)
TOLERANCE = 1e-5  # a sum that happens to cancel has fewer right digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of what the recorder needs, since BVLC Caffe may see one folder only."""
    folder = tmp_path_factory.mktemp("catalogue")
    shutil.copytree(TESTS / "catalogue_cases", folder / "tests" / "catalogue_cases")
    (folder / "tests" / "oracle").mkdir()
    for name in ("golden.py", "record_catalogue.py"):
        shutil.copy(TESTS / "oracle" / name, folder / "tests" / "oracle")
    shutil.copy(TESTS / "user_layers.py", folder / "tests")
    return folder


@pytest.mark.oracle
def test_every_row_agrees_with_a_live_bvlc_caffe(folder, oracle):
    oracle(
        folder, "python3", "tests/oracle/record_catalogue.py", "--out", folder, "--seeds", *SEEDS
    )
    golden, failures = catalogue_judge.load(folder), []
    for case in catalogue_judge.JUDGED:
        try:
            catalogue_judge.compare(case, golden, tolerance=TOLERANCE)
        except AssertionError as error:
            failures.append(f"{case.key}: {error}")
    assert len(golden) == len(SEEDS) * len(catalogue_judge.JUDGED)
    assert not failures, "\n".join(failures)
