"""Variables of MATLAB files: up to version 7 with SciPy, version 7.3 (which is HDF5) with h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from caffe_plain.errors import CaffeError
from caffe_plain.hdf5 import check_self_contained
from relaybp.data_prep.errors import PrepError


def read_matlab(path: str | Path, names: list[str]) -> list[np.ndarray]:
    """The variables `names` of a .mat file, as arrays with MATLAB's order of axes."""
    from scipy import io  # here, because few tools need it

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                check_self_contained(file)
                return [np.asarray(file[name]).T for name in names]  # HDF5 has the axes reversed
        found = io.loadmat(path, variable_names=names, squeeze_me=False)
        return [found[name] for name in names]
    except CaffeError:
        raise
    except FileNotFoundError as error:
        raise PrepError(f"{path} is missing: download it again") from error
    except KeyError as error:
        raise PrepError(f"{path} holds no variable {error}: expected {', '.join(names)}") from error
    except Exception as error:  # the readers raise anything on a damaged file
        raise PrepError(
            f"{path}: not a readable MATLAB file ({error}): download it again"
        ) from error
