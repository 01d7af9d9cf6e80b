"""Test runs as the papers do: a single crop, or every position at several scales; ensembles.

    python tools/evaluate.py runs/model_a_relay-...             the TEST phase: one centre crop
    python tools/evaluate.py RUN --scales 224,256,320,384,448   fully-convolutional, averaged
    python tools/evaluate.py RUN RUN --scales 256               each, and the mean of their scores

Tests the newest snapshot. Each run's folder gets errors.csv (a row for each kind of test and
k), scores_TEST.npz (scores and labels) and per_class_TEST.csv (top-5 error of each class).
"""

import argparse
import csv
import glob
import os
import re
import sys

import numpy as np

from caffe_plain.errors import CaffeError

from .. import engines, run_folder
from ..errors import RelayError
from ..evaluation import measures, validation_set
from ..evaluation.dense import Dense, prediction_layers

CROP = "crop"  # the name of the test with one centre crop


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("run", nargs="+", help="folders that training runs made")
    parser.add_argument(
        "--scales",
        default="",
        help="shorter sides of the images, in pixels: "
        "224,256,...; without it one centre crop is tested",
    )
    parser.add_argument(
        "--step", type=int, default=1, help="of the positions, on the net's last map"
    )
    parser.add_argument("--limit", type=int, help="test the first images only")
    parser.add_argument("--loss", help="the output to test, by its loss layer; default: the last")
    parser.add_argument("--weights", help="a .caffemodel; default: the run's newest")
    parser.add_argument("--gpu", default="auto", help="auto, none, or a GPU index")
    args = parser.parse_args()
    if args.weights and len(args.run) > 1:
        parser.error("--weights goes with one run")
    return args


def main():
    args = arguments()
    try:
        evaluate(engines.load(), args)
    except CaffeError as error:
        sys.exit(f"evaluate: {error}")


def evaluate(engine, args):
    caffe = engine.caffe
    engine.use_device(args.gpu)
    name = "-".join(filter(None, [args.scales.replace(",", "-") or CROP, args.loss]))
    members = []
    for run in args.run:
        weights = args.weights or newest_snapshot(run)
        scores, labels = (at_scales if args.scales else centre_crop)(caffe, run, weights, args)
        members.append((scores, labels))
        save(run, name, weights, class_names(read(caffe, run)[1]), scores, labels)
        print(line(weights, scores, labels))
    if len(members) > 1:
        print(line(f"ensemble of {len(members)}", *measures.ensemble(members)))


def centre_crop(caffe, run, weights, args):
    """(softmax scores, labels) of the TEST phase; prints the mean of each output of the net."""
    solver, net_param = read(caffe, run)
    _, scores = prediction_layers(caffe.proto.caffe_pb2, net_param, args.loss)
    layer = validation_set.test_data_layer(net_param)
    net = caffe.Net(solver.net, caffe.TEST, weights=weights)
    last = len(net.layers) - 1
    records = min(args.limit or 1 << 60, validation_set.count(layer.data_param.source))
    found, labels, outputs = [], [], {}
    batches = -(-records // layer.data_param.batch_size)
    for _ in range(batches):
        net._forward(0, last)
        found.append(softmax(np.array(net.blobs[scores].data, np.float64)))
        labels.append(np.array(net.blobs[layer.top[1]].data).astype(int))
        for name in net.outputs:
            outputs[name] = outputs.get(name, 0) + float(net.blobs[name].data.mean()) / batches
    for name, mean in outputs.items():
        print(f"{name} {mean:.4f}")
    return np.concatenate(found)[:records], np.concatenate(labels)[:records]


def at_scales(caffe, run, weights, args):
    """(scores, labels), the scores averaged over all positions, then over the scales."""
    _, net_param = read(caffe, run)
    layer = validation_set.test_data_layer(net_param)
    transform = layer.transform_param
    sides = [int(side) for side in args.scales.split(",")]
    means = validation_set.channel_means(caffe, transform)
    dense = Dense(caffe, net_param, weights, transform.crop_size, args.loss, args.step)
    total = min(args.limit or 1 << 60, validation_set.count(layer.data_param.source))
    scores, labels = [], []
    for image, label in validation_set.read(caffe, layer.data_param.source):
        if len(labels) == total:
            break
        scores.append(
            np.mean(
                [
                    dense.scores(validation_set.scaled(image, side, means, transform.scale))
                    for side in sides
                ],
                0,
            )
        )
        labels.append(label)
        if sys.stderr.isatty():
            print(f"\r{len(labels)}/{total}", end="", file=sys.stderr, flush=True)
    return np.array(scores), np.array(labels)


def read(caffe, run):
    """(SolverParameter, NetParameter) of a run."""
    pb = caffe.proto.caffe_pb2
    solver = run_folder.read(os.path.join(run, "solver.prototxt"), pb.SolverParameter())
    return solver, run_folder.read(solver.net, pb.NetParameter())


def softmax(scores):
    """The softmax of each row of (N, classes, ...)."""
    scores = scores.reshape(len(scores), -1)
    exponentials = np.exp(scores - scores.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def save(run, name, weights, names, scores, labels):
    """Write the scores, the error of each class, and a row for each k into errors.csv."""
    np.savez_compressed(
        os.path.join(run, f"scores_{name}.npz"), scores=scores.astype(np.float32), labels=labels
    )
    rows = [
        (names.get(label, label), images_of_it, f"{error:.2f}")
        for label, images_of_it, error in measures.class_errors(scores, labels)
    ]
    write_csv(os.path.join(run, f"per_class_{name}.csv"), ("class", "images", "top5_error"), rows)
    path, header = os.path.join(run, "errors.csv"), ("test", "k", "error", "images", "weights")
    kept = []
    if os.path.exists(path):
        with open(path, newline="", encoding="utf-8") as file:
            kept = [tuple(row.values()) for row in csv.DictReader(file) if row["test"] != name]
    rows = [
        (name, k, f"{error:.2f}", len(labels), os.path.basename(weights))
        for k, error in measures.errors(scores, labels).items()
    ]
    write_csv(path, header, kept + rows)


def class_names(net_param):
    """{label: name} from the classes.txt beside the TEST net's database, if there is one."""
    source = validation_set.test_data_layer(net_param).data_param.source
    path = os.path.join(os.path.dirname(source), "classes.txt")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return dict(enumerate(file.read().splitlines()))


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def line(what, scores, labels):
    """One line of error rates."""
    rates = (f"top-{k} error {error:.2f} %" for k, error in measures.errors(scores, labels).items())
    return f"{what}: {', '.join(rates)} on {len(labels)} images"


def newest_snapshot(run):
    """The .caffemodel of the highest iteration in a run's folder."""
    found = glob.glob(os.path.join(run, "*_iter_*.caffemodel"))
    if not found:
        raise RelayError(f"{run}: no snapshot (*_iter_N.caffemodel) there; give --weights")
    return max(found, key=lambda path: int(re.search(r"_iter_(\d+)", path).group(1)))
