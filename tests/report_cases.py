"""A small run with everything that a report shows, made without training."""

import json

import numpy as np

import caffe
from evaluation_cases import CLASSES, draw_images, make_data, make_run
from relaybp import engines, identity
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import measure

IMAGES = 30
ITERATIONS = (5, 10, 15)
EDGES = ("trunk", "conv1"), ("trunk", "fc"), ("aux_loss", "aux_fc")


def engine():
    """The engine that the tests run on."""
    return engines.of(caffe)


def write_tables(folder, lowest):
    """metrics.csv and probe.csv; lowest: the loss at the end. A test loss is NaN at first."""
    rows = ["iteration,kind,name,value"]
    for number, at in enumerate(ITERATIONS):
        values = {"loss": lowest + 2 - number, "aux_loss": 3.5 - number, "lr": 0.1 / 10**number}
        rows += [f"{at},train,{name},{value!r}" for name, value in values.items()]
        rows.append(f"{at},train,images/s,{100.0 + at}")
        rows.append(f"{at},test,accuracy_top1,{0.25 * (number + 1)!r}")
        rows.append(f"{at},test,loss,{'nan' if not number else repr(lowest + 2.5 - number)}")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    probe = ["iteration,part,layer,flow,quantity,value"]
    for at in ITERATIONS[:2]:
        for part, layer in EDGES:
            probe.append(f"{at},{part},{layer},all,gradient,{0.01 * at}")
            probe.append(f"{at},{part},{layer},all,relative,{0.02 * at}")
        probe.append(f"{at},trunk,conv1,loss,gradient,{0.003 * at}")
        probe.append(f"{at},trunk,conv1,loss,share,0.75")
        probe.append(f"{at},trunk,conv1,loss & aux_loss,cosine,-0.5")
    (folder / "probe.csv").write_text("\n".join(probe) + "\n")


def write_record(folder, rate, state=identity.FINISHED):
    """run.json of a run with the base_lr `rate`."""
    found = {
        "model": {"name": "Small net"},
        "method": {"schedule": "JOINT"},
        "settings": {"base_lr": rate, "max_iter": "15", "momentum": "0.9"},
        "batch": {"images": 4},
    }
    record = {"identity": found, "commit": "abc", "state": state, "iteration": 15}
    (folder / "run.json").write_text(json.dumps(record))


def make(folder, tested=True):
    """The folders of two runs on the same data, tested where `tested` says so."""
    images = draw_images(IMAGES)
    data = make_data(folder / "data", images)
    names = ["a </script> b", "b & c", *(f"class {k}" for k in range(2, CLASSES))]
    (data / "classes.txt").write_text("\n".join(names) + "\n")
    runs = []
    for number, rate in enumerate(("0.1", "0.01")):
        run = make_run(folder / f"run{number}", data, "fully connected", seed=5 + number)
        write_tables(run, number / 4)
        write_record(run, rate)
        if tested:
            measure(engine(), str(run), Protocol(), gpu="none")
        runs.append(str(run))
    return runs


def noise(shape, seed=0):
    """Seeded normal values."""
    return np.random.RandomState(seed).randn(*shape)
