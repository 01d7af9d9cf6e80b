"""Small nets of forks that look at regions; they join those of fork_nets."""

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from fork_nets import conv, conv_norm, conv_relu, data, net


def proposals(n, features, anchors, python=False):
    """A region proposal network, as deploy nets of py-R-FCN or py-faster-rcnn have it."""
    n.im_info = L.Input(shape={"dim": [1, 3]})
    conv_relu(n, "rpn_conv", features, 16)
    n.rpn_cls_score = conv(n.rpn_conv, 2 * anchors, 1)
    n.rpn_bbox_pred = conv(n.rpn_conv, 4 * anchors, 1)
    n.rpn_cls_score_reshape = L.Reshape(n.rpn_cls_score, shape={"dim": [0, 2, -1, 0]})
    n.rpn_cls_prob = L.Softmax(n.rpn_cls_score_reshape)
    n.rpn_cls_prob_reshape = L.Reshape(n.rpn_cls_prob, shape={"dim": [0, 2 * anchors, -1, 0]})
    if python:
        n.rois = L.Python(
            n.rpn_cls_prob_reshape,
            n.rpn_bbox_pred,
            n.im_info,
            module="rpn.proposal_layer",
            layer="ProposalLayer",
            param_str="'feat_stride': 8\n'scales': [2, 4]",
        )
        return n.rois
    n.rois = L.Proposal(
        n.rpn_cls_prob_reshape,
        n.rpn_bbox_pred,
        n.im_info,
        feat_stride=8,
        base_size=8,
        min_size=1,
        ratio=[0.5, 1, 2],
        scale=[2, 4],
        pre_nms_topn=100,
        post_nms_topn=8,
    )
    return n.rois


@net
def r_fcn():
    n = NetSpec()
    top = conv_norm(n, "conv1", data(n, 1, 3, 64, 80), 8, stride=2)
    top = conv_norm(n, "conv2", top, 16, stride=2)
    top = conv_norm(n, "conv3", top, 16, stride=2)
    rois = proposals(n, top, 6)
    for what, outputs in (("cls", 4), ("bbox", 8)):
        n[f"rfcn_{what}"] = conv(top, outputs * 9, 1)
        n[f"psroipooled_{what}"] = L.PSROIPooling(
            n[f"rfcn_{what}"], rois, spatial_scale=0.125, output_dim=outputs, group_size=3
        )
        n[f"{what}_ave"] = L.Pooling(
            n[f"psroipooled_{what}"], pool=P.Pooling.AVE, kernel_size=3, stride=3
        )
    n.cls_prob = L.Softmax(n.cls_ave)
    return n.to_proto()


@net
def faster_rcnn():
    n = NetSpec()
    top = conv_relu(n, "conv1", data(n, 1, 3, 64, 80), 8, stride=2)
    top = conv_relu(n, "conv2", top, 16, stride=2)
    top = conv_relu(n, "conv3", top, 16, stride=2)
    rois = proposals(n, top, 6, python=True)
    n.pool5 = L.ROIPooling(top, rois, pooled_h=3, pooled_w=3, spatial_scale=0.125)
    n.fc6 = L.InnerProduct(n.pool5, num_output=20, weight_filler={"type": "msra"})
    n.relu6 = L.ReLU(n.fc6, in_place=True)
    n.cls_score = L.InnerProduct(n.fc6, num_output=4, weight_filler={"type": "msra"})
    n.bbox_pred = L.InnerProduct(n.fc6, num_output=16, weight_filler={"type": "msra"})
    n.cls_prob = L.Softmax(n.cls_score)
    return n.to_proto()


@net
def ms_cnn():
    """Regions from two maps, pooled with their surroundings, and moved once more."""
    n = NetSpec()
    top = conv_relu(n, "conv1", data(n, 1, 3, 64, 96), 8, stride=4)
    fine = conv_relu(n, "conv2", top, 16, stride=2)
    coarse = conv_relu(n, "conv3", fine, 16, stride=2)
    n.found_fine, n.found_coarse = conv(fine, 2 + 4, 5), conv(coarse, 2 + 4, 5)
    codes = {"bbox_mean": [0, 0, 0, 0], "bbox_std": [0.1, 0.1, 0.2, 0.2]}
    n.proposals, n.proposals_score = L.BoxOutput(
        n.found_fine,
        n.found_coarse,
        ntop=2,
        bbox_reg_param=codes,
        box_output_param={
            "fg_thr": -5,
            "iou_thr": 0.65,
            "nms_type": "IOU",
            "field_h": [20, 40],
            "field_w": [20, 40],
            "downsample_rate": [8, 16],
            "field_whr": 2,
            "field_xyr": 2,
            "max_nms_num": 50,
            "max_post_nms_num": 8,
            "min_size": 4,
        },
    )
    regions = n.proposals
    for stage in ("1st", "2nd"):
        pool = n[f"roi_{stage}"] = L.ROIPooling(
            fine, regions, pooled_h=3, pooled_w=3, spatial_scale=0.125, pad_ratio=0.25
        )
        n[f"cls_{stage}"] = L.InnerProduct(pool, num_output=2, weight_filler={"type": "msra"})
        n[f"bbox_{stage}"] = L.InnerProduct(pool, num_output=8, weight_filler={"type": "msra"})
        if stage == "1st":
            regions = n.moved = L.DecodeBBox(n.bbox_1st, regions, bbox_reg_param=codes)
    n.cls_prob = L.Softmax(n.cls_2nd)
    return n.to_proto()


@net
def ctpn():
    """Slices of lines of text, from states that run along the rows both ways."""
    n = NetSpec()
    top = conv_relu(n, "conv1", data(n, 1, 3, 48, 80), 8, stride=4)
    top = conv_relu(n, "conv2", top, 8, stride=4)
    n.im_info = L.Input(shape={"dim": [1, 3]})
    n.windows = L.Im2col(top, convolution_param={"kernel_size": [3], "pad": [1]})
    n.columns = L.Transpose(n.windows, dim=[3, 2, 0, 1])
    n.steps = L.Reshape(n.columns, shape={"dim": [-1]}, axis=1, num_axes=2)
    n.forwards = lstm(n.steps)
    n.steps_back = L.Reverse(n.steps, axis=0)
    n.back = lstm(n.steps_back)
    n.backwards = L.Reverse(n.back, axis=0)
    n.both = L.Concat(n.forwards, n.backwards, axis=2)
    n.rows = L.Reshape(n.both, shape={"dim": [-1, 1]}, axis=1, num_axes=1)
    n.states = L.Transpose(n.rows, dim=[2, 3, 1, 0])
    n.rpn_cls_score, n.rpn_bbox_pred = conv(n.states, 20, 1), conv(n.states, 20, 1)
    n.rpn_cls_score_reshape = L.Reshape(n.rpn_cls_score, shape={"dim": [0, 2, -1, 0]})
    n.rpn_cls_prob = L.Softmax(n.rpn_cls_score_reshape)
    n.rpn_cls_prob_reshape = L.Reshape(n.rpn_cls_prob, shape={"dim": [0, 20, -1, 0]})
    n.rois, n.scores = L.Python(
        n.rpn_cls_prob_reshape,
        n.rpn_bbox_pred,
        n.im_info,
        ntop=2,
        module="layers.text_proposal_layer",
        layer="ProposalLayer",
        param_str="'feat_stride': 16",
    )
    return n.to_proto()


def lstm(bottom):
    return L.Lstm(bottom, lstm_param={"num_output": 6, "weight_filler": {"type": "xavier"}})
