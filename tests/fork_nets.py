"""Small nets as people wrote them for forks of Caffe, with the layers that each family needs."""

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P

NETS = {}  # name: function() -> NetParameter


def net(function):
    NETS[function.__name__] = function
    return function


def data(n, *shape):
    n.data = L.Input(shape={"dim": list(shape)})
    return n.data


def conv(bottom, num, kernel=3, stride=1, pad=None, bias=True, **more):
    pad = kernel // 2 if pad is None else pad
    return L.Convolution(
        bottom,
        num_output=num,
        kernel_size=kernel,
        stride=stride,
        pad=pad,
        bias_term=bias,
        weight_filler={"type": "msra"},
        **more,
    )


def conv_relu(n, name, bottom, num, kernel=3, stride=1, **more):
    n[name] = conv(bottom, num, kernel, stride, **more)
    n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
    return n[name]


def conv_norm(n, name, bottom, num, kernel=3, stride=1, relu=True, **more):
    """Convolution, BatchNorm, Scale, ReLU."""
    n[name] = conv(bottom, num, kernel, stride, bias=False, **more)
    n[f"{name}_bn"] = L.BatchNorm(n[name], in_place=True)
    n[f"{name}_scale"] = L.Scale(n[name], in_place=True, bias_term=True)
    if relu:
        n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
    return n[name]


# ---- SSD -------------------------------------------------------------------------------------


def detection_heads(n, sources, classes, sizes, words=False):
    """The locations, scores and prior boxes of SSD's sources, and their detections.

    words: as TextBoxes++ has them, whose boxes stand twice in a pixel and whose words have corners.
    """
    codes, denser = (12, {"denser_prior_boxes": True}) if words else (4, {})
    parts = {"loc": [], "conf": [], "priorbox": []}
    for source, (low, high) in zip(sources, sizes, strict=True):
        bottom, count = n[source], 8 if words else 4  # boxes of a pixel
        for what, outputs in (("loc", codes * count), ("conf", classes * count)):
            name = f"{source}_mbox_{what}"
            n[name] = conv(bottom, outputs)
            n[f"{name}_perm"] = L.Permute(n[name], order=[0, 2, 3, 1])
            n[f"{name}_flat"] = L.Flatten(n[f"{name}_perm"], axis=1)
            parts[what].append(n[f"{name}_flat"])
        n[f"{source}_priorbox"] = L.PriorBox(
            bottom,
            n.data,
            min_size=low,
            max_size=high,
            aspect_ratio=2,
            flip=True,
            clip=False,
            variance=[0.1, 0.1, 0.2, 0.2],
            offset=0.5,
            **denser,
        )
        parts["priorbox"].append(n[f"{source}_priorbox"])
    n.mbox_loc = L.Concat(*parts["loc"], axis=1)
    n.mbox_conf = L.Concat(*parts["conf"], axis=1)
    n.mbox_priorbox = L.Concat(*parts["priorbox"], axis=2)
    n.mbox_conf_reshape = L.Reshape(n.mbox_conf, shape={"dim": [0, -1, classes]})
    n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2)
    n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1)
    n.detection_out = L.DetectionOutput(
        n.mbox_loc,
        n.mbox_conf_flatten,
        n.mbox_priorbox,
        detection_output_param={
            "num_classes": classes,
            "share_location": True,
            "background_label_id": 0,
            "nms_param": {"nms_threshold": 0.45, "top_k": 100},
            "code_type": P.PriorBox.CENTER_SIZE,
            "keep_top_k": 50,
            "confidence_threshold": 0.01,
            **({"use_polygon": True} if words else {}),
        },
    )


@net
def mobilenet_ssd():
    """Depthwise by groups, as in chuanqi305's MobileNet-SSD."""
    n = NetSpec()
    top = conv_norm(n, "conv0", data(n, 1, 3, 64, 64), 8, stride=2)
    for i, (width, stride) in enumerate([(16, 1), (16, 2), (32, 2), (32, 2)], 1):
        channels = 8 if i == 1 else (16 if i < 4 else 32)
        top = conv_norm(n, f"conv{i}_dw", top, channels, stride=stride, group=channels)
        top = conv_norm(n, f"conv{i}", top, width, kernel=1)
    detection_heads(n, ["conv3", "conv4"], 5, [(12, 24), (24, 48)])
    return n.to_proto()


VGG = [(1, 2, 8), (2, 2, 16), (3, 3, 16), (4, 3, 32), (5, 3, 32)]


