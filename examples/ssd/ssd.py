"""Write the nets and the solver of an SSD: train, test and deploy.

    python examples/ssd/ssd.py [FLAGS] DATA OUT

DATA holds trainval_lmdb, test_lmdb and labelmap.prototxt, as data_prep/demo_detection.py and
data_prep/convert_annoset.py make them. OUT gets train.prototxt, test.prototxt, deploy.prototxt and
solver.prototxt; then `caffe train -solver OUT/solver.prototxt` trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2
from caffe_plain.database import count_records
from caffe_plain.flags import FlagParser
from relaybp.data_prep.errors import PrepError, run
from relaybp.data_prep.voc import read_label_map

MEAN = [104, 117, 123]  # of ImageNet, BGR
VARIANCE = [0.1, 0.1, 0.2, 0.2]


class Source(NamedTuple):
    """A blob that boxes are predicted from, and what its prior boxes are, in pixels."""

    blob: str
    low: float  # min_size
    high: float  # max_size
    ratios: tuple[int, ...]
    step: int
    norm: int = 0  # scale of a Normalize layer, or 0 for none


class Trunk(NamedTuple):
    """A net up to its sources; `layers(n)` adds them above n.data."""

    size: int  # pixels a side of the input
    sources: tuple[Source, ...]
    batch: int
    rule: str  # of the solver
    rate: float
    layers: Any


# ---- trunks -------------------------------------------------------------------------------------


def small(n: NetSpec) -> None:
    """Eight convolutions with batch normalization, down to 3 x 3."""
    top = n.data
    for i, (width, stride) in enumerate(
        [(16, 2), (32, 2), (32, 1), (48, 2), (48, 1), (64, 2), (64, 1), (64, 2)], 1
    ):
        n[f"conv{i}"] = L.Convolution(
            top,
            num_output=width,
            kernel_size=3,
            stride=stride,
            pad=1,
            bias_term=False,
            weight_filler={"type": "msra"},
        )
        n[f"conv{i}_bn"] = L.BatchNorm(n[f"conv{i}"], in_place=True)
        n[f"conv{i}_scale"] = L.Scale(n[f"conv{i}"], in_place=True, bias_term=True)
        top = n[f"conv{i}_relu"] = L.ReLU(n[f"conv{i}"], in_place=True)


def vgg16(n: NetSpec) -> None:
    """VGG-16, its fully connected layers as dilated convolutions, and SSD300's extra layers.

    The names are those of VGG_ILSVRC_16_layers_fc_reduced.caffemodel.
    """
    top = n.data
    for stage, (count, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for i in range(1, count + 1):
            top = conv_relu(n, f"conv{stage}_{i}", top, width, pad=1)
        kernel, stride = (3, 1) if stage == 5 else (2, 2)
        pad = 1 if stage == 5 else 0
        top = n[f"pool{stage}"] = L.Pooling(top, kernel_size=kernel, stride=stride, pad=pad)
    top = conv_relu(n, "fc6", top, 1024, pad=6, dilation=6)
    top = conv_relu(n, "fc7", top, 1024, kernel=1)
    for name, narrow, wide, stride, pad in [
        ("conv6", 256, 512, 2, 1),
        ("conv7", 128, 256, 2, 1),
        ("conv8", 128, 256, 1, 0),
        ("conv9", 128, 256, 1, 0),
    ]:
        top = conv_relu(n, f"{name}_1", top, narrow, kernel=1)
        top = conv_relu(n, f"{name}_2", top, wide, stride=stride, pad=pad)


def conv(bottom: Any, outputs: int, kernel: int = 3, **more: Any) -> Any:
    """A Convolution as SSD trains it: biases learn twice as fast and do not decay."""
    return L.Convolution(
        bottom,
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
        num_output=outputs,
        kernel_size=kernel,
        weight_filler={"type": "xavier"},
        bias_filler={"type": "constant", "value": 0},
        **more,
    )


def conv_relu(n: NetSpec, name: str, bottom: Any, outputs: int, **more: Any) -> Any:
    """A Convolution named `name` and its ReLU."""
    n[name] = conv(bottom, outputs, **more)
    n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
    return n[name]


TRUNKS = {
    "small": Trunk(
        96,
        (
            Source("conv5", 14, 28, (2,), 8),
            Source("conv7", 28, 46, (2,), 16),
            Source("conv8", 46, 66, (2,), 32),
        ),
        16,
        "Adam",
        0.003,
        small,
    ),
    "vgg16": Trunk(
        300,
        (
            Source("conv4_3", 30, 60, (2,), 8, norm=20),
            Source("fc7", 60, 111, (2, 3), 16),
            Source("conv6_2", 111, 162, (2, 3), 32),
            Source("conv7_2", 162, 213, (2, 3), 64),
            Source("conv8_2", 213, 264, (2,), 100),
            Source("conv9_2", 264, 315, (2,), 300),
        ),
        32,
        "SGD",
        0.001,
        vgg16,
    ),
}


# ---- heads --------------------------------------------------------------------------------------


def heads(n: NetSpec, sources: tuple[Source, ...], classes: int) -> list[Any]:
    """[codes, scores, prior boxes] of all sources; the names are SSD's."""
    parts: dict[str, list[Any]] = {"loc": [], "conf": [], "priorbox": []}
    for source in sources:
        bottom, name = n[source.blob], source.blob
        if source.norm:
            name = f"{name}_norm"
            bottom = n[name] = L.Normalize(
                bottom,
                norm_param={
                    "across_spatial": False,
                    "scale_filler": {"type": "constant", "value": source.norm},
                    "channel_shared": False,
                },
            )
        boxes = 2 + 2 * len(source.ratios)
        for what, outputs in (("loc", 4 * boxes), ("conf", classes * boxes)):
            top = n[f"{name}_mbox_{what}"] = conv(bottom, outputs, pad=1)
            top = n[f"{name}_mbox_{what}_perm"] = L.Permute(top, order=[0, 2, 3, 1])
            n[f"{name}_mbox_{what}_flat"] = L.Flatten(top, axis=1)
            parts[what].append(n[f"{name}_mbox_{what}_flat"])
        n[f"{name}_mbox_priorbox"] = L.PriorBox(
            bottom,
            n.data,
            min_size=source.low,
            max_size=source.high,
            aspect_ratio=list(source.ratios),
            flip=True,
            clip=False,
            variance=VARIANCE,
            step=source.step,
            offset=0.5,
        )
        parts["priorbox"].append(n[f"{name}_mbox_priorbox"])
    for what, axis in (("loc", 1), ("conf", 1), ("priorbox", 2)):
        n[f"mbox_{what}"] = L.Concat(*parts[what], axis=axis)
    return [n.mbox_loc, n.mbox_conf, n.mbox_priorbox]


