"""ImageNet 2012 (ILSVRC), as downloaded, to list files for convert_imageset.

    python data_prep/imagenet.py [FLAGS] TRAIN VAL OUT

TRAIN: ILSVRC2012_img_train.tar, or a folder with the tars of the synsets (n01440764.tar), or with
their folders of images (n01440764/). VAL: ILSVRC2012_img_val.tar, or a folder with its images, or
with synset folders. Tars are unpacked into OUT/train and OUT/val; a killed run continues with the
next synset. --labels is the ground truth of VAL where that has no synset folders: the development
kit (ILSVRC2012_devkit_t12.tar.gz, or unpacked), Caffe's val.txt or Kaggle's LOC_val_solution.csv.
The development kit also says how many images each synset must have.

Makes OUT/train.txt, OUT/val.txt and OUT/classes.txt: 1281167 images to train with, 50000 to
validate, 1000 synsets, whose labels follow the alphabet, as Caffe's do.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Callable, NamedTuple

from caffe_plain.class_names import write_class_names
from caffe_plain.files import complete_folder, write_atomically
from caffe_plain.flags import FlagParser
from relaybp.data_prep.archives import extract, is_archive, members
from relaybp.data_prep.errors import PrepError, run, some
from relaybp.data_prep.image_tree import ImageTree
from relaybp.data_prep.imagenet_labels import Truth, read_truth

SYNSET = re.compile(r"n\d{8}")
OFFICIAL = (1281167, 50000, 1000)


class Prepared(NamedTuple):
    """What has been listed."""

    train_root: Path  # what to give convert_imageset as ROOTFOLDER
    val_root: Path
    train: int  # images
    val: int
    classes: int


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("train", metavar="TRAIN")
    flags.add_argument("val", metavar="VAL")
    flags.add_argument("out", metavar="OUT", help="folder to make, or to go on with")
    flags.flag("labels", "", "ground truth of VAL: development kit, val.txt, LOC_val_solution.csv")
    flags.flag("subset", False, "synsets and images may be missing")
    return flags


def prepare(
    train: str | Path,
    val: str | Path,
    out: str | Path,
    labels: str | Path = "",
    subset: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Unpack what is packed and write the lists; returns a Prepared."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    truth = read_truth(labels) if labels else Truth({}, {}, {})
    train_root = _train_folder(Path(train), out / "train", say)
    synsets = _synset_folders(train_root)
    number = {synset: label for label, synset in enumerate(synsets)}
    tree = ImageTree(train_root)
    train_files = [(file, synset) for synset in synsets for file in tree.images(synset)]
    if not subset:
        _check_sizes(train_files, truth.train_images)
    val_root = _val_folder(Path(val), out / "val", say)
    val_tree = ImageTree(val_root)
    val_files = _val_files(val_tree, synsets, truth.synset_of, subset)
    for line in (*tree.lines(), *val_tree.lines()):
        say(line)
    for name, files in (("train", train_files), ("val", val_files)):
        lines = b"".join(b"%s %d\n" % (os.fsencode(file), number[synset]) for file, synset in files)
        write_atomically(out / f"{name}.txt", lines)
    names = [f"{synset} {truth.words.get(synset, '')}".strip() for synset in synsets]
    write_class_names(out / "classes.txt", names)
    return Prepared(train_root, val_root, len(train_files), len(val_files), len(synsets))


def _train_folder(source: Path, out: Path, say: Callable[[str], None]) -> Path:
    """The folder with the synsets' folders, unpacked into `out` if the source is tars."""
    if is_archive(source):
        tars = ((name, f"{source}, {name}", content) for name, content in members(source))
    elif _synset_folders(source):
        return source
    else:
        tars = [(path.name, path, None) for path in sorted(source.glob("n*.tar"))]
    for name, where, content in tars:
        synset = name.partition(".")[0]
        if SYNSET.fullmatch(synset) and not (out / synset).exists():
            with complete_folder(out / synset) as folder:
                count = extract(members(where, content), folder, where)
            say(f"{synset}: {count} images")
    if not out.is_dir():
        raise PrepError(f"{source} holds no synsets (n01440764 and so on), as folders or as tars")
    return out


