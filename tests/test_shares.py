"""Processes that train together share the records: each comes once an epoch, however many they are.

A data layer's position counts the records that all processes have taken, so a run goes on from it
in any number of processes.
"""

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

import caffe
from caffe import device
from caffe.proto import caffe_pb2
from scene_cases import layer as scene
from test_data_errors import write_images, write_records

RECORDS, BATCH = 12, 2
DATA = 'data_param {{ source: "{0}/db" batch_size: 2 backend: LMDB }}'
IMAGES = """image_data_param {{ source: "{0}/list" root_folder: "{0}/" batch_size: 2
                               is_color: false {1} }}"""
ROWS = 'hdf5_data_param {{ source: "{0}/rows" batch_size: 2 {1} }}'
LAYERS = {
    "Data": DATA,
    "ImageData": IMAGES,
    "ImageData shuffled": IMAGES,
    "HDF5Data": ROWS,
    "HDF5Data shuffled": ROWS,
    **dict.fromkeys(("SceneData", "SceneData shuffled", "SceneData class-aware")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """RECORDS of one value and label, their number, in each form; the rows in two files."""
    folder = tmp_path_factory.mktemp("shares")
    write_records(folder, RECORDS, ())
    write_images(folder, RECORDS, ())
    for name, numbers in (("a.h5", np.arange(5)), ("b.h5", np.arange(5, RECORDS))):
        with h5py.File(folder / name, "w") as file:
            file["data"] = file["label"] = numbers.astype(np.float32)[:, None]
    (folder / "rows").write_text(f"{folder}/a.h5 {folder}/b.h5")
    return folder


@pytest.fixture(autouse=True)
def alone_afterwards():
    yield
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)


def text_of(folder, name):
    kind, _, order = name.partition(" ")
    if kind == "SceneData":
        option = {"": "", "shuffled": "shuffle: true", "class-aware": "class_aware: true"}[order]
        return scene(folder / "db", f"batch_size: {BATCH} workers: 1 {option}")
    options = LAYERS[name].format(folder, "shuffle: true" if order else "")
    return f'layer {{ name: "data" type: "{kind}" top: "data" top: "label" {options} }}'


def taken(folder, name, count, batches, position=0):
    """(the records that `count` processes take in turn, the position after them)."""
    param = text_format.Parse(text_of(folder, name), caffe_pb2.NetParameter())
    caffe.set_solver_count(count)
    shares, positions = [], set()
    for rank in range(count):
        caffe.set_solver_rank(rank)
        device.set_random_seed(3, rank)  # as a solver does
        (source,) = (net := caffe.Net(param, caffe.TRAIN)).layers
        source.position = position
        labels = [net.forward()["label"].reshape(BATCH).copy() for _ in range(batches)]
        shares.append(np.concatenate(labels).astype(int))
        positions.add(source.position)
        source.close()
    (position,) = positions  # the same in all
    return np.stack(shares, 1).reshape(-1).tolist(), position


@pytest.mark.parametrize("name", LAYERS)
def test_a_run_goes_on_in_another_number_of_processes(folder, name):
    """Two processes, killed after 2 iterations, then one, then three: 4 epochs of 12 records."""
    alone, _ = taken(folder, name, 1, 4 * RECORDS // BATCH)
    found, position = [], 0
    for count, batches in ((2, 2), (1, 5), (3, 5)):
        records, position = taken(folder, name, count, batches, position)
        found += records
        assert position == len(found)
    assert found == alone
    for epoch in np.reshape(found, (4, RECORDS)):
        assert sorted(epoch) == list(range(RECORDS))
    assert ("shuffled" in name or "aware" in name) == (found[:RECORDS] != list(range(RECORDS)))


def test_what_a_process_draws_for_itself_is_its_own():
    def drawn(*numbers):
        device.set_random_seed(3)
        device.seed_draws(*numbers)
        return device.generator().get_state().tolist()

    assert drawn(0, 7) == drawn(0, 7)
    assert len({str(drawn(rank, iteration)) for rank in (0, 1) for iteration in (7, 8)}) == 4
    assert device.seed() == 3


def test_after_a_snapshot_each_process_draws_its_own(tmp_path):
    """The state is the first process's; its draws would be those of all."""
    text = f"""train_net_param {{
      layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ shape {{ dim: 64 }} }} }}
      layer {{ name: "drop" type: "Dropout" bottom: "x" top: "y" }} }}
      base_lr: 0.1 lr_policy: "fixed" random_seed: 3 snapshot_prefix: "{tmp_path}/a" """
    param = text_format.Parse(text, caffe_pb2.SolverParameter())
    state = caffe.get_solver(param).snapshot()
    drawn = []
    for rank in (0, 0, 1, 1, 2):
        caffe.set_solver_rank(rank)
        solver = caffe.get_solver(param)
        solver.restore(state)
        drawn.append(device.generator().get_state().tolist())
    assert drawn[0] == drawn[1] and drawn[2] == drawn[3]
    assert drawn[0] != drawn[2] != drawn[4] != drawn[0]
