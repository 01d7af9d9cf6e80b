"""A run that must not skip tests of compiled code, and what every run prints at its end."""

import pytest

import in_force
from caffe_plain.native import NativeLibrary


def test_missing_kernels_are_an_error_where_they_are_required(monkeypatch, tmp_path):
    missing = NativeLibrary("x", [tmp_path / "no_such_source.c"], print, "numpy does it")
    monkeypatch.setattr(in_force, "COMPILED", [missing])
    with pytest.raises(pytest.UsageError, match=r"--require-native.*: x: none .*no_such_source"):
        in_force.require_kernels()
    assert any(line.startswith("x: none (") for line in in_force.lines())
