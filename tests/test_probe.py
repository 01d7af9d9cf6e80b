"""Diagnostics while training: no side effects, and the definitions on autograd's gradients."""

import csv

import numpy as np
import pytest
import torch
from google.protobuf import text_format

import caffe
import reference
from caffe.proto import caffe_pb2
from nets import AUXILIARY, AUXILIARY_IN_PLACE
from relaybp.events import EventFile
from relaybp.probe import Probe
from schedule_cases import make, run

pytestmark = pytest.mark.usefixtures("project_layers")

FLOWS = (
    'flow { loss: "loss" to: "conv3" } flow { loss: "aux3_loss" to: "conv2" } '
    'flow { loss: "aux2_loss" to: "conv1" }'
)
LOSS_WEIGHTS = {"loss": 1.0, "aux3_loss": 0.25, "aux2_loss": 0.5}


def probed(tmp_path, relay, every, iterations, net=AUXILIARY_IN_PLACE):
    solver, schedule = make(
        caffe,
        str(tmp_path),
        relay,
        net,
        after_forward=lambda schedule: Probe(schedule, every, str(tmp_path)),
    )
    run(solver, schedule, iterations)
    return solver, schedule


def read(tmp_path):
    """{(iteration, layer, flow, quantity): value}."""
    with open(tmp_path / "probe.csv", newline="") as file:
        return {
            (int(row["iteration"]), row["layer"], row["flow"], row["quantity"]): float(row["value"])
            for row in csv.DictReader(file)
        }


def per_flow_gradients(schedule):
    """{loss: {layer: gradient of its weights}} by autograd, at the current weights and batch."""
    net = schedule.net
    inputs = {name: torch.tensor(net.blobs[name].data.copy()) for name in net.inputs}
    weights = {
        name: [torch.tensor(blob.data.copy()) for blob in blobs]
        for name, blobs in net.params.items()
    }
    param = text_format.Parse(AUXILIARY, caffe_pb2.NetParameter())
    return {
        flow.loss: {
            name: values[0].numpy()
            for name, values in reference.flow_gradients(
                param,
                inputs,
                weights,
                [(flow.loss, {net._layer_names[i] for i in flow.layers})],
                LOSS_WEIGHTS,
            ).items()
        }
        for flow in schedule.flows
    }


@pytest.mark.parametrize("relay", [FLOWS, "schedule: JOINT", "schedule: MULTI_WAY"])
def test_quantities_are_what_they_are_defined_to_be(double, tmp_path, relay):
    expected = {}

    def watch(schedule):
        probe = Probe(schedule, 1, str(tmp_path))

        def measure():
            expected.update(per_flow_gradients(schedule))
            expected["weights"] = {
                name: blobs[0].data.copy() for name, blobs in schedule.net.params.items()
            }
            probe()

        return measure

    solver, schedule = make(caffe, str(tmp_path), relay, AUXILIARY, after_forward=watch)
    run(solver, schedule, 1)
    found = read(tmp_path)
    g = {
        loss: expected[loss]["conv2"]
        for loss in ("loss", "aux3_loss", "aux2_loss")
        if relay is not FLOWS or loss != "loss"
    }
    weight, total = expected["weights"]["conv2"], sum(g.values())
    norms = {loss: np.sqrt((array**2).sum()) for loss, array in g.items()}
    values = {
        ("all", "gradient"): np.abs(total).mean(),
        ("all", "relative"): np.abs(total).mean() / np.abs(weight).mean(),
        ("aux3_loss", "gradient"): np.abs(g["aux3_loss"]).mean(),
        ("aux3_loss", "share"): norms["aux3_loss"] / sum(norms.values()),
    }
    pair = "aux3_loss & aux2_loss" if relay != "schedule: MULTI_WAY" else "aux2_loss & aux3_loss"
    values[pair, "cosine"] = (g["aux3_loss"] * g["aux2_loss"]).sum() / (
        norms["aux3_loss"] * norms["aux2_loss"]
    )
    for key, value in values.items():
        assert found[(0, "conv2", *key)] == pytest.approx(value, rel=1e-5), key


def test_a_full_disk_does_not_end_a_training(tmp_path):
    (tmp_path / "probe.csv").symlink_to("/dev/full")
    events = EventFile(str(tmp_path))
    events._file.close()
    events._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    solver, schedule = make(
        caffe,
        str(tmp_path),
        FLOWS,
        AUXILIARY_IN_PLACE,
        after_forward=lambda schedule: Probe(schedule, 1, str(tmp_path), events),
    )
    run(solver, schedule, 2)
    assert solver.iter == 2
    events.close()


