"""Parts of a conversion, merged: what one undisturbed conversion makes, whatever happened."""

import shutil

import cv2
import numpy as np
import pytest

from caffe_plain.errors import DataError
from relaybp.data_prep import convert_imageset, merge_shards
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.shards import Shard
from tests.data_images import (
    HANGING,
    SIDE_FILES,
    convert,
    kill_while_writing,
    many_images,
    records,
    script,
)

FLAGS = ["-shuffle", "--skip_bad"]


def shard(folder, index, count, *flags, db="db"):
    convert(folder, f"--shard={index}/{count}", *(flags or FLAGS), db=db)
    return folder / f"{db}.shard-{index:05d}-of-{count:05d}"


def assert_same(db, expected):
    assert records(db) == records(expected)
    for name in SIDE_FILES:
        assert (db / name).read_bytes() == (expected / name).read_bytes(), name
    assert sorted(path.name for path in db.iterdir()) == sorted(
        path.name for path in expected.iterdir()
    )


@pytest.mark.parametrize(
    "count, bad", [(1, [7]), (3, [0, 1, 33, 34, 65, 66, 99]), (7, range(20, 100, 2))]
)
def test_merged_parts_are_one_conversion(tmp_path, count, bad):
    """Also with bad records, some of them at the ends of parts."""
    many_images(tmp_path, 100)
    order = np.random.RandomState(0).permutation(100)
    for position in bad:
        (tmp_path / "images" / f"{order[position]}.bmp").write_bytes(b"")
    expected = convert(tmp_path, *FLAGS, db="whole")
    for index in reversed(range(count)):
        shard(tmp_path, index, count)
    merge_shards.main([str(tmp_path / "db")])
    assert_same(tmp_path / "db", expected)
    assert len(records(tmp_path / "db")) == 100 - len(bad)


def test_a_part_and_the_merge_go_on_after_a_kill(tmp_path):
    many_images(tmp_path, 1500)
    (tmp_path / "images" / "700.bmp").write_bytes(b"")
    expected = convert(tmp_path, *FLAGS, "--workers=1", db="whole")
    first = tmp_path / "db.shard-00000-of-00002"
    args = [
        "--shard=0/2",
        *FLAGS,
        f"{tmp_path}/images/",
        str(tmp_path / "list.txt"),
        str(tmp_path / "db"),
    ]
    kill_while_writing(script(tmp_path, "convert_imageset", HANGING, "--workers=2", *args), first)
    assert 0 < len(records(f"{first}.partial")) < 749
    convert_imageset.main(["--workers=1", *args])
    shard(tmp_path, 1, 2)
    kill_while_writing(
        script(tmp_path, "merge_shards", HANGING, str(tmp_path / "db")), tmp_path / "db"
    )
    assert 0 < len(records(tmp_path / "db.partial")) < 1499
    merge_shards.main([str(tmp_path / "db")])
    assert_same(tmp_path / "db", expected)


def test_class_names_and_labels_are_those_of_the_whole(tmp_path):
    many_images(tmp_path, 20)
    (tmp_path / "list.txt").write_text("".join(f"{k}.bmp {k // 5}\n" for k in range(20)))
    for index in range(4):
        folder = shard(tmp_path, index, 4, "-noshuffle", db="train_lmdb")
        assert (folder / "class_index.tsv").read_text().splitlines()[-1] == f"{index}\t5"
    assert not (tmp_path / "classes.txt").exists()
    merge_shards.main([str(tmp_path / "train_lmdb")])
    for folder in (tmp_path, tmp_path / "train_lmdb"):
        assert (folder / "classes.txt").read_text().split() == list("0123")


def test_parts_cover_every_record_once():
    for records_ in (7, 100, 8_100_000):
        parts = [Shard.parse(f"{index}/7", records_) for index in range(7)]
        assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
        assert (parts[0].start, parts[-1].end) == (0, records_)
        sizes = [part.end - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("flag", ["3/3", "-1/3", "1", "1/0", "a/b", "1/2/3"])
def test_bad_shards(flag):
    with pytest.raises(PrepError, match=f"--shard={flag}: expected I/N with I from 0 to N - 1"):
        Shard.parse(flag, 100)


def test_merge_errors(tmp_path):
    many_images(tmp_path, 9)
    with pytest.raises(PrepError, match="--shard=0/10: 10 parts of 9 images; use fewer parts"):
        shard(tmp_path, 0, 10)
    db = tmp_path / "db"
    with pytest.raises(PrepError, match="no .*db.shard-I-of-N: make them with"):
        merge_shards.merge(db)
    zero, two = shard(tmp_path, 0, 3), shard(tmp_path, 2, 3)
    with pytest.raises(PrepError, match="1 of 3 parts of .* not complete: 1; .*--shard=I/3"):
        merge_shards.merge(db)
    one = tmp_path / "db.shard-00001-of-00003"
    shutil.copytree(two, one)
    with pytest.raises(PrepError, match=r"was made as part \[2, 3\], not \[1, 3\]: .*renamed"):
        merge_shards.merge(db)
    shutil.rmtree(one)
    shard(tmp_path, 1, 3, "-gray")
    with pytest.raises(
        PrepError,
        match=r"00001-of-00003 was made with other settings than "
        r".*00000-of-00003 \(shuffle, gray\)",
    ):
        merge_shards.merge(db)
    shutil.rmtree(one)
    shard(tmp_path, 1, 3)
    other = shard(tmp_path, 0, 2)
    with pytest.raises(PrepError, match="parts of several divisions, into 2 and 3: delete"):
        merge_shards.merge(db)
    shutil.rmtree(other)
    with open(zero / "data.mdb", "r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match="00000-of-00003: not a readable LMDB"):
        merge_shards.merge(db)
    assert not db.exists()


def test_sizes_are_checked_across_the_parts(tmp_path):
    many_images(tmp_path, 4)
    for k in (2, 3):
        cv2.imwrite(f"{tmp_path}/images/{k}.bmp", np.zeros((6, 5, 3), np.uint8))
    for index in range(2):
        shard(tmp_path, index, 2, "-check_size")
    with pytest.raises(
        PrepError,
        match="-check_size: records of 3 x 4 x 5 in .*00000-of-00002 and "
        "3 x 6 x 5 in .*00001-of-00002",
    ):
        merge_shards.merge(tmp_path / "db")
