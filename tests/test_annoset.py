"""convert_annoset and the demo set of detection: VOC's folders to records, and what is refused."""

import cv2
import numpy as np
import pytest

from caffe.files.datum import decode_datum
from caffe.proto import caffe_pb2
from caffe_plain.database import open_database
from relaybp.data_prep import convert_annoset, demo_detection, voc
from relaybp.data_prep.errors import PrepError

XML = """<annotation><folder>VOC</folder><size><width>40</width><height>20</height></size>
<object><name>dog</name><difficult>0</difficult><bndbox>
  <xmin>4</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult><bndbox>
  <xmin>0</xmin><ymin>0</ymin><xmax>40</xmax><ymax>20</ymax></bndbox></object>
<object><name>dog</name><bndbox>
  <xmax>8.0</xmax><xmin>6</xmin><ymin>5</ymin><ymax>20</ymax></bndbox>
  <part><name>head</name></part></object></annotation>"""
LABELS = """item { name: "none" label: 0 display_name: "background" }
item { name: "cat" label: 7 } item { name: "dog" label: 3 }"""


@pytest.fixture
def folder(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, (20, 40, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    (tmp_path / "a.xml").write_text(XML)
    (tmp_path / "list.txt").write_text("a.png a.xml\n\n")
    (tmp_path / "labels.prototxt").write_text(LABELS)
    return tmp_path


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Images are read in this process: starting another takes a second."""
    monkeypatch.setattr(convert_annoset, "process_map", lambda read, paths, _: map(read, paths))
    return monkeypatch


def convert(folder, *flags):
    convert_annoset.main(
        [
            f"-label_map_file={folder}/labels.prototxt",
            "--workers=1",
            *flags,
            f"{folder}/",
            f"{folder}/list.txt",
            f"{folder}/db",
        ]
    )


def records(path):
    environment = open_database(path)
    with environment.begin() as transaction, transaction.cursor() as cursor:
        found = [(bytes(k), caffe_pb2.AnnotatedDatum.FromString(bytes(v))) for k, v in cursor]
    environment.close()
    return found


def test_a_record_holds_the_file_and_the_boxes_by_label(folder, capsys, here):
    here.undo()
    convert(folder)
    assert capsys.readouterr().out == f"{folder}/db: 1 images, 3 objects\n"
    [(key, datum)] = records(folder / "db")
    assert key == b"00000000_a.png" and datum.type == caffe_pb2.AnnotatedDatum.BBOX
    assert datum.datum.encoded and datum.datum.data == (folder / "a.png").read_bytes()
    assert [group.group_label for group in datum.annotation_group] == [3, 7]
    dogs, cats = (group.annotation for group in datum.annotation_group)
    assert [(one.instance_id, one.bbox.difficult) for one in dogs] == [(0, False), (1, False)]
    assert cats[0].bbox.difficult
    boxes = [[b.xmin, b.ymin, b.xmax, b.ymax] for b in (dogs[0].bbox, dogs[1].bbox, cats[0].bbox)]
    np.testing.assert_allclose(
        boxes, [[0.1, 0.1, 0.5, 0.5], [0.15, 0.25, 0.2, 1], [0, 0, 1, 1]], rtol=1e-6
    )


def test_resized_pixels_have_the_same_boxes(folder):
    convert(folder, "-encoded=false", "-resize_height=30", "-resize_width=30", "-backend=leveldb")
    [(_, datum)] = records(folder / "db")
    assert decode_datum(datum.datum, "0").shape == (3, 30, 30)
    assert datum.annotation_group[0].annotation[0].bbox.xmin == pytest.approx(0.1)


@pytest.mark.parametrize(
    "old, new, pattern",
    [
        ("<name>dog</name>", "<name>dgo</name>", "object 'dgo' is not in the label map;.*dog"),
        ("<xmax>40", "<xmax>41", "box .* does not lie in the image of height and width"),
        ("<xmin>4<", "<xmin>four<", "a.xml: could not convert"),
        ("<xmin>4</xmin>", "", "needs xmin, ymin, xmax and ymax"),
        ("<width>40", "<width>50", r"says height and width \(20, 50\), the image has \(20, 40\)"),
        ("</annotation>", "", "a.xml: no element found"),
        ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", "declares entities"),
    ],
)
def test_a_bad_annotation_stops_with_its_name(folder, old, new, pattern):
    (folder / "a.xml").write_text(XML.replace(old, new))
    with pytest.raises(PrepError, match=pattern):
        convert(folder)
    assert not (folder / "db").exists()


def test_the_same_command_continues_after_what_was_bad(folder, capsys):
    """As convert_imageset does: what came before it is kept, and only with the same settings."""
    convert(folder)
    whole = records(folder / "db")
    (folder / "list.txt").write_text("a.png a.xml\na.png b.xml\n")
    flags = [f"{folder}/", f"{folder}/list.txt", f"{folder}/two"]
    command = [f"-label_map_file={folder}/labels.prototxt", "--workers=1"]
    with pytest.raises(PrepError, match="b.xml: No such file"):
        convert_annoset.main([*command, *flags])
    assert not (folder / "two").exists() and records(folder / "two.partial") == whole
    with pytest.raises(PrepError, match="begun with other settings .gray was False, is now True"):
        convert_annoset.main([*command, "-gray", *flags])
    (folder / "b.xml").write_text(XML)
    convert_annoset.main([*command, *flags])
    assert capsys.readouterr().out.endswith(f"{folder}/two: 2 images, 6 objects\n")
    first, second = records(folder / "two")
    assert [first] == whole and second == (b"00000001_a.png", first[1])


@pytest.mark.parametrize(
    "flags, pattern",
    [
        (["-anno_type=classification"], "only -anno_type=detection"),
        (["-label_map_file="], "give -label_map_file"),
        (["-resize_width=3"], "give both -resize_width and -resize_height"),
    ],
)
def test_bad_flags_are_refused(folder, flags, pattern):
    with pytest.raises(PrepError, match=pattern):
        convert(folder, *flags)


@pytest.mark.parametrize(
    "text, pattern",
    [
        ("", "no images in this list"),
        ("a.png\n", "line 1: expected 'IMAGE ANNOTATION'"),
        ("b.png a.xml\n", "b.png: no such file"),
        ("a.png b.xml\n", "b.xml: No such file"),
    ],
)
def test_a_bad_list_is_refused(folder, text, pattern):
    (folder / "list.txt").write_text(text)
    with pytest.raises(PrepError, match=pattern):
        convert(folder)


def test_the_demo_set_is_the_same_every_time_and_its_boxes_surround_the_shapes(tmp_path):
    demo_detection.main(["--train=3", "--test=2", "--size=80", f"{tmp_path}/one"])
    demo_detection.make_demo(tmp_path / "two", 3, 2, 80)
    for name in ("trainval_lmdb", "test_lmdb"):
        first, second = records(tmp_path / "one" / name), records(tmp_path / "two" / name)
        assert first == second
    assert voc.read_label_map(tmp_path / "one/labelmap.prototxt") == {
        "none_of_the_above": 0,
        "circle": 1,
        "square": 2,
        "triangle": 3,
    }
    lines = (tmp_path / "one/test_name_size.txt").read_text().splitlines()
    annotation = voc.read_annotation(tmp_path / "one/Annotations/test_000000.xml")
    assert lines[0] == "test_000000 {} {}".format(*annotation.size)


def test_a_drawn_box_is_that_of_the_shape():
    for name in demo_detection.SHAPES:
        image = np.zeros((60, 60, 3), np.float32)
        demo_detection._paint(image, name, (10.0, 20.0, 40.0, 50.0), (255, 255, 255))
        rows, columns = np.nonzero(image[..., 0] > 128)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found, [10, 20, 40, 50], atol=2)
