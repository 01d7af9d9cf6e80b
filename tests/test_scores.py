"""A test counts each record once, wherever it begins and however its batches divide them."""

import numpy as np
import pytest

import caffe
import relaybp
from caffe.proto import caffe_pb2
from caffe_plain.database import new_database
from relaybp.commands.train import let_values_go

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "SOURCE" batch_size: 2 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "SOURCE" batch_size: 4 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "top1" type: "Accuracy" bottom: "fc" bottom: "label" top: "top1"
        include { phase: TEST } }
layer { name: "top2" type: "Accuracy" bottom: "fc" bottom: "label" top: "top2"
        accuracy_param { top_k: 2 } include { phase: TEST } }
"""
SOLVER = """
net: "FILE" test_iter: {} test_interval: 100 base_lr: 0 lr_policy: "fixed" max_iter: 9
solver_mode: CPU
"""
# the pixels of five records are the scores of three classes
SCORES = np.uint8([[9, 1, 2], [9, 4, 2], [1, 9, 8], [3, 2, 9], [9, 3, 1]])
LABELS = (0, 1, 1, 0, 2)  # in places 1, 2, 1, 2, 3


def attached(folder, test_iter, nan=None):
    with new_database(folder / "db") as put:
        for number, (scores, label) in enumerate(zip(SCORES, LABELS, strict=True)):
            datum = caffe_pb2.Datum(channels=3, height=1, width=1, data=scores.tobytes())
            datum.label = label
            put(b"%08d" % number, datum.SerializeToString())
    (folder / "net.prototxt").write_text(NET.replace("SOURCE", str(folder / "db")))
    text = SOLVER.format(test_iter).replace("FILE", str(folder / "net.prototxt"))
    (folder / "solver.prototxt").write_text(text)
    relay = relaybp.attach(caffe.get_solver(str(folder / "solver.prototxt")))
    relay.net.params["fc"][0].data[...] = np.eye(3)
    relay.net.params["fc"][1].data[...] = 0
    return relay


@pytest.mark.parametrize("batches", [2, 3, 4], ids="of {} batches of four".format)
def test_repeated_records_do_not_count(tmp_path, batches):
    """Every test begins where the last one ended, so the repeated records are other ones."""
    relay = attached(tmp_path, batches)
    for _ in range(4):
        (found,) = relay.test_all()
        assert (found["top1"], found["top2"]) == pytest.approx((2 / 5, 4 / 5))
        assert relay.images_tested == 5 and relay.not_finite == 0


def test_of_fewer_images_than_records_all_count(tmp_path):
    relay = attached(tmp_path, 1)
    (found,) = relay.test_all()
    assert (found["top1"], found["top2"]) == (2 / 4, 1)
    assert relay.images_tested == 4


def test_of_the_records_that_count_none_is_right_with_scores_that_are_not_finite(tmp_path):
    relay = attached(tmp_path, 2)
    relay.net.params["fc"][0].data[2, 1] = np.nan  # whatever the pixels are
    (found,) = relay.test_all()
    assert (found["top1"], found["top2"]) == (0, 0)
    assert relay.images_tested == relay.not_finite == 5


def test_a_training_tests_with_one_pass_for_each_batch(tmp_path, monkeypatch):
    relay = attached(tmp_path, 2)
    let_values_go(relay.engine, relay.solver, False)
    monkeypatch.setattr("caffe.run.inference.Inference.spread", lambda self: 1 / 0)
    (found,) = relay.test_all()
    assert (found["top1"], found["top2"]) == pytest.approx((2 / 5, 4 / 5))
