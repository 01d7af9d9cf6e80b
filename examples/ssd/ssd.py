"""Write the nets and the solver of an SSD: train, test and deploy.

    python examples/ssd/ssd.py [FLAGS] DATA OUT

DATA holds trainval_lmdb, test_lmdb and labelmap.prototxt, as data_prep/demo_detection.py and
data_prep/convert_annoset.py make them. OUT gets train.prototxt, test.prototxt, deploy.prototxt and
solver.prototxt; then `caffe train -solver OUT/solver.prototxt` trains.
"""

from __future__ import annotations

from pathlib import Path

from detection import data, detections, heads, loss
from trunks import TRUNKS, Trunk

from caffe import NetSpec
from caffe import layers as L
from caffe_plain.database import count_records
from caffe_plain.flags import FlagParser
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.voc import read_label_map


def net(trunk: Trunk, classes: int, phase: str, folder: str = "") -> str:
    """The text of the net that trains, tests or is deployed."""
    n = NetSpec()
    if phase == "deploy":
        n.data = L.Input(shape={"dim": [1, 3, trunk.size, trunk.size]})
    else:
        source = f"{folder}/{'trainval' if phase == 'train' else 'test'}_lmdb"
        data(n, source, trunk.size, trunk.batch if phase == "train" else 8, phase == "train")
    trunk.layers(n)
    tops = heads(n, trunk.sources, classes)
    if phase == "train":
        loss(n, tops, classes)
    else:
        detections(n, tops, classes)
    if phase == "test":
        n.detection_eval = L.DetectionEvaluate(
            n.detection_out,
            n.label,
            num_classes=classes,
            overlap_threshold=0.5,
            evaluate_difficult_gt=False,
        )
    return str(n.to_proto())


def solver(trunk: Trunk, out: Path, iterations: int, tests: int) -> str:
    """The text of a solver whose rate drops to a tenth twice."""
    drops = "".join(f"stepvalue: {round(iterations * part)}\n" for part in (2 / 3, 5 / 6))
    return f"""train_net: "{out}/train.prototxt"
test_net: "{out}/test.prototxt"
test_iter: {tests}
test_interval: {max(iterations // 2, 1)}
test_initialization: false
type: "{trunk.rule}"
base_lr: {trunk.rate}
lr_policy: "multistep"
gamma: 0.1
{drops}max_iter: {iterations}
momentum: 0.9
weight_decay: 0.0005
display: 50
average_loss: 50
random_seed: 1
snapshot: {iterations}
snapshot_prefix: "{out}/ssd"
eval_type: "detection"
ap_version: "11point"
"""


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("data", metavar="DATA", help="folder with the databases")
    flags.add_argument("out", metavar="OUT", help="folder for the prototxts")
    flags.flag("trunk", "small", f"one of {', '.join(TRUNKS)}")
    flags.flag("iterations", 2000, "updates to train for")
    return flags


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    if options.trunk not in TRUNKS:
        raise PrepError(f"--trunk={options.trunk}: expected one of {', '.join(TRUNKS)}")
    trunk, out = TRUNKS[options.trunk], Path(options.out)
    classes = len(read_label_map(Path(options.data) / "labelmap.prototxt"))
    out.mkdir(parents=True, exist_ok=True)
    for phase in ("train", "test", "deploy"):
        text = net(trunk, classes, phase, options.data)
        (out / f"{phase}.prototxt").write_text(text)
    tests = -(-count_records(f"{options.data}/test_lmdb") // 8)
    (out / "solver.prototxt").write_text(solver(trunk, out, options.iterations, tests))
    boxes = sum(2 + 2 * len(source.ratios) for source in trunk.sources)
    print(f"{out}: {options.trunk}, {classes} classes, {boxes} kinds of prior boxes")


if __name__ == "__main__":
    run(main)
