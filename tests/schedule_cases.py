"""Training under each schedule, for both engines: the same net, weights, batches and settings.

Runs under an original BVLC Caffe too (Python 3.9, numpy 1.19), where
tests/oracle/record_schedules.py records what it computes.
"""

import os

import numpy as np
from google.protobuf import text_format

import relaybp
from nets import AUXILIARY, AUXILIARY_IN_PLACE
from relaybp import engines, relay_file, run_folder, schedules

LAW = "weight_law { gamma: 2 floor: 0.5 reference: DEEPEST_AUXILIARY } "
FLOWS = (
    'flow { loss: "loss" to: "conv3" } flow { loss: "aux3_loss" to: "conv2" } '
    'flow { loss: "aux2_loss" to: "conv1" } '
)
ALL = LAW.replace("}", "spare_scores: true }") + "step { normalize: true loss_ratio_guard: 1 }"

ATTACHED = (FLOWS, "schedule: MULTI_WAY", "schedule: PAIR_WISE " + FLOWS)

# name: (relay file, net, solver settings); none needs what BVLC Caffe's API lacks
CASES = {
    "joint": ("schedule: JOINT", AUXILIARY_IN_PLACE, {}),
    "joint_normalized": ("schedule: JOINT step { normalize: true }", AUXILIARY_IN_PLACE, {}),
    "relay_weighted": (FLOWS + LAW, AUXILIARY_IN_PLACE, {}),
    "relay_iter_size": (FLOWS, AUXILIARY_IN_PLACE, {"iter_size": 2}),
    "pair_wise": ("schedule: PAIR_WISE", AUXILIARY_IN_PLACE, {}),
    "pair_wise_flows": ("schedule: PAIR_WISE " + FLOWS, AUXILIARY_IN_PLACE, {"type": "Adam"}),
    "multi_way": ("schedule: MULTI_WAY", AUXILIARY, {}),
    "multi_way_flows": ("schedule: MULTI_WAY " + FLOWS, AUXILIARY, {"clip_gradients": 1.0}),
    "multi_way_all_options": ("schedule: MULTI_WAY " + ALL, AUXILIARY, {"type": "Nesterov"}),
    "multi_way_resumed": ("schedule: MULTI_WAY", AUXILIARY, {}),
}
ITERATIONS = 5


def make(caffe, folder, relay, net, fused=True, after_forward=None, **settings):
    """(solver, schedule) on the net with seeded weights."""
    engine = engines.of(caffe)
    solver = engine.make_solver(write(caffe, folder, net, **settings))
    fill(solver.net)
    relay = relay_file.parse_relay(relay)
    return solver, schedules.make_schedule(
        engine, solver, relay, fused, "my.prototxt", after_forward=after_forward
    )


def attach(caffe, folder, relay, net, extra=None, **settings):
    """What relaybp.attach makes from a pycaffe solver, with the same weights and batches."""
    path = write(caffe, folder, net, **settings)
    solver = caffe.get_solver(path, extra) if extra else caffe.get_solver(path)
    fill(solver.net)
    relay = relaybp.attach(solver, relay, param=path)
    feed(relay, solver.net)
    return relay


def feed(trained, net):
    """Feed a new batch in each iteration, through the callbacks."""
    endless = batches()

    def next_batch():
        data, label = next(endless)
        net.blobs["data"].data[...] = data
        net.blobs["label"].data[...] = label

    trained.add_callback(next_batch, lambda: None)


def write(caffe, folder, net, **settings):
    """The path of a solver.prototxt for the net."""
    pb = caffe.proto.caffe_pb2
    param = text_format.Merge(net, pb.NetParameter())
    values = {
        "base_lr": 0.0625,
        "lr_policy": "multistep",
        "gamma": 0.5,
        "stepvalue": [4],
        "momentum": 0.875,
        "weight_decay": 0.0078125,
        "max_iter": 100,
    }
    values.update(settings)
    solver_param = pb.SolverParameter(
        net=os.path.join(folder, "net.prototxt"),
        snapshot_prefix=os.path.join(folder, "a"),
        **values,
    )
    run_folder.write(solver_param.net, param)
    path = os.path.join(folder, "solver.prototxt")
    run_folder.write(path, solver_param)
    return path


def fill(net):
    """Seeded weights."""
    random = np.random.RandomState(1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = random.randn(*blob.shape) * 0.4
    for name, blobs in net.params.items():
        if name.startswith("bn"):
            for blob in blobs:
                blob.data[...] = 0  # statistics, not weights


def batches(shape=(6, 3, 8, 8)):
    """Endless (images, labels)."""
    random = np.random.RandomState(2)
    while True:
        yield random.randn(*shape), random.randint(0, 4, shape[0])


def run(solver, schedule, iterations, skip=0):
    """Iterate on the batches from number `skip` on."""
    for number, (data, label) in zip(range(skip + iterations), batches()):
        if number >= skip:
            solver.net.blobs["data"].data[...] = data
            solver.net.blobs["label"].data[...] = label
            schedule.iterate(lambda loss: None)


def result(caffe, name, folder):
    """{"layer[index]": values} after ITERATIONS iterations of a case."""
    relay, net, settings = CASES[name]
    solver, schedule = make(caffe, folder, relay, net, **settings)
    if name.endswith("_resumed"):
        run(solver, schedule, 2)
        state = solver.snapshot()
        schedule.save(state)
        solver, schedule = make(caffe, folder, relay, net, **settings)
        solver.restore(state)
        schedule.restore(state)
    run(solver, schedule, ITERATIONS - solver.iter, solver.iter)
    return arrays(solver.net)


def arrays(net):
    """{"layer[index]": values} of every parameter."""
    return {
        "%s[%d]" % (layer, index): np.array(blob.data)
        for layer, blobs in net.params.items()
        for index, blob in enumerate(blobs)
    }
