"""BVLC Caffe loads every committed model, and its own NetSpec generates the same nets."""

from pathlib import Path

import pytest

from relaybp.prototxt import generate

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.oracle
def test_bvlc_caffe_loads_every_model(oracle):
    said = oracle(ROOT, "python3", "tests/oracle/load_prototxts.py")
    assert f"{len(generate.folders())} models load" in said
