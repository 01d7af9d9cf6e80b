"""A script written for BVLC Caffe's pycaffe runs here unchanged and computes the same."""

from pathlib import Path

import numpy as np
import pytest

import old_style_script


# numpy's, about the script's train_loss[it] = net.blobs["loss"].data of shape (1,)
@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
def test_script_computes_what_it_computes_under_bvlc_caffe(tmp_path):
    old_style_script.main(str(tmp_path))
    with np.load(Path(__file__).parent / "golden" / "old_style_script.npz") as file:
        expected = dict(file)
    with np.load(tmp_path / "found.npz") as file:
        found = dict(file)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.shape == expected[name].shape
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(array, expected[name], atol=1e-5 * scale, err_msg=name)
