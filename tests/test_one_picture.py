"""One picture, upright or not, has the same pixels on every way into a net."""

import numpy as np
import pytest

import caffe
import dirty_folders as dirty
from caffe.command import classification
from relaybp.data_prep.compute_image_mean import mean_of, write_mean
from relaybp.data_prep.convert_imageset import convert

PHOTOS = dirty.photos()
LAYERS = {
    "Data": 'type: "Data" data_param {{ source: "{db}" batch_size: 1 backend: LMDB }}',
    "Data with force_color": (
        'type: "Data" data_param {{ source: "{db}" batch_size: 1 backend: LMDB }} '
        "transform_param {{ force_color: true }}"
    ),
    "SceneData": (
        'type: "Python" python_param {{ module: "relaybp.layers.scene_data" layer: "SceneData" '
        "param_str: 'source: \"{db}\" batch_size: 1' }}"
    ),
    "ImageData": 'type: "ImageData" image_data_param {{ source: "{list}" batch_size: 1 }}',
}
DEPLOY = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}
layer {{ name: "same" type: "Power" bottom: "data" top: "same" }}
"""


def what_a_layer_makes(folder, layer):
    """The data top of a layer in the TEST phase, (3, 64, 96)."""
    text = LAYERS[layer].format(db=folder / "db", list=folder / "list.txt")
    (folder / "net.prototxt").write_text(
        f'layer {{ name: "data" top: "data" top: "label" {text} }}'
    )
    net = caffe.Net(str(folder / "net.prototxt"), caffe.TEST)
    net.forward()
    found = np.array(net.blobs["data"].data[0])
    for made in net.layers:
        if hasattr(made, "close"):  # a SceneData's worker processes
            made.close()
    return found


def what_deployed_nets_see(folder, path):
    """What a net gets from classification and from Classifier: {name: (3, 64, 96)}."""
    dims = "dim: 1 dim: 3 dim: 64 dim: 96"
    deploy, weights = folder / "deploy.prototxt", folder / "a.caffemodel"
    deploy.write_text(DEPLOY.format(dims=dims))
    net = caffe.Net(str(deploy), caffe.TEST)
    net.save(str(weights))
    write_mean(folder / "mean", np.zeros((3, 64, 96)))
    classifier = caffe.Classifier(str(deploy), str(weights), raw_scale=255, channel_swap=(2, 1, 0))
    return {
        "classification": classification.predict(net, path, str(folder / "mean")),
        "Classifier": classifier.predict([caffe.io.load_image(path)], oversample=False)[0],
    }


@pytest.mark.parametrize("encoded", [False, True], ids=["raw", "encoded"])
@pytest.mark.parametrize("kind", ["format jpg", *(kind for kind in PHOTOS if "JPEG " in kind)])
def test_training_and_deployment_see_the_same_pixels(tmp_path, kind, encoded):
    photo = PHOTOS[kind]
    (tmp_path / "x.jpg").write_bytes(photo.data)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/x.jpg 0\n")
    convert("/", tmp_path / "list.txt", tmp_path / "db", encoded=encoded)
    found = {layer: what_a_layer_makes(tmp_path, layer) for layer in LAYERS}
    found |= what_deployed_nets_see(tmp_path, str(tmp_path / "x.jpg"))
    found["mean"] = mean_of(tmp_path / "db")[0]
    dirty.check_pixels(found["Data"].transpose(1, 2, 0), photo)
    for name, pixels in found.items():
        pixels = pixels.reshape(3, *dirty.SIZE)
        np.testing.assert_allclose(pixels, found["Data"], atol=255e-5, err_msg=name)


def test_of_a_database_that_stores_photos_lying_all_see_what_is_stored(tmp_path):
    """As in BVLC Caffe, only force_color turns them."""
    (tmp_path / "x.jpg").write_bytes(PHOTOS["JPEG 6"].data)
    (tmp_path / "list.txt").write_text("x.jpg 0\n")
    where = (f"{tmp_path}/", tmp_path / "list.txt", tmp_path / "db")
    convert(*where, encoded=True, keep_exif=True)
    found = {layer: what_a_layer_makes(tmp_path, layer) for layer in list(LAYERS)[:3]}
    dirty.check_pixels(found["Data with force_color"].transpose(1, 2, 0), PHOTOS["JPEG 6"])
    dirty.check_pixels(np.rot90(found["Data"].transpose(1, 2, 0), -1), PHOTOS["JPEG 6"])
    np.testing.assert_array_equal(found["SceneData"], found["Data"])
    np.testing.assert_array_equal(mean_of(tmp_path / "db")[0], found["Data"])
