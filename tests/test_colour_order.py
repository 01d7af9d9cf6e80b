"""Databases say in which order they store colours, and different orders never meet unnoticed."""

import cv2
import numpy as np
import pytest

import caffe
import dirty_folders as dirty
from caffe.proto import caffe_pb2
from caffe_plain.database import new_database
from evaluation_cases import draw_images, make_data, make_run
from relaybp import engines, run_folder
from relaybp.data_prep import check_database, convert_cifar_data
from relaybp.data_prep.colour_order import check_colour_orders, colour_order
from relaybp.data_prep.convert_imageset import convert
from relaybp.data_prep.datum_db import raw_datum
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.small_images import write_set
from relaybp.evaluation import submission
from relaybp.evaluation.protocol import Protocol
from relaybp.evaluation.results import Member, measure

ENGINE = engines.of(caffe)
APART = "train_lmdb stores colours as RGB, .*val_lmdb as BGR: make both with the same tool"


def rgb_set(folder, images=None):
    """A data folder as cifar.py and svhn.py --lmdb make it; images: 4, (H, W, 3) in BGR order."""
    images = draw_images(4, 32, 32) if images is None else images
    pixels = images[..., ::-1].transpose(0, 3, 1, 2)
    arrays = [(pixels, np.arange(4) % 2)]
    write_set(folder, {"train": arrays, "val": arrays}, ["a", "b"], lmdb=True)
    return folder


def bgr_set(folder, db, **options):
    """A database of convert_imageset."""
    folder.mkdir(exist_ok=True)
    dirty.add(folder, "images/0.png", "images/1.png")
    (folder / "list.txt").write_text("0.png 0\n1.png 1\n")
    convert(f"{folder}/images/", folder / "list.txt", db, **options)
    return db


def test_what_the_tools_say(tmp_path):
    for k in range(1, 6):
        (tmp_path / f"data_batch_{k}.bin").write_bytes(bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    convert_cifar_data.main([str(tmp_path), str(tmp_path), "lmdb"])
    with new_database(tmp_path / "own") as put:
        put(b"00000000", raw_datum(bytes(3 * 32 * 32), (3, 32, 32), 0))
    assert colour_order(tmp_path / "cifar10_test_lmdb") == "RGB"
    assert colour_order(rgb_set(tmp_path / "set") / "val_lmdb") == "RGB"
    assert colour_order(bgr_set(tmp_path, tmp_path / "bgr")) == "BGR"
    assert colour_order(bgr_set(tmp_path, tmp_path / "encoded", encoded=True)) == "BGR"
    assert colour_order(bgr_set(tmp_path, tmp_path / "gray", gray=True)) is None
    assert colour_order(tmp_path / "own") is None
    (tmp_path / "own" / "settings.json").write_text('{"tool": "demo_scenes"}')  # as it once left it
    assert colour_order(tmp_path / "own") == "BGR"
    (tmp_path / "own" / "settings.json").unlink()
    check_colour_orders(tmp_path / name for name in ("bgr", "encoded", "gray", "own"))
    with pytest.raises(PrepError, match="cifar10_test_lmdb stores colours as RGB, .*bgr as BGR"):
        check_colour_orders(tmp_path / name for name in ("cifar10_test_lmdb", "own", "bgr"))


@pytest.fixture
def mixed(tmp_path):
    """A data folder whose training images are RGB and whose validation images are BGR."""
    data = rgb_set(tmp_path / "data")
    (data / "val_lmdb").rename(tmp_path / "rgb_val_lmdb")
    bgr_set(tmp_path / "photos", data / "val_lmdb", resize_height=32, resize_width=32)
    return data


def test_the_check_names_it(mixed, capsys):
    dbs = [str(mixed / name) for name in ("train_lmdb", "val_lmdb")]
    assert check_database.main(["--workers=1", *dbs]) == 1
    assert "train_lmdb stores colours as RGB" in capsys.readouterr().out


def test_no_training_and_no_test_mixes_them(mixed, tmp_path):
    with pytest.raises(PrepError, match=APART):
        run_folder.compose(caffe_pb2, "prototxt/resnet20", "RELAY", str(tmp_path), str(mixed))
    run = make_run(tmp_path / "run", mixed)
    with pytest.raises(PrepError, match=APART):
        measure(ENGINE, str(run), Protocol(), gpu="none")


def test_a_net_of_rgb_is_tested_on_photos_in_its_order(tmp_path):
    run = make_run(tmp_path / "run", rgb_set(tmp_path / "rgb"))
    member, out = Member(str(run), Protocol()), tmp_path / "answers.txt"
    photos = draw_images(4, 32, 32, seed=9)
    (tmp_path / "photos").mkdir()
    for k, image in enumerate(photos):
        cv2.imwrite(str(tmp_path / f"photos/{k}.png"), image)

    def answers(images):
        submission.write(ENGINE, [member], str(images), str(out), gpu="none")
        return out.read_text()

    same = rgb_set(tmp_path / "set", photos) / "val_lmdb"
    assert answers(tmp_path / "photos") == answers(same)
    unsaid = make_data(tmp_path / "unsaid", photos)  # in BGR order, but nobody knows
    assert answers(tmp_path / "photos") != answers(unsaid / "val_lmdb")
    bgr = bgr_set(tmp_path / "more", tmp_path / "bgr")
    with pytest.raises(PrepError, match="bgr stores colours as BGR, .*val_lmdb as RGB"):
        answers(bgr)
