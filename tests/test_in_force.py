"""A run that must not skip tests of compiled code, and what every run prints at its end."""

import pytest

import in_force
from caffe.kernels import native


def test_missing_kernels_are_an_error_where_they_are_required(monkeypatch):
    monkeypatch.setattr(native, "library", lambda: None)
    with pytest.raises(pytest.UsageError, match="--require-native: kernels.* not compiled"):
        in_force.require_kernels()
    assert "kernels: no kernels, " in in_force.lines()[1]
