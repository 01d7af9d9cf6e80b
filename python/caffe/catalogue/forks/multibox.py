"""MultiBoxLoss: the loss that SSD is trained with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ...layer import Diffs, Shape, Tensors, register
from ...proto import caffe_pb2
from ..loss import NormalizedLoss, at_least_single
from .boxes import decode, encode
from .distances import smooth_l1, smooth_l1_slope
from .matching import UNMATCHED, match, mine
from .truths import Truths

_OPTION = caffe_pb2.MultiBoxLossParameter


@register
class MultiBoxLoss(NormalizedLoss):
    """The loss of codes of boxes, and of scores of classes, of prior boxes matched to objects.

    bottom 0: codes, (N, 4 P L), L being 1 or with share_location: false num_classes; bottom 1:
    scores, (N, P num_classes); bottom 2: prior boxes, (1, 2, 4 P); bottom 3: objects, (1, 1, G, 8),
    rows (image, label, instance, xmin, ymin, xmax, ymax, difficult), image -1 for none; top: ().
    The sum of loc_weight times smooth L1 (or half the square) of the codes of matched boxes and of
    the softmax (or logistic) loss of the scores, divided by the number of matches unless loss_param
    says otherwise. Boxes are matched as `match` says. With mining_type MAX_NEGATIVE the scores of
    matched boxes count, and of the neg_pos_ratio times as many hardest others that overlap objects
    by less than neg_overlap; with HARD_EXAMPLE the sample_size hardest boxes; with NONE all boxes.
    Mining leaves images without objects out. Options: multibox_loss_param. Liu et al., 2016.

    NOTE: as in SSD the diff of codes is not divided by the variances of encode_variance_in_target.
    """

    bottom_count = (4, 4)
    param_name = "multibox_loss_param"
    replays = False
    reads_bottom = False

    def setup(self, *shapes: Shape) -> None:
        options = self.options
        self.read_normalization()
        if not options.num_classes:
            raise self.error("num_classes is missing; count the background too")
        self.mining = options.mining_type
        if options.HasField("do_neg_mining") and not options.HasField("mining_type"):
            self.mining = _OPTION.MAX_NEGATIVE if options.do_neg_mining else _OPTION.NONE
        if options.do_neg_mining and self.mining == _OPTION.NONE:
            raise self.error("do_neg_mining and mining_type: NONE contradict each other")
        if self.mining != _OPTION.NONE and not options.share_location:
            raise self.error("mining needs share_location: true; or give mining_type: NONE")
        if self.mining == _OPTION.MAX_NEGATIVE and options.neg_pos_ratio <= 0:
            raise self.error(f"neg_pos_ratio must be positive; found {options.neg_pos_ratio}")
        if self.mining == _OPTION.HARD_EXAMPLE and options.sample_size <= 0:
            raise self.error(f"sample_size must be positive; found {options.sample_size}")
        if options.map_object_to_agnostic and options.num_classes != 2:
            raise self.error("map_object_to_agnostic needs num_classes: 2, background and object")
        if options.background_label_id >= options.num_classes:
            raise self.error(
                f"background_label_id {options.background_label_id}: classes are 0 to "
                f"{options.num_classes - 1}"
            )
        self.locations = 1 if options.share_location else options.num_classes
        self.truths = Truths(self, options.num_classes, options.background_label_id)
        given = list(self.layer_param.propagate_down) or [True, True]
        self.counts_codes, self.counts_scores = given[:2]

    def reshape(self, *shapes: Shape) -> list[Shape]:
        codes, scores, priors = (int(np.prod(shape)) for shape in shapes[:3])
        images, boxes, classes = shapes[0][0], priors // 8, self.options.num_classes
        expected = (images * boxes * 4 * self.locations, images * boxes * classes)
        if (codes, scores) != expected or priors % 8 or shapes[1][0] != images:
            raise self.shape_error(
                f"{boxes} prior boxes (bottom 2 {tuple(shapes[2])}) and {classes} classes need "
                f"{expected[0]} codes and {expected[1]} scores for {images} images; found "
                f"{tuple(shapes[0])} and {tuple(shapes[1])}"
            )
        self.truths.check(3, shapes[3])
        self.shape = (images, boxes)
        return [()]

    def allows_backward(self, index: int) -> bool:
        return index < 2

    # ---- forward -------------------------------------------------------------------------------

    def forward(self, codes: Tensor, scores: Tensor, priors: Tensor, truth: Tensor) -> Tensor:
        dtype = at_least_single(codes.dtype)
        codes = codes.reshape(*self.shape, self.locations, 4).to(dtype)
        scores = scores.reshape(*self.shape, -1).to(dtype)
        self.priors, self.variances = priors.double().cpu().numpy().reshape(2, -1, 4)
        objects = self.truths.read(truth, self.shape[0], self.options.use_difficult_gt)
        matches, shared = self._match(objects, codes)  # (N, L, P) each
        chosen = self._mine(matches, shared, objects, codes, scores)
        locations = self._locations(codes, matches, objects)
        self.divisor = self.normalizer(*self.shape, torch.tensor(matches > UNMATCHED))
        losses = self._confidences(scores, matches, objects, chosen).sum()
        losses = losses * self.counts_scores
        if self.counts_codes:
            losses = losses + self.options.loc_weight * locations.sum()
        return losses / self.divisor

    def _match(self, objects: list, codes: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Which object each box of each image stands for, and their overlap, (N, L, P)."""
        options = self.options
        threshold = None if options.match_type == _OPTION.BIPARTITE else options.overlap_threshold
        found = np.full((self.shape[0], self.locations, self.shape[1]), UNMATCHED)
        shared = np.zeros(found.shape)
        for image, own in enumerate(objects):
            for slot in range(self.locations if len(own) else 0):
                if self.locations > 1 and slot == options.background_label_id:
                    continue
                if options.use_prior_for_matching:
                    boxes, rows = self.priors, np.arange(len(own))
                else:
                    boxes, rows = self._decoded(codes[image, :, slot]), self._of_slot(own, slot)
                index, shared[image, slot] = match(
                    boxes, own.boxes[rows], threshold, options.ignore_cross_boundary_bbox
                )
                matched = index > UNMATCHED
                index[matched] = rows[index[matched]]
                index[matched & ~np.isin(index, self._of_slot(own, slot))] = UNMATCHED
                found[image, slot] = index
        return found, shared

    def _of_slot(self, own, slot: int) -> np.ndarray:
        """The rows of the objects that the boxes of a slot may stand for."""
        return np.flatnonzero((own.labels == slot) | (self.locations == 1))

    def _decoded(self, codes: Tensor) -> np.ndarray:
        """The boxes (P, 4) that codes (P, 4) say."""
        variances = None if self.options.encode_variance_in_target else self.variances
        values = codes.detach().double().cpu().numpy()
        return decode(values, self.priors, variances, self.options.code_type)

    def _mine(self, matches, shared, objects, codes, scores) -> np.ndarray:
        """Which scores count, (N, P); with HARD_EXAMPLE matches that do not are taken back."""
        if self.mining == _OPTION.NONE:
            return np.ones(self.shape, bool)
        losses = self._each(scores, matches, objects)
        if self.mining == _OPTION.HARD_EXAMPLE:
            where = matches[:, 0] > UNMATCHED
            losses[where] += self._locations(codes, matches, objects).sum(1).cpu().numpy()
        chosen = np.zeros(self.shape, bool)
        for image, own in enumerate(objects):
            if not len(own):
                continue
            index, negatives = matches[image, 0], matches[image, 0] == UNMATCHED
            picked = self._pick(losses[image], index, shared[image, 0], codes[image, :, 0])
            if self.mining == _OPTION.HARD_EXAMPLE:
                index[(index > UNMATCHED) & ~picked] = UNMATCHED
            chosen[image] = (index > UNMATCHED) | (negatives & picked)
        return chosen

    def _pick(self, losses, index, shared, codes) -> np.ndarray:
        """Whether each box of an image is among the hardest, (P,)."""
        options, boxes, nms = self.options, None, self.options.nms_param
        if self.mining == _OPTION.MAX_NEGATIVE:
            eligible = (index == UNMATCHED) & (shared < options.neg_overlap)
            most = int((index > UNMATCHED).sum() * options.neg_pos_ratio)
        else:
            eligible, most = np.ones(len(index), bool), options.sample_size
        if options.HasField("nms_param") and nms.nms_threshold > 0:
            boxes = self.priors if options.use_prior_for_nms else self._decoded(codes)
        top_k = nms.top_k if nms.HasField("top_k") else -1
        found = mine(losses, eligible, most, boxes, nms.nms_threshold, top_k)
        return np.isin(np.arange(len(index)), found)

    def _labels(self, matches: np.ndarray, objects: list) -> np.ndarray:
        """The class of each box of each image by slot, (N, L, P); -1 for no object."""
        found = np.full(matches.shape, -1)
        for image, own in enumerate(objects):
            matched = matches[image] > UNMATCHED
            found[image][matched] = own.labels[matches[image][matched]]
        if self.options.map_object_to_agnostic:
            found[found >= 0] = self.options.background_label_id + 1
        return found

    def _targets(self, matches: np.ndarray, objects: list, scores: Tensor) -> Tensor:
        """Of each box 1 at its class, (N, P, classes); of softmax one class only.

        As in SSD, with the logistic loss of all boxes the background is no class.
        """
        labels = self._labels(matches, objects)  # (N, L, P)
        background = np.where((labels < 0).all(1), self.options.background_label_id, -1)
        if self.mining == _OPTION.NONE and self.options.conf_loss_type == _OPTION.LOGISTIC:
            background[:] = -1
        slots = np.concatenate([background[:, None], labels], 1)
        if self.options.conf_loss_type == _OPTION.SOFTMAX:
            slots = slots.max(1, keepdims=True)  # the last of them
        hot = (slots[..., None] == np.arange(self.options.num_classes)).any(1)
        return torch.from_numpy(hot).to(scores.device, scores.dtype)

    def _terms(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of the scores of each box, (...)."""
        if self.options.conf_loss_type == _OPTION.SOFTMAX:
            return -(scores.log_softmax(-1) * targets).sum(-1)
        return binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(-1)

    def _each(self, scores: Tensor, matches: np.ndarray, objects: list) -> np.ndarray:
        return self._terms(scores, self._targets(matches, objects, scores)).double().cpu().numpy()

    def _confidences(self, scores, matches, objects, chosen) -> Tensor:
        """The losses of the chosen scores."""
        self.chosen = torch.from_numpy(chosen).to(scores.device)
        targets = self._targets(matches, objects, scores)[self.chosen]
        own = scores[self.chosen]
        is_softmax = self.options.conf_loss_type == _OPTION.SOFTMAX
        self.score_slopes = (own.softmax(-1) if is_softmax else own.sigmoid()) - targets
        return self._terms(own, targets)

    def _locations(self, codes: Tensor, matches: np.ndarray, objects: list) -> Tensor:
        """The loss of each code of the matched boxes, (M, 4), in the order of matches."""
        options = self.options
        image, slot, prior = np.nonzero(matches > UNMATCHED)
        rows = zip(image, matches[image, slot, prior], strict=True)
        boxes = np.reshape([objects[i].boxes[row] for i, row in rows], (-1, 4))
        variances = self.variances[prior]
        in_target = options.encode_variance_in_target
        target = encode(
            boxes, self.priors[prior], None if in_target else variances, options.code_type
        )
        scale = 1 / variances if in_target else np.ones_like(target)
        if options.bp_inside:
            scale = scale * self._inside(codes, image, slot, prior)
        self.at = tuple(torch.from_numpy(rows).to(codes.device) for rows in (image, prior, slot))
        target, scale = (torch.from_numpy(x).to(codes) for x in (target, scale))
        difference = (codes[self.at] - target) * scale
        if options.loc_loss_type == _OPTION.L2:
            self.code_slopes, terms = difference, difference.square() / 2
        else:
            self.code_slopes, terms = smooth_l1_slope(difference), smooth_l1(difference)
        return terms

    def _inside(self, codes: Tensor, image, slot, prior) -> np.ndarray:
        """1 for each coordinate of the matched boxes, (M, 4), that lies in the image, else 0."""
        if self.options.use_prior_for_matching:
            boxes = self.priors[prior]
        else:
            variances = None if self.options.encode_variance_in_target else self.variances[prior]
            values = codes[image, prior, slot].double().cpu().numpy()
            boxes = decode(values, self.priors[prior], variances, self.options.code_type)
        return ((boxes >= 0) & (boxes <= 1)).astype(float)

    # ---- backward ------------------------------------------------------------------------------

    def backward(
        self, diffs: Diffs, bottoms: Tensors, tops: Tensors, wanted: Sequence[bool]
    ) -> Diffs:
        factor = diffs[0] / self.divisor
        made: list[Tensor | None] = [None, None, None, None]
        if wanted[0]:
            slopes = self.code_slopes
            dcodes = slopes.new_zeros(*self.shape, self.locations, 4)
            dcodes[self.at] = slopes * (factor * self.options.loc_weight)
            made[0] = dcodes.reshape(bottoms[0].shape).to(bottoms[0].dtype)
        if wanted[1]:
            dscores = self.score_slopes.new_zeros(*self.shape, self.options.num_classes)
            dscores[self.chosen] = self.score_slopes * factor
            made[1] = dscores.reshape(bottoms[1].shape).to(bottoms[1].dtype)
        return made
