"""The layers of an SSD before and after its trunk: data, predictions, loss and detections."""

from __future__ import annotations

from typing import Any

from trunks import Source, conv

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from caffe.proto import caffe_pb2

MEAN = [104, 117, 123]  # of ImageNet, BGR
VARIANCE = [0.1, 0.1, 0.2, 0.2]


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
