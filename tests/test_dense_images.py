"""ImageSegData and DenseImageData: pixels and labels stay together, whatever is drawn."""

import cv2
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

import caffe
from caffe.proto import caffe_pb2

MEAN = (10, 20, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of several sizes whose blue is 10 times their label, green the row, red the column."""
    folder, lines = tmp_path_factory.mktemp("dense"), []
    for number, (height, width) in enumerate([(12, 20), (16, 14), (12, 20)]):
        labels = np.random.RandomState(number).randint(0, 20, (height, width)).astype(np.uint8)
        rows, columns = np.mgrid[:height, :width].astype(np.uint8)
        cv2.imwrite(f"{folder}/{number}.png", np.dstack([10 * labels, rows, columns]))
        cv2.imwrite(f"{folder}/{number}_labels.png", labels)
        lines.append(f"{number}.png {number}_labels.png\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "numbers.txt").write_text("0.png 7\n1.png 3\n")
    return folder


def make_net(folder, type, options, transform="", tops="data label", source="list.txt", count=1):
    field = {"ImageSegData": "image_data_param", "DenseImageData": "dense_image_data_param"}[type]
    text = (
        f'layer {{ name: "in" type: "{type}" '
        + " ".join(f'top: "{name}"' for name in tops.split())
        + f' transform_param {{ {transform} }} {field} {{ source: "{folder}/{source}" '
        f'root_folder: "{folder}/" batch_size: {count} {options} }} }}'
    )
    caffe.set_random_seed(2)
    return caffe.Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe.TRAIN)


def batches(net, count):
    for _ in range(count):
        net.forward()
        yield [net.blobs[name].data.copy() for name in net.blobs]


@pytest.mark.parametrize("type", ["ImageSegData", "DenseImageData"])
def test_whole_images_and_their_labels(folder, type):
    options = "label_type: PIXEL" if type == "ImageSegData" else ""
    shapes = []
    for data, labels in batches(make_net(folder, type, options), 4):
        shapes.append(data.shape)
        np.testing.assert_array_equal(data[:, :1], 10 * labels)
    assert shapes == [(1, 3, 12, 20), (1, 3, 16, 14), (1, 3, 12, 20), (1, 3, 12, 20)]


@pytest.mark.parametrize(
    "type, options, transform",
    [
        ("ImageSegData", "label_type: PIXEL", "crop_size: 8 mirror: true"),
        ("ImageSegData", "label_type: PIXEL shuffle: true", "crop_h: 10 crop_w: 6 mirror: true"),
        ("DenseImageData", "crop_height: 9 crop_width: 7 mirror: true", ""),
        ("DenseImageData", "shuffle: true", "crop_size: 11 mirror: true"),
    ],
)
def test_crops_and_mirrors_are_those_of_the_image(folder, type, options, transform):
    net, ways, places = make_net(folder, type, options, transform, count=3), set(), set()
    for data, labels in batches(net, 5):
        np.testing.assert_array_equal(data[:, :1], 10 * labels)
        ways |= set(np.sign(data[:, 2, 0, 1] - data[:, 2, 0, 0]))
        places |= set(data[:, 1, 0, 0])
    assert ways == {1, -1} and len(places) > 1


def test_small_images_are_padded_with_the_mean_and_what_is_ignored(folder):
    mean = " ".join(f"mean_value: {value}" for value in MEAN)
    net = make_net(
        folder,
        "ImageSegData",
        "label_type: PIXEL ignore_label: 99",
        f"crop_size: 18 {mean}",
        tops="data label data_dim",
        count=3,
    )
    assert net.blobs["data_dim"].data.shape == (3, 1, 1, 2)
    [(data, labels, sizes)] = batches(net, 1)
    np.testing.assert_array_equal(sizes[:, 0, 0], [[12, 18], [16, 14], [12, 18]])
    for image, label, (height, width) in zip(data, labels[:, 0], sizes[:, 0, 0], strict=True):
        outside = np.ones((18, 18), bool)
        outside[: int(height), : int(width)] = False
        assert not image[:, outside].any()  # the mean is subtracted
        assert (label[outside] == 99).all() and (label[~outside] < 20).all()
        np.testing.assert_array_equal(image[0, ~outside] + MEAN[0], 10 * label[~outside])


def test_labels_of_whole_images_and_none(folder):
    net = make_net(folder, "ImageSegData", "label_type: IMAGE", source="numbers.txt")
    found = [set(np.unique(labels)) for _, labels in batches(net, 2)]
    assert found == [{7}, {3}]
    net = make_net(folder, "ImageSegData", "", source="numbers.txt")
    assert [set(np.unique(labels)) for _, labels in batches(net, 2)] == [{255}, {255}]


def test_labels_are_resized_to_the_nearest(folder):
    net = make_net(
        folder, "DenseImageData", "new_height: 24 new_width: 40", tops="data label", count=3
    )
    [(data, labels)] = batches(net, 1)
    assert data.shape == (3, 3, 24, 40) and labels.shape == (3, 1, 24, 40)
    whole = cv2.imread(f"{folder}/0_labels.png", 0)
    np.testing.assert_array_equal(labels[0, 0], whole.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    "type, options, transform, pattern",
    [
        ("ImageSegData", "label_type: IMAGE", "", "label_type IMAGE needs an image and its"),
        ("ImageSegData", "ignore_label: -1", "", "ignore_label must be .* found -1"),
        ("ImageSegData", "ignore_label: 256", "", "ignore_label must be .* found 256"),
        ("ImageSegData", "new_height: 3", "", "both new_height and new_width"),
        ("DenseImageData", "crop_height: 3", "", "both crop_height and crop_width"),
        ("DenseImageData", "", "mean_file: 'a'", "takes no mean_file"),
        ("DenseImageData", "batch_size: 2", "", "the first of the batch"),
    ],
)
def test_what_cannot_be_done_is_refused(folder, type, options, transform, pattern):
    count = 2 if "batch_size" in options else 1
    options = options.replace("batch_size: 2", "")
    with pytest.raises(caffe.CaffeError, match=f"layer 'in'.*{pattern}"):
        make_net(folder, type, options, transform, count=count).forward()


def test_labels_of_another_size_are_an_error(folder, tmp_path):
    (folder / "wrong.txt").write_text("0.png 1_labels.png\n")
    with pytest.raises(caffe.CaffeError, match="1_labels.png have height and width.*must be equal"):
        make_net(folder, "DenseImageData", "", source="wrong.txt")


def test_a_label_that_is_no_byte_is_named(folder):
    (folder / "large.txt").write_text("0.png 255\n1.png 256\n")
    with pytest.raises(caffe.CaffeError, match=r"large.txt, line 2: .*at most 255; found 256"):
        make_net(folder, "ImageSegData", "label_type: IMAGE", source="large.txt")


@pytest.mark.parametrize("type", ["ImageSegData", "DenseImageData"])
@pytest.mark.parametrize("mode", ["P", "RGB", "grey RGB", "grey P"])
def test_labels_in_colour_are_refused(folder, type, mode):
    """VOC's own have a palette, and their luminance is no class; gray in another form is."""
    labels = cv2.imread(f"{folder}/0_labels.png", 0)
    made = Image.fromarray(labels)
    if mode.endswith("P"):
        colours = np.arange(256).repeat(3) if "grey" in mode else np.arange(768) * 7 % 256
        made.putpalette([int(value) for value in colours])
        assert made.mode == "P"
    elif mode == "RGB":
        made = Image.fromarray(np.dstack([labels, labels, labels + 1]))
    else:
        made = made.convert("RGB")
    made.save(folder / "coloured.png")
    (folder / "coloured.txt").write_text("0.png coloured.png\n")
    options = "label_type: PIXEL" if type == "ImageSegData" else ""
    make = lambda: next(batches(make_net(folder, type, options, source="coloured.txt"), 1))[1]  # noqa: E731
    if "grey" in mode:
        np.testing.assert_array_equal(make()[0, 0], labels)
        return
    with pytest.raises(caffe.CaffeError, match="layer 'in'.*coloured.png are in colour.*Convert"):
        make()
    if mode == "P":  # the cure
        Image.fromarray(np.array(Image.open(folder / "coloured.png"))).save(folder / "coloured.png")
        np.testing.assert_array_equal(make()[0, 0], labels)
