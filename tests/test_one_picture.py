"""One picture, upright or not, has the same scores on every way into a net, and in BVLC Caffe.

tests/oracle/record_one_picture.py made the photos and recorded BVLC Caffe's scores.
"""

from pathlib import Path

import numpy as np
import pytest

import caffe
import dirty_folders as dirty
import picture_cases as cases
from caffe.command import classification
from caffe.proto import caffe_pb2
from relaybp import engines
from relaybp.commands import export_onnx
from relaybp.data_prep.compute_image_mean import mean_of
from relaybp.data_prep.convert_imageset import convert
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import measure

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

RECORDED = np.load(Path(__file__).parent / "golden" / "one_picture.npz")
PROTOCOLS = {"evaluate crop": Protocol(), "evaluate at the same scale": Protocol.parse("64")}
INPUT = (
    'layer { name: "data" type: "Input" top: "data" '
    "input_param { shape { dim: 1 dim: 3 dim: 64 dim: 96 } } }\n"
)
ENGINE = engines.of(caffe)


def bvlc(orientation, way):
    """The recorded scores."""
    return RECORDED[f"{orientation}/{way}"]


@pytest.fixture
def photo(tmp_path):
    """Writes x.jpg, of an orientation, with list.txt and mean beside it."""
    (tmp_path / "list.txt").write_text(f"{tmp_path}/x.jpg 0\n")
    cases.write_mean(caffe_pb2, tmp_path / "mean")

    def write(orientation):
        path = tmp_path / "x.jpg"
        path.write_bytes(RECORDED[f"{orientation}/photo"].tobytes())
        return path

    return write


def make_database(folder, **options):
    convert("/", folder / "list.txt", folder / "db", **options)


def of_data_layers(folder):
    """{way: scores} of the TEST phase of each data layer."""
    net = folder / "net.prototxt"
    return {name: cases.scores(caffe, net, cases.data_layer(name, folder)) for name in cases.LAYERS}


def of_evaluation(run):
    """{way: scores} of a run that is tested."""
    text = cases.data_layer("Data", run) + cases.FC + cases.LOSS
    (run / "train_val.prototxt").write_text(text)
    (run / "solver.prototxt").write_text(f'net: "{run}/train_val.prototxt"')
    net = cases.fill(caffe.Net(str(run / "train_val.prototxt"), caffe.TEST))
    net.save(str(run / "a_iter_1.caffemodel"))
    return {
        name: measure(ENGINE, str(run), protocol, gpu="none").scores[0]
        for name, protocol in PROTOCOLS.items()
    }


def of_deployment(folder, path):
    """{way: scores} of the ways for a photo alone."""
    deploy, weights = folder / "deploy.prototxt", folder / "a.caffemodel"
    deploy.write_text(INPUT + cases.FC + cases.PROB)
    net = cases.fill(caffe.Net(str(deploy), caffe.TEST))
    net.save(str(weights))
    mean = np.array(cases.MEAN)
    classifier = caffe.Classifier(
        str(deploy), str(weights), mean=mean, raw_scale=255, channel_swap=(2, 1, 0)
    )
    image = caffe.io.load_image(str(path))
    found = {
        "classification": classification.predict(net, str(path), str(folder / "mean")),
        "Classifier": classifier.predict([image], oversample=False)[0],
    }
    if onnxruntime:
        pixels = classifier.transformer.preprocess("data", image)[np.newaxis]
        model = export_onnx.to_onnx(net).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        found["ONNX"] = session.run(["prob"], {"data": pixels})[0][0]
    return found


@pytest.mark.parametrize("encoded", [False, True], ids=["raw", "encoded"])
@pytest.mark.parametrize("orientation", cases.ORIENTATIONS)
def test_all_ways_give_the_scores_of_the_upright_picture(tmp_path, photo, orientation, encoded):
    path = photo(orientation)
    make_database(tmp_path, encoded=encoded)
    found = of_data_layers(tmp_path) | of_evaluation(tmp_path) | of_deployment(tmp_path, path)
    assert len(found) == 8 + bool(onnxruntime)
    for way, scores in found.items():
        np.testing.assert_allclose(scores, bvlc(orientation, "raw"), atol=1e-5, err_msg=way)
    for way in ("ImageData", "encoded, turned"):
        np.testing.assert_allclose(bvlc(orientation, way), bvlc(orientation, "raw"), atol=1e-5)


@pytest.mark.parametrize("orientation", range(1, 5))
def test_of_a_database_that_stores_photos_lying_all_see_what_is_stored(
    tmp_path, photo, orientation
):
    """As in BVLC Caffe, only force_color turns them; above 4 the mean has not their size."""
    photo(orientation)
    make_database(tmp_path, encoded=True, keep_exif=True)
    found = of_data_layers(tmp_path)
    upright = [found.pop("Data with force_color"), found.pop("ImageData")]
    for scores in upright:
        np.testing.assert_allclose(scores, bvlc(orientation, "encoded, turned"), atol=1e-5)
    for way, scores in (found | of_evaluation(tmp_path)).items():
        expected = bvlc(orientation, "encoded, as stored")
        np.testing.assert_allclose(scores, expected, atol=1e-5, err_msg=way)


@pytest.mark.parametrize("keep_exif", [False, True], ids=["upright", "lying"])
def test_the_mean_is_of_the_pixels_that_a_data_layer_sees(tmp_path, keep_exif):
    photo = dirty.photos()["JPEG 6"]
    (tmp_path / "x.jpg").write_bytes(photo.data)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/x.jpg 0\n")
    make_database(tmp_path, encoded=True, keep_exif=keep_exif)
    mean = mean_of(tmp_path / "db")[0].transpose(1, 2, 0)
    dirty.check_pixels(np.rot90(mean, -1) if keep_exif else mean, photo)