def _val_folder(source: Path, out: Path, say: Callable[[str], None]) -> Path:
    """The folder with the validation images, unpacked into `out` if the source is a tar."""
    if not is_archive(source):
        return source
    if not out.exists():
        with complete_folder(out) as folder:
            say(f"val: {extract(members(source), folder, source)} images")
    return out


def _synset_folders(folder: Path) -> list[str]:
    """The names of the synsets that have a folder in `folder`, in alphabetical order."""
    try:
        return sorted(
            path.name for path in folder.iterdir() if SYNSET.fullmatch(path.name) and path.is_dir()
        )
    except OSError as error:
        raise PrepError(
            f"cannot read {folder}: {error.strerror}; expected a tar or a folder"
        ) from error


def _check_sizes(files: list[tuple[str, str]], expected: dict[str, int]) -> None:
    """Each synset has the images that the development kit says it has."""
    found = dict.fromkeys(expected, 0)
    for _, synset in files:
        found[synset] = found.get(synset, 0) + 1
    wrong = [
        f"{synset}: {count} images instead of {expected[synset]}"
        for synset, count in found.items()
        if expected and count != expected.get(synset)
    ]
    if wrong:
        raise PrepError(
            f"{len(wrong)} synsets have not the images that the development kit says:\n"
            f"{some(wrong)}\nunpack their tars again, or add --subset if this is meant"
        )


def _val_files(
    tree: ImageTree, synsets: list[str], synset_of: dict[str, str | int], subset: bool
) -> list[tuple[str, str]]:
    """[(file, synset)] of the validation images."""
    root = tree.root
    if _synset_folders(Path(root)):
        files = [(file, file.partition("/")[0]) for file in tree.images()]
    elif not synset_of:
        raise PrepError(
            f"{root} has no synset folders: say with --labels which synset each image "
            "shows (development kit, val.txt or LOC_val_solution.csv)"
        )
    else:
        files = _labelled(tree, synsets, synset_of, subset)
    known = set(synsets)
    unknown = [f"{file}: {synset}" for file, synset in files if synset not in known]
    if unknown and not subset:
        raise PrepError(
            f"{len(unknown)} validation images are of synsets that TRAIN lacks:\n"
            f"{some(unknown)}\ncomplete TRAIN, or leave these images out with --subset"
        )
    return [row for row in files if row[1] in known]


def _labelled(
    tree: ImageTree, synsets: list[str], synset_of: dict[str, str | int], subset: bool
) -> list[tuple[str, str]]:
    """The files of a tree with the synset that the ground truth gives to each."""
    root, files = tree.root, tree.images()
    without = sorted(set(files) - set(synset_of))
    missing = sorted(set(synset_of) - set(files))
    if without or missing and not subset:
        raise PrepError(
            f"{root}: {len(missing)} validation images are missing, {len(without)} "
            f"have no label:\n{some(missing + without)}\nunpack the images again, or "
            "take the ground truth that belongs to them"
        )
    names = {file: synset_of[file] for file in files}
    wrong = [
        f"{file}: {name}"
        for file, name in names.items()
        if isinstance(name, int) and name >= len(synsets)
    ]
    if wrong:
        raise PrepError(
            f"labels beyond the {len(synsets)} synsets of TRAIN:\n{some(wrong)}\n"
            "a list of numbers needs all of TRAIN; for a part give the development kit"
        )
    return [
        (file, synsets[name] if isinstance(name, int) else name) for file, name in names.items()
    ]


def main(args: list[str] | None = None) -> None:
    options = vars(parser().parse_args(args))
    made = prepare(**options, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{options['out']}: {made.train} train, {made.val} val, {made.classes} classes")
    if made[2:] != OFFICIAL:
        print("ImageNet 2012 has %d train, %d val, %d classes" % OFFICIAL)
    for split, root in (("train", made.train_root), ("val", made.val_root)):
        print(f"ROOTFOLDER of {options['out']}/{split}.txt: {root}/")


if __name__ == "__main__":
    run(main)