def loss(n: NetSpec, tops: list[Any], classes: int) -> None:
    """The loss that SSD trains with."""
    n.mbox_loss = L.MultiBoxLoss(
        *tops,
        n.label,
        propagate_down=[True, True, False, False],
        loss_param={"normalization": P.Loss.VALID},
        multibox_loss_param={
            "loc_loss_type": P.MultiBoxLoss.SMOOTH_L1,
            "conf_loss_type": P.MultiBoxLoss.SOFTMAX,
            "loc_weight": 1,
            "num_classes": classes,
            "match_type": P.MultiBoxLoss.PER_PREDICTION,
            "overlap_threshold": 0.5,
            "use_difficult_gt": True,
            "neg_pos_ratio": 3,
            "neg_overlap": 0.5,
            "code_type": P.PriorBox.CENTER_SIZE,
            "mining_type": P.MultiBoxLoss.MAX_NEGATIVE,
        },
    )


def detections(n: NetSpec, tops: list[Any], classes: int) -> None:
    """What is found, after softmax and suppression."""
    codes, scores, priors = tops
    n.mbox_conf_reshape = L.Reshape(scores, shape={"dim": [0, -1, classes]})
    n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2)
    n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1)
    n.detection_out = L.DetectionOutput(
        codes,
        n.mbox_conf_flatten,
        priors,
        detection_output_param={
            "num_classes": classes,
            "nms_param": {"nms_threshold": 0.45, "top_k": 400},
            "code_type": P.PriorBox.CENTER_SIZE,
            "keep_top_k": 200,
            "confidence_threshold": 0.01,
        },
    )


# ---- data ---------------------------------------------------------------------------------------


def data(n: NetSpec, source: str, size: int, batch: int, training: bool) -> None:
    """The images and objects, with SSD's augmentation in training."""
    transform: dict[str, Any] = {
        "mean_value": MEAN,
        "resize_param": {"height": size, "width": size, "interp_mode": P.Resize.LINEAR},
    }
    annotated = {}
    if training:
        transform.update(
            mirror=True,
            distort_param={
                "brightness_prob": 0.5,
                "brightness_delta": 32,
                "contrast_prob": 0.5,
                "contrast_lower": 0.5,
                "contrast_upper": 1.5,
                "hue_prob": 0.5,
                "hue_delta": 18,
                "saturation_prob": 0.5,
                "saturation_lower": 0.5,
                "saturation_upper": 1.5,
            },
            expand_param={"prob": 0.5, "max_expand_ratio": 2 if size < 300 else 4},
            emit_constraint={"emit_type": caffe_pb2.EmitConstraint.CENTER},
        )
        annotated = {"batch_sampler": samplers()}
    n.data, n.label = L.AnnotatedData(
        ntop=2,
        transform_param=transform,
        data_param={"source": source, "batch_size": batch, "backend": P.Data.LMDB},
        annotated_data_param=annotated,
    )


def samplers() -> list[dict[str, Any]]:
    """The whole image, or a window that overlaps an object by 0.1, 0.3, ... or at most 1."""
    shape = {"min_scale": 0.3, "max_scale": 1, "min_aspect_ratio": 0.5, "max_aspect_ratio": 2}
    limits = [{"min_jaccard_overlap": limit} for limit in (0.1, 0.3, 0.5, 0.7, 0.9)]
    return [{"max_sample": 1, "max_trials": 1}] + [
        {"sampler": shape, "sample_constraint": limit, "max_sample": 1, "max_trials": 50}
        for limit in (*limits, {"max_jaccard_overlap": 1})
    ]


# ---- files --------------------------------------------------------------------------------------


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
