"""Inference (TEST, keep_blobs = False) gives what the layers give one by one."""

from pathlib import Path

import numpy as np
import pytest

import array_cases
import caffe
import deploy_nets
import random_nets
from caffe.kernels import choice
from caffe.run import by_image

ROOT = Path(__file__).parent.parent
DEPLOYS = sorted((ROOT / "prototxt").glob("*/deploy*.prototxt"))
LIGHT = ("resnet20/deploy.prototxt", "auxnet-26-2-wide/deploy_aux19.prototxt")
SEEDS = [*range(30), *(pytest.param(seed, marks=pytest.mark.heavy) for seed in range(30, 400))]

pytestmark = pytest.mark.unlooked


@pytest.fixture(autouse=True)
def single_precision():
    yield
    caffe.set_precision("fp32")


@pytest.fixture(params=["the fastest", "the engine's own", "image by image"])
def kernels(request, monkeypatch):
    """Runs a test by the ways that are the fastest here, and by the last of the engine's own.

    Of a batch together, or image by image as far as that goes.
    """
    if request.param != "the fastest":

        def fastest(operation, details, ways, *_):
            if operation == "by image" and request.param == "image by image":
                return [*ways][-1]
            own = [name for name in ways if name.startswith("own")]
            return own[-1] if own else next(iter(ways))

        monkeypatch.setattr(choice, "fastest", fastest)
        monkeypatch.setattr(choice, "is_measured", lambda: True)


def small(name):
    return deploy_nets.fill(caffe.Net(deploy_nets.message(deploy_nets.NETS[name]), caffe.TEST))


def outputs(net, blobs=None, **inputs):
    return {name: array.copy() for name, array in net.forward(blobs, **inputs).items()}


