"""Other ways to run tests of what nets compute: nothing may depend on who reads arrays.

`pytest --arrays held` keeps alive every array that a test is given, and those of all blobs and
parameters of each net that runs. `pytest --arrays read` runs nets layer by layer and reads all of
them in between, without keeping any.
"""

from contextlib import contextmanager
from unittest import mock

from caffe.net import Net
from caffe.synced_memory import SyncedMemory

MODES = ("held", "read")


@contextmanager
def looking(mode):
    """A context in which nets run as `mode` says; None: as usual."""
    if mode is None:
        yield
        return
    held = []
    with mock.patch.multiple(Net, **_running(mode)):
        if mode == "read":
            yield
            return
        array = SyncedMemory.array
        with mock.patch.object(SyncedMemory, "array", lambda *args: _kept(held, array(*args))):
            yield


def _running(mode):
    loss, backward = Net._loss, Net._backward

    def held_loss(net, start, end):
        _look(net)
        return loss(net, start, end)

    def held_backward(net, start, end):
        _look(net)
        backward(net, start, end)

    def read_loss(net, start, end):
        net._check_range(start, end)
        total = 0.0
        for index in range(start, end + 1):
            total = total + loss(net, index, index)
            _look(net)
        return total

    def read_backward(net, start, end):
        net._check_range(end, start)
        for index in range(start, end - 1, -1):
            backward(net, index, index)
            _look(net)

    if mode == "held":
        return {"_loss": held_loss, "_backward": held_backward}
    return {"_loss": read_loss, "_backward": read_backward}


def _look(net):
    """Read the data and diffs of all blobs and parameters."""
    for blob in [*net.blobs.values(), *(blob for blobs in net.params.values() for blob in blobs)]:
        for array in [blob.diff] if blob.hidden else [blob.data, blob.diff]:
            assert array.flags.c_contiguous and array.shape == blob.shape


def _kept(held, array):
    held.append(array)
    return array