@net
def ssd300():
    """SSD300 on VGG-16, its geometry at 300 x 300 and an eighth of its width or less."""
    n = NetSpec()
    top = data(n, 1, 3, 300, 300)
    for stage, repeats, width in VGG:
        for i in range(1, repeats + 1):
            top = conv_relu(n, f"conv{stage}_{i}", top, width)
        size = {"kernel_size": 3, "stride": 1, "pad": 1} if stage == 5 else {"kernel_size": 2}
        size.setdefault("stride", 2)
        n[f"pool{stage}"] = L.Pooling(top, pool=P.Pooling.MAX, **size)
        top = n[f"pool{stage}"]
    top = conv_relu(n, "fc6", top, 32, pad=6, dilation=6)
    conv_relu(n, "fc7", top, 32, kernel=1)
    conv_relu(n, "conv6_1", n.fc7, 16, kernel=1)
    conv_relu(n, "conv6_2", n.conv6_1, 32, stride=2)
    conv_relu(n, "conv7_1", n.conv6_2, 16, kernel=1)
    conv_relu(n, "conv7_2", n.conv7_1, 32, stride=2)
    for i in (8, 9):
        conv_relu(n, f"conv{i}_1", n[f"conv{i - 1}_2"], 16, kernel=1)
        conv_relu(n, f"conv{i}_2", n[f"conv{i}_1"], 32, pad=0)
    n.conv4_3_norm = L.Normalize(
        n.conv4_3,
        across_spatial=False,
        channel_shared=False,
        scale_filler={"type": "constant", "value": 20},
    )
    sources = ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]
    sizes = [(30, 60), (60, 111), (111, 162), (162, 213), (213, 264), (264, 315)]
    detection_heads(n, sources, 21, sizes)
    return n.to_proto()


@net
def text_boxes():
    """TextBoxes++."""
    n = NetSpec()
    top = conv_relu(n, "conv1", data(n, 1, 3, 48, 64), 8, stride=2)
    top = conv_relu(n, "conv2", top, 16, stride=4)
    conv_relu(n, "conv3", top, 16, stride=2)
    detection_heads(n, ["conv2", "conv3"], 2, [(12, 24), (24, 48)], words=True)
    return n.to_proto()


# ---- segmentation ----------------------------------------------------------------------------


def conv_bn(n, name, bottom, num, kernel=3, stride=1, relu=True, mode=None, **more):
    """Convolution, BN of PSPNet, or with `mode` of SegNet, ReLU."""
    n[name] = conv(bottom, num, kernel, stride, bias=mode is not None, **more)
    options = {"momentum": 0.95, "frozen": True} if mode is None else {"bn_mode": mode}
    n[f"{name}_bn"] = L.BN(n[name], **options)
    if relu:
        n[f"{name}_relu"] = L.ReLU(n[f"{name}_bn"], in_place=True)
    return n[f"{name}_bn"]


@net
def pspnet():
    n = NetSpec()
    top = conv_bn(n, "conv1", data(n, 1, 3, 57, 57), 8, stride=2)
    n.pool1 = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=3, stride=2, pad=1)
    top = conv_bn(n, "conv2", n.pool1, 16)
    top = conv_bn(n, "conv3", top, 16, pad=2, dilation=2)
    pyramid = [top]
    for size, stride in ((15, 15), (8, 7), (5, 5)):
        n[f"pool_{size}"] = L.Pooling(top, pool=P.Pooling.AVE, kernel_size=size, stride=stride)
        made = conv_bn(n, f"conv_{size}", n[f"pool_{size}"], 4, kernel=1)
        n[f"interp_{size}"] = L.Interp(made, height=15, width=15)
        pyramid.append(n[f"interp_{size}"])
    n.concat = L.Concat(*pyramid)
    top = conv_bn(n, "conv5", n.concat, 16)
    n.conv6 = conv(top, 5, 1)
    n.conv6_interp = L.Interp(n.conv6, zoom_factor=4)
    return n.to_proto()