def check(found, expected, tolerance=1e-5, least=1e-30):
    """Relative to the largest value of each blob, or to `least` if that is larger."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        most = max(np.abs(array).max(initial=0), least)
        assert found[name].shape == array.shape
        assert np.abs(found[name] - array).max(initial=0) <= tolerance * most, name


def steps(net):
    """How many steps a pass takes, inputs left out."""
    return len(net._sweep._inference._steps)


def chain(net):
    """The first chain of the plan of a net."""
    parts = net._sweep._inference._plan._parts
    return next(part.__self__ for part in parts if hasattr(part, "__self__"))


def in_double(make, net, names, batches):
    """What the layers of a net, of another that `make` makes, give in double precision."""
    caffe.set_precision("fp64")
    double, (data,) = make(), net.inputs
    for name, blobs in net.params.items():
        for blob, single in zip(double.params[name], blobs, strict=True):
            blob.data[...] = single.data
    found = [outputs(double, names, **{data: images}) for images in batches]
    caffe.set_precision("fp32")
    return found


def check_as(exact, found, plain):
    """Within 1e-5 of double precision, or 3 times as far as the layers where sums cancel."""
    for name, values in exact.items():
        unit = max(np.abs(values).max(), 0.1)
        mine, theirs = (np.abs(each[name] - values).max() / unit for each in (found, plain))
        assert mine <= max(1e-5, 3 * theirs), name


@pytest.mark.parametrize("name", deploy_nets.NETS)
def test_small_deploy_nets(name, kernels):
    net, plain = small(name), small(name)
    net.keep_blobs = False
    for factor in (1, 2, 3):  # the second pass makes a plan
        images = factor * deploy_nets.batch(net)
        check(outputs(net, data=images), outputs(plain, data=images))


WIDE = deploy_nets.net(  # what a plan places: parts of concatenations, sums, shared values
    "wide",
    (2, 3, 12, 13),
    deploy_nets.conv("stem", "data", 32, 3, "pad: 1"),
    deploy_nets.relu("stem"),
    deploy_nets.conv("dw", "stem", 32, 3, "pad: 1 group: 32"),
    deploy_nets.conv("a", "dw", 16, 1),
    deploy_nets.relu("a"),
    deploy_nets.pool("b", "dw", 3, 1, more="pad: 1"),
    deploy_nets.conv("c", "dw", 32, 3, "pad: 1"),
    ("sum", "Eltwise", "c stem"),
    deploy_nets.relu("sum"),
    ("inner", "Concat", "a b"),
    ("outer", "Concat", "inner sum a"),
    deploy_nets.conv("d", "outer", 96, 1),
    ("again", "Eltwise", "d outer"),
    ("twice", "Concat", "again again"),
    deploy_nets.pool("small", "twice", 3, 2, "AVE"),
    deploy_nets.conv("down", "small", 192, 3, "pad: 1 stride: 2 group: 192"),
    deploy_nets.fc("fc", "down", 20),
    deploy_nets.relu("fc"),
    deploy_nets.fc("scores", "fc", 10),
)


@pytest.mark.parametrize(
    "kept", [[], ["stem"], ["a", "sum"], ["inner"], ["outer", "c"], ["again", "twice", "fc"]]
)
def test_a_plan_gives_what_the_layers_give(kept, kernels):
    net, plain = (
        deploy_nets.fill(caffe.Net(deploy_nets.message(WIDE), caffe.TEST)) for _ in range(2)
    )
    net.keep_blobs = kept
    images, held = deploy_nets.batch(net), []
    for factor in (1, -2, 3, 1):
        expected = plain.forward(kept, data=factor * images)
        found = {
            name: array.copy() for name, array in net.forward(kept, data=factor * images).items()
        }
        check(found, expected)
        held.append(({name: net.blobs[name].tensor for name in found}, found))
    for tensors, found in held:  # later passes have not written into what was given away
        check({name: tensor.numpy() for name, tensor in tensors.items()}, found)
    check({"b": net.blobs["b"].data}, {"b": plain.blobs["b"].data})  # made when somebody looks


@pytest.mark.parametrize("count", range(1, 17))
def test_any_number_of_first_steps_may_take_image_by_image(count, monkeypatch):
    def fastest(operation, details, ways, *_):
        own = [name for name in ways if name.startswith(("own", f"{count} steps"))]
        return own[0] if own else next(iter(ways))

    monkeypatch.setattr(choice, "fastest", fastest)
    monkeypatch.setattr(choice, "is_measured", lambda: True)
    monkeypatch.setattr(by_image, "_cuts", lambda front: range(1, len(front) + 1))
    text = deploy_nets.message(WIDE.replace("dim: 2 ", "dim: 3 "))
    net, plain = (deploy_nets.fill(caffe.Net(text, caffe.TEST)) for _ in range(2))
    net.keep_blobs = ["sum"]
    for factor in (1, 2, 3):
        images = factor * deploy_nets.batch(net)
        check(outputs(net, ["sum"], data=images), outputs(plain, ["sum"], data=images))
    assert chain(net)._singles == count
    for name, blob in net.blobs.items():
        assert blob.shape == plain.blobs[name].shape


def test_a_residual_net_runs_in_a_step_for_each_convolution():
    net = small("resnet")
    net.keep_blobs = False
    splits = sum(layer.type == "Split" for layer in net.layers)
    convolutions = sum(layer.type == "Convolution" for layer in net.layers)
    assert steps(net) == convolutions + splits + len(["pool1", "pool5", "fc", "prob"])


def test_a_convolution_by_channel_and_the_next_of_1x1_run_as_one():
    net, plain = small("mobilenet"), small("mobilenet")
    net.keep_blobs = False
    splits = sum(layer.type == "Split" for layer in net.layers)
    separable = ["conv2", "conv3", "conv4", "conv5"]
    assert steps(net) == len(["conv1", *separable, "pool", "fc", "prob"]) + splits
    net.keep_blobs = ["conv3_dw"]
    assert steps(net) == len(["conv1", "conv3_dw", *separable, "pool", "fc", "prob"]) + splits
    images = deploy_nets.batch(net)
    for _ in range(3):
        check(net.forward(["conv3_dw"], data=images), plain.forward(["conv3_dw"], data=images))
    net.params["conv3_dw"][0].data[...] *= 2
    plain.params["conv3_dw"][0].data[...] *= 2
    net.keep_blobs = False
    for _ in range(3):
        check(outputs(net, data=images), outputs(plain, data=images))


@pytest.mark.parametrize(
    "path",
    [
        path if str(path).endswith(LIGHT) else pytest.param(path, marks=pytest.mark.heavy)
        for path in DEPLOYS
    ],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_shipped_model(path, kernels):
    caffe.set_random_seed(1)
    make = lambda: caffe.Net(str(path), caffe.TEST)  # noqa: E731
    net = deploy_nets.fill(make())
    images, scores = deploy_nets.batch(net), net.bottom_names[net.outputs[0]]
    (exact,) = in_double(make, net, scores, [images])
    plain = outputs(net, scores, data=images)
    del exact[net.outputs[0]]  # in which the softmax makes much of a little of large scores
    net.keep_blobs = scores
    for _ in range(3):
        found = outputs(net, scores, data=images)
        assert set(found) == {*scores, *net.outputs}
        check_as(exact, found, plain)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_nets(seed, kernels):
    caffe.set_random_seed(seed)
    net = array_cases.net(random_nets.RandomNet(seed).text, caffe.TEST)
    random = np.random.RandomState(seed)
    for name, blobs in net.params.items():
        low = 0.5 if net.layer_dict[name].type == "BatchNorm" else -0.5
        for blob in blobs:
            blob.data[...] = random.uniform(low, 1, blob.shape)
    inputs = {
        "x": random.randn(*net.blobs["x"].shape),
        "labels": random.randint(2, size=net.blobs["labels"].shape),
    }
    expected, loss = outputs(net, **inputs), net._forward(0, len(net.layers) - 1)
    net.keep_blobs = False
    for _ in range(3):
        check(outputs(net, **inputs), expected, 1e-4, least=0.01)
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(loss, rel=1e-4, abs=1e-5)


FOLLOWERS = {
    "Convolution": "convolution_param { num_output: 4 kernel_size: 3 pad: 1 %s }",
    "InnerProduct": "inner_product_param { num_output: 4 %s }",
    "BatchNorm": "batch_norm_param { %s }",
    "Scale": "scale_param { bias_term: true %s }",
    "Bias": "bias_param { %s }",
    "ReLU": "relu_param { %s }",
    "Clip": "clip_param { min: -0.5 max: 2 %s }",
    "Eltwise": "eltwise_param { %s }",
    "Dropout": "dropout_param { %s }",
}
VARIANTS = {
    "Convolution": ("bias_term: false", "group: 2", "dilation: 2 pad: 2", "group: 4", ""),
    "InnerProduct": ("bias_term: false", "transpose: true"),
    "BatchNorm": ("", "scale_bias: true", "use_global_stats: false"),
    "Scale": ("", "", "axis: 0", "num_axes: 0"),
    "Bias": ("", "axis: 0"),
    "ReLU": ("", "", "negative_slope: 0.1"),
    "Eltwise": ("", "", "coeff: 1 coeff: -1", "operation: MAX", "operation: PROD"),
}


def random_chain(seed):
    """A net of products and what may follow them, in place or not, in any order."""
    random = np.random.RandomState(seed)
    lines = [deploy_nets.net("chain", (4, 4, 5, 6)).replace('"data"', '"x"')]
    blobs, read = {"x": True}, set()  # name: whether it is of images; which have been read
    for number in range(random.randint(6, 30)):
        kind = ("Convolution", *FOLLOWERS)[random.randint(len(FOLLOWERS) + 1)]
        newest = list(blobs)[-1]
        bottoms = [newest if random.rand() < 0.8 else random.choice(list(blobs))]
        if kind == "Convolution" and not blobs[bottoms[0]]:
            continue
        if kind == "Eltwise":
            others = [name for name in blobs if blobs[name] == blobs[bottoms[0]]]
            bottoms.insert(random.randint(2), random.choice(others))
        can_be_in_place = kind not in ("Convolution", "InnerProduct")
        is_free = bottoms[0] not in read and bottoms.count(bottoms[0]) == 1
        in_place = can_be_in_place and is_free and random.rand() < 0.6
        top = bottoms[0] if in_place else f"b{number}"
        read.update(name for name in bottoms if name != top)
        variants = VARIANTS.get(kind, ("",))
        options = FOLLOWERS[kind] % variants[random.randint(len(variants))]
        if "dilation" in options:
            options = options.replace("pad: 1 ", "")
        names = " ".join(f'bottom: "{name}"' for name in bottoms)
        lines.append(f'layer {{ name: "l{number}" type: "{kind}" {names} top: "{top}" {options} }}')
        images = kind != "InnerProduct" and blobs[bottoms[0]]
        blobs.pop(top, None)
        blobs[top] = images
    return "\n".join(lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_chains(seed, kernels):
    make = lambda: array_cases.net(random_chain(seed), caffe.TEST)  # noqa: E731
    net = deploy_nets.fill(make(), seed)
    random = np.random.RandomState(seed)
    names = sorted(random.choice(list(net.blobs), random.randint(3)))
    batches = random.randn(3, *net.blobs["x"].shape).astype(np.float32)
    exact = in_double(make, net, names, batches)
    plain = [outputs(net, names, x=images) for images in batches]
    net.keep_blobs = names
    for images, layers, judge in zip(batches, plain, exact, strict=True):
        found = outputs(net, names, x=images)
        assert set(found) == set(judge)
        check_as(judge, found, layers)


@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("shape", [(2, 16, 3, 5), (1, 48, 40, 40), (2, 7, 3, 3)])
@pytest.mark.parametrize("size", [1, 3, 5, 37])
def test_local_response_normalization(shape, size, beta):
    """By the kernel, and where the kernel does not take the channels, by its definition."""
    options = f"lrn_param {{ local_size: {size} alpha: 2 beta: {beta} k: 1.5 }}"
    text = deploy_nets.net("lrn", shape, ("y", "LRN", "data", options))
    net = caffe.Net(deploy_nets.message(text), caffe.TEST)
    images = deploy_nets.batch(net).astype(np.float64)
    net.keep_blobs = False
    found = net.forward(data=images)["y"]
    squares = np.pad(images**2, ((0, 0), (size // 2,) * 2, (0, 0), (0, 0)))
    sums = sum(squares[:, near : near + shape[1]] for near in range(size))
    check({"y": found}, {"y": images / (1.5 + 2 * sums / size) ** beta}, 1e-6)


# ---- what may change between two passes ----------------------------------------------------------


@pytest.mark.parametrize(
    "writes", ["an array", "an array held", "a tensor", "all from a file", "all by sharing"]
)
def test_a_write_into_any_parameter_is_seen(tmp_path, writes):
    net, plain = small("resnet"), small("resnet")
    images = deploy_nets.batch(net)
    net.keep_blobs = False
    net.forward(data=images)
    held = {}
    if writes == "an array held":
        held = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    random = np.random.RandomState(0)
    for name, blobs in plain.params.items():
        for index, blob in enumerate(blobs):
            blob.data[...] *= random.uniform(0.8, 1.2, blob.shape)
            mine = net.params[name][index]
            if writes == "an array":
                mine.data[...] = blob.data
            elif writes == "an array held":
                held[name][index][...] = blob.data
            elif writes == "a tensor":
                mine.tensor.copy_(blob.tensor)
                mine.show("data")
            if index == 0 and not writes.startswith("all"):
                check(outputs(net, data=images), outputs(plain, data=images))
    if writes == "all from a file":
        plain.save(str(tmp_path / "a.caffemodel"))
        net.copy_from(str(tmp_path / "a.caffemodel"))
    elif writes == "all by sharing":
        net.share_with(plain)
    check(outputs(net, data=images), outputs(plain, data=images))


def test_images_of_other_shapes():
    net, plain = small("resnet"), small("resnet")
    net.keep_blobs = False
    for shape in ((2, 3, 49, 49), (1, 3, 49, 49), (3, 3, 61, 33), (0, 3, 49, 49), (2, 3, 49, 49)):
        images = np.random.RandomState(0).randn(*shape)
        for each in (net, plain):
            each.blobs["data"].reshape(*shape)
        check(outputs(net, data=images), outputs(plain, data=images))
        assert {name: blob.shape for name, blob in net.blobs.items()} == {
            name: blob.shape for name, blob in plain.blobs.items()
        }


FEW = (  # own kernels, first for images, then for rows
    deploy_nets.conv("c", "data", 16, 3, "pad: 1"),
    deploy_nets.conv("d", "c", 32, 1),
    deploy_nets.pool("p", "d", 2, 2),
    deploy_nets.fc("fc", "p", 9),
)


def two(*layers, shape=(4, 16, 6, 7)):
    """A net that keeps its outputs only, and the same that keeps all."""
    text = deploy_nets.message(deploy_nets.net("few", shape, *layers))
    net, plain = (deploy_nets.fill(caffe.Net(text, caffe.TEST)) for _ in range(2))
    net.keep_blobs = False
    return net, plain


@pytest.mark.parametrize("between", ["a NaN", "reshape", "a part"])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_a_plan_has_the_shapes_of_its_passes(between, passes, kernels):
    net, plain = two(*FEW[:3], ("lrn", "LRN", "c"))  # a split's tops leave the chain
    images = deploy_nets.batch(net)
    for _ in range(passes):
        check(outputs(net, data=images), outputs(plain, data=images))
    others = np.concatenate([images, images])[:, :, :5, :6]
    net.blobs["data"].reshape(*others.shape)
    net.blobs["data"].data[...] = others
    if between == "a NaN":
        net.blobs["data"].data[0, 0, 0, 0] = np.nan
        net.forward()
    elif between == "reshape":
        net.reshape()
    else:
        net.forward(end="c")
    for again in (images, others, images):
        for each in (net, plain):
            each.blobs["data"].reshape(*again.shape)
        for _ in range(2):
            check(outputs(net, data=again), outputs(plain, data=again))
            assert net.blobs["p"].shape == plain.blobs["p"].shape
    assert net.blobs["d"].data.shape == plain.blobs["d"].shape


def test_a_layer_may_find_more_or_fewer_each_time(kernels):
    """A Filter: the shapes after it depend on values."""
    select = ("select", "Slice", "data", "top: 'pick' slice_param { slice_point: 16 }")
    mean = ("mean", "Pooling", "pick", "pooling_param { pool: AVE global_pooling: true }")
    following = [
        (name, kind, "f" if name == "c" else below, more) for name, kind, below, more in FEW
    ]
    filtered = ("f", "Filter", "select mean")
    net, plain = two(select, mean, filtered, *following, shape=(4, 17, 6, 7))
    images = deploy_nets.batch(net)
    for picked in ([1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 0], [1] * 4, [1, 1, 0, 1]):
        images[:, 16] = np.array(picked).reshape(4, 1, 1)
        expected = outputs(plain, data=images)
        assert expected["fc"].shape == (sum(picked), 9)
        check(outputs(net, data=images), expected)
        assert net.blobs["p"].shape == plain.blobs["p"].shape


def test_what_is_measured_leaves_the_inputs_alone(monkeypatch):
    """A layer in place, which would change them once more each time."""

    def fastest(operation, details, ways, measure=None):
        own = [name for name in ways if name.startswith("own")]
        return measure(ways) if operation == "by image" else [*own, *ways][0]

    monkeypatch.setattr(choice, "fastest", fastest)
    monkeypatch.setattr(choice, "is_measured", lambda: True)
    in_place = ("data", "Softmax", "data")  # its top, too, is "data"
    net, plain = two(in_place, *FEW)
    images = deploy_nets.batch(net)
    for _ in range(3):
        check(outputs(net, data=images), outputs(plain, data=images))
        check({"data": net.blobs["data"].data}, {"data": plain.blobs["data"].data})


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("fp64", 1e-12)])
def test_other_precisions(precision, tolerance):
    net = small("resnet")
    images = deploy_nets.batch(net)
    caffe.set_precision("fp64")
    expected = outputs(net, data=images)
    net.keep_blobs = False
    caffe.set_precision("fp32")
    check(outputs(net, data=images), expected)
    caffe.set_precision(precision)
    check(outputs(net, data=images), expected, tolerance)


@pytest.mark.parametrize("where", ["an input", "a weight", "a statistic"])
def test_what_is_not_a_number_shows(where, kernels):
    convolution = deploy_nets.conv_bn("conv", "data", 3, 3)
    following = deploy_nets.relu("conv"), deploy_nets.fc("fc", "conv", 5)
    text = deploy_nets.net("small", (2, 3, 9, 9), *convolution, *following)
    net = deploy_nets.fill(caffe.Net(deploy_nets.message(text), caffe.TEST))
    net.keep_blobs = False
    images = deploy_nets.batch(net)
    for _ in range(3):  # with a plan, too
        assert np.isfinite(net.forward(data=images)["fc"]).all()
    if where == "an input":
        images[0, 0, 4, 4] = np.nan
    else:
        net.params["conv" if where == "a weight" else "bn_conv"][0].data.flat[0] = np.nan
    for _ in range(3):
        found = net.forward(data=images)["fc"]
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all() == (where == "an input")


# ---- looking inside ------------------------------------------------------------------------------


def test_blobs_that_were_not_kept_are_made_for_who_reads_them():
    net, plain = small("resnet"), small("resnet")
    images = deploy_nets.batch(net)
    plain.forward(data=images)
    net.keep_blobs = False
    net.forward(data=images)
    net.blobs["data"].data[...] = 0  # the next batch
    for name in ("res2_a", "conv1", "res3", "prob"):
        check({name: net.blobs[name].data}, {name: plain.blobs[name].data})
    assert (net.blobs["data"].data == 0).all()


def test_layers_that_count_or_draw_run_once_whoever_looks_inside():
    """The moving sum of BatchNorm gets one batch, the scores are those of what Dropout drew."""
    text = deploy_nets.net(
        "small",
        (2, 3, 9, 9),
        ("label", "Input", "", "input_param { shape { dim: [2, 1, 9, 9] } }"),
        *deploy_nets.conv_bn("conv", "data", 3, 3, "pad: 1"),
        ("own", "Power", "conv"),
        ("sums", "BatchNorm", "own", "batch_norm_param { use_global_stats: false }"),
        ("drop", "Dropout", "own", "dropout_param { sample_weights_test: true }"),
        ("seen", "SegAccuracy", "own label", "seg_accuracy_param { reset: false }"),
        deploy_nets.fc("fc", "own", 5),
    )
    net = deploy_nets.fill(caffe.Net(deploy_nets.message(text), caffe.TEST))
    images = np.random.RandomState(1).randn(2, 3, 9, 9)
    net.keep_blobs = False
    factor = net.params["sums"][2].data.item()
    scores = net.forward(data=images, label=np.zeros((2, 1, 9, 9)))["fc"].copy()
    drawn = net.blobs["own"].data.copy()
    assert net.blobs["conv"].hidden and np.ptp(net.blobs["conv"].data)  # made now
    assert (net.blobs["own"].data == drawn).all() and (drawn == 0).mean() > 0.2
    weight, bias = (blob.data for blob in net.params["fc"])
    np.testing.assert_allclose(scores, drawn.reshape(2, -1) @ weight.T + bias, rtol=1e-4, atol=1e-4)
    # Caffe's moving sum: the factor times moving_average_fraction, 0.999, plus 1
    assert net.params["sums"][2].data.item() == pytest.approx(0.999 * factor + 1)
    assert net.layer_dict["seen"].counts.sum() == 2 * 9 * 9


def test_named_blobs_are_kept_and_others_are_not():
    net = small("resnet")
    images, names = deploy_nets.batch(net), ["res2_c", "res3"]
    expected = {name: array.copy() for name, array in net.forward(names, data=images).items()}
    net.keep_blobs = names
    check(net.forward(names, data=images), expected)
    assert not any(net.blobs[name].hidden for name in [*names, "data", "prob"])
    assert net.blobs["res2_a"].hidden
    with pytest.raises(caffe.CaffeError, match="no blob 'res2_d'"):
        net.keep_blobs = ["res2_d"]
    assert net.keep_blobs == set(names)


@pytest.mark.parametrize("start", ["res3_b", "fc"])
def test_a_part_of_the_net_begins_with_what_the_whole_would_have_left(start):
    net = small("resnet")
    images = deploy_nets.batch(net)
    expected = outputs(net, data=images)
    net.keep_blobs = False
    net.forward(data=images)
    check(net.forward(start=start), expected)


def test_backward_after_a_pass_that_kept_nothing():
    found = []
    for keep in (True, False):
        param = deploy_nets.message(deploy_nets.NETS["resnet"])
        param.force_backward = True
        net = deploy_nets.fill(caffe.Net(param, caffe.TEST))
        net.keep_blobs = keep
        net.forward(data=deploy_nets.batch(net))
        net.clear_param_diffs()
        net.backward(prob=np.random.RandomState(2).randn(2, 10))
        diffs = {name: blobs[0].diff.copy() for name, blobs in net.params.items()}
        found.append({**diffs, "data": net.blobs["data"].diff.copy()})
    check(*found, 1e-4)


def test_callbacks_see_every_layer():
    net = small("resnet")
    net.keep_blobs = False
    seen = []
    net.after_forward(lambda index: seen.append(index))
    net.forward(data=deploy_nets.batch(net))
    assert seen == list(range(len(net.layers)))