def test_what_is_written_where_and_when(tmp_path):
    probed(tmp_path, FLOWS, 2, 5)
    found = read(tmp_path)
    assert {key[0] for key in found} == {0, 2, 4}
    assert {key[1] for key in found} == {
        "conv1",
        "conv2",
        "conv3",
        "conv4",
        "aux2_fc",
        "aux3_fc",
        "fc",
    }
    assert {key[2] for key in found if key[1] == "conv1"} == {"all", "aux2_loss"}
    assert {key[2] for key in found if key[3] == "cosine"} == {
        "aux3_loss & aux2_loss",
        "loss & aux3_loss",
    }


class Events:
    """What a probe writes to an event file."""

    def __init__(self):
        self.scalars, self.histograms, self.images = {}, {}, {}

    def scalar(self, step, tag, value):
        self.scalars[step, tag] = value

    def histogram(self, step, tag, values):
        self.histograms[step, tag] = np.array(values)

    def image(self, step, tag, pixels):
        self.images[step, tag] = pixels


@pytest.fixture
def watched(double, tmp_path):
    """(the Events of a probe of each of two iterations, weights and gradients by autograd then)."""
    events, expected = Events(), []

    def watch(schedule):
        probe = Probe(schedule, 1, str(tmp_path), events)

        def measure():
            gradients = per_flow_gradients(schedule).values()
            weights = {name: blobs[0].data.copy() for name, blobs in schedule.net.params.items()}
            expected.append((weights, list(gradients), schedule.net.blobs["data"].data.copy()))
            probe()

        return measure

    solver, schedule = make(caffe, str(tmp_path), FLOWS, AUXILIARY, after_forward=watch)
    run(solver, schedule, 2)
    return events, expected


def test_the_event_file_gets_every_row_too(watched, tmp_path):
    assert watched[0].scalars == {
        (step, f"{quantity}/{layer}/{flow}"): pytest.approx(value, rel=1e-5)
        for (step, layer, flow, quantity), value in read(tmp_path).items()
    }


def test_histograms_are_of_the_weights_and_of_all_flows_gradients(watched):
    events, expected = watched
    layers = {"conv1", "conv2", "conv3", "conv4", "aux2_fc", "aux3_fc", "fc"}
    assert {tag for _, tag in events.histograms} == {
        f"{what}/{layer}" for what in ("weights", "gradients") for layer in layers
    }
    for step, (weights, flows, _) in enumerate(expected):
        for layer in layers:
            np.testing.assert_array_equal(
                events.histograms[step, f"weights/{layer}"], weights[layer]
            )
            total = sum(flow[layer] for flow in flows if layer in flow)
            np.testing.assert_allclose(
                events.histograms[step, f"gradients/{layer}"], total, rtol=1e-6, atol=1e-12
            )


def test_images_are_the_batch_and_the_first_filters(watched):
    events, expected = watched
    assert {tag for _, tag in events.images} == {"batch", "filters/conv1"}
    for step, (weights, _, data) in enumerate(expected):
        batch, filters = events.images[step, "batch"], events.images[step, "filters/conv1"]
        assert batch.shape == (8 * 2 + 1, 8 * 4 + 3, 4)  # 6 images, 4 in a row, 1 pixel between
        assert filters.shape == (3, 3 * 5 + 4, 4)
        for image, shown in ((data[1], batch[:8, 9:17]), (weights["conv1"][1], filters[:, 4:7])):
            spanned = (image - image.min()) / (image.max() - image.min())
            bgr = np.round(255 * spanned).transpose(1, 2, 0)
            np.testing.assert_array_equal(shown[..., :3], bgr[..., ::-1])


@pytest.mark.parametrize(
    "relay", [FLOWS, "schedule: JOINT", "schedule: MULTI_WAY", "schedule: PAIR_WISE"]
)
def test_training_goes_on_as_if_nobody_had_looked(tmp_path, relay):
    looked, _ = probed(tmp_path, relay, 1, 3)
    alone, schedule = make(caffe, str(tmp_path), relay, AUXILIARY_IN_PLACE)
    run(alone, schedule, 3)
    for name, blobs in alone.net.params.items():
        for mine, theirs in zip(looked.net.params[name], blobs, strict=True):
            np.testing.assert_array_equal(mine.data, theirs.data)