@net
def segnet():
    n = NetSpec()
    top, masks = data(n, 1, 3, 45, 60), []
    for i, (width, height) in enumerate([(8, 45), (16, 23)], 1):
        top = conv_bn(n, f"conv{i}", top, width, mode="INFERENCE")
        n[f"pool{i}"], n[f"pool{i}_mask"] = L.Pooling(
            top, pool=P.Pooling.MAX, kernel_size=2, stride=2, ntop=2
        )
        top = n[f"pool{i}"]
        masks.append((n[f"pool{i}_mask"], height, 60 // 2 ** (i - 1)))
    for i, (mask, height, width) in reversed(list(enumerate(masks, 1))):
        n[f"upsample{i}"] = L.Upsample(top, mask, upsample_h=height, upsample_w=width)
        top = conv_bn(n, f"conv{i}_D", n[f"upsample{i}"], 8 if i == 2 else 4, mode="INFERENCE")
    n.prob = L.Softmax(top)
    return n.to_proto()


# ---- small and deep --------------------------------------------------------------------------


@net
def senet():
    n = NetSpec()
    top = conv_norm(n, "conv1", data(n, 1, 3, 32, 32), 16, stride=2)
    for i in (1, 2):
        conv_norm(n, f"block{i}_reduce", top, 8, kernel=1)
        conv_norm(n, f"block{i}_3x3", n[f"block{i}_reduce"], 8)
        conv_norm(n, f"block{i}_increase", n[f"block{i}_3x3"], 16, kernel=1, relu=False)
        n[f"block{i}_pool"] = L.Pooling(
            n[f"block{i}_increase"], pool=P.Pooling.AVE, global_pooling=True
        )
        conv_relu(n, f"block{i}_down", n[f"block{i}_pool"], 4, kernel=1)
        n[f"block{i}_up"] = conv(n[f"block{i}_down"], 16, 1)
        n[f"block{i}_prob"] = L.Sigmoid(n[f"block{i}_up"], in_place=True)
        n[f"block{i}"] = L.Axpy(n[f"block{i}_up"], n[f"block{i}_increase"], top)
        n[f"block{i}_relu"] = L.ReLU(n[f"block{i}"], in_place=True)
        top = n[f"block{i}"]
    n.pool5 = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    n.classifier = L.InnerProduct(n.pool5, num_output=10, weight_filler={"type": "msra"})
    n.prob = L.Softmax(n.classifier)
    return n.to_proto()


def depthwise(bottom, num, stride):
    return L.ConvolutionDepthwise(
        bottom,
        convolution_param={
            "num_output": num,
            "kernel_size": [3],
            "stride": [stride],
            "pad": [1],
            "group": num,
            "bias_term": False,
            "weight_filler": {"type": "msra"},
        },
    )


@net
def shufflenet():
    n = NetSpec()
    top = conv_norm(n, "conv1", data(n, 1, 3, 32, 32), 12, stride=2)
    for i, stride in ((1, 2), (2, 1)):
        conv_norm(n, f"res{i}_1", top, 12, kernel=1, group=3)
        n[f"shuffle{i}"] = L.ShuffleChannel(n[f"res{i}_1"], group=3)
        n[f"res{i}_2"] = depthwise(n[f"shuffle{i}"], 12, stride)
        conv_norm(n, f"res{i}_3", n[f"res{i}_2"], 12, kernel=1, relu=False, group=3)
        if stride == 2:
            n[f"match{i}"] = L.Pooling(top, pool=P.Pooling.AVE, kernel_size=3, stride=2)
            n[f"res{i}"] = L.Concat(n[f"match{i}"], n[f"res{i}_3"])
            n[f"res{i}_relu6"] = L.ReLU6(n[f"res{i}"], in_place=True)
            top = conv_norm(n, f"squeeze{i}", n[f"res{i}"], 12, kernel=1)
        else:
            n[f"res{i}"] = L.Eltwise(top, n[f"res{i}_3"])
            top = n[f"res{i}"]
    n.pool = L.Pooling(top, pool=P.Pooling.AVE, global_pooling=True)
    n.fc = conv(n.pool, 10, 1)
    n.prob = L.Softmax(n.fc)
    return n.to_proto()


@net
def yolo_v3():
    n = NetSpec()
    top = conv_norm(n, "conv0", data(n, 1, 3, 64, 64), 8, stride=2)
    fine = conv_norm(n, "conv1", top, 16, stride=4)
    coarse = conv_norm(n, "conv2", fine, 16, stride=2)
    channels = 2 * (5 + 3)
    n.out_coarse = conv(coarse, channels, 1)
    n.upsample = L.Upsample(coarse, scale=2)
    n.route = L.Concat(n.upsample, fine)
    n.out_fine = conv(n.route, channels, 1)
    n.detection_out = L.Yolov3DetectionOutput(
        n.out_coarse,
        n.out_fine,
        num_classes=3,
        num_box=2,
        confidence_threshold=0.3,
        biases=[8, 8, 16, 12, 24, 32, 48, 40],
        mask=[2, 3, 0, 1],
        anchors_scale=[16, 8],
    )
    return n.to_proto()


@net
def conv_lstm():
    """Frames that say what comes next, as ConvLSTM's own; the state goes on."""
    n = NetSpec()
    data(n, 5, 3, 16, 16)
    n.clip = L.Input(shape={"dim": [5, 1]})
    top = conv_relu(n, "conv1", n.data, 6, stride=2)
    n.frames = L.Reshape(top, shape={"dim": [5, 1, 6, 8, 8]})
    n.lstm = L.ConvLSTM(
        n.frames,
        n.clip,
        lstm_conv_param={
            "num_output": 4,
            "kernel_size": [3],
            "pad": [1],
            "weight_filler": {"type": "xavier"},
        },
    )
    n.states = L.Reshape(n.lstm, shape={"dim": [5, 4, 8, 8]})
    n.next = conv(n.states, 3, 1)
    return n.to_proto()
