"""The ground truth of ImageNet's validation images, in its common formats."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from relaybp.data_prep.archives import is_archive, unpacked
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.matlab import read_matlab


class Truth(NamedTuple):
    """What the validation images show; of each synset what is known."""

    synset_of: dict[str, str | int]  # of an image; or its number in alphabetical order
    words: dict[str, str]
    train_images: dict[str, int]  # how many
    ids: Mapping[str, int] = MappingProxyType({})  # ILSVRC2012_ID, the challenge's number


def read_truth(path: str | Path) -> Truth:
    """The Truth in a development kit, in Caffe's val.txt or in Kaggle's LOC_val_solution.csv."""
    path = Path(path)
    if path.is_dir() or is_archive(path):
        with unpacked(path) as folder:
            return _read_kit(folder, path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise PrepError(
            f"cannot read {path}: {why}; expected the development kit, val.txt or "
            "LOC_val_solution.csv"
        ) from error
    return Truth(
        _read_csv(path, text) if text.startswith("ImageId") else _read_list(path, text), {}, {}
    )


def _read_kit(folder: Path, path: Path) -> Truth:
    """meta.mat describes the synsets, the text file holds the synset's ID for each image."""
    meta = next(folder.rglob("meta.mat"), None)
    ids = next(folder.rglob("ILSVRC2012_validation_ground_truth.txt"), None)
    if not meta or not ids:
        raise PrepError(
            f"{path}: no meta.mat or no ILSVRC2012_validation_ground_truth.txt in it: "
            "give the development kit of ImageNet 2012, tasks 1 and 2"
        )
    rows = [
        {
            name: row[name].item()
            for name in ("ILSVRC2012_ID", "WNID", "words", "num_children", "num_train_images")
        }
        for row in read_matlab(meta, ["synsets"])[0].ravel()
    ]
    rows = {int(row["ILSVRC2012_ID"]): row for row in rows if row["num_children"] == 0}
    try:
        synsets = [rows[int(line)]["WNID"] for line in ids.read_text().split()]
    except (KeyError, ValueError) as error:
        raise PrepError(
            f"{path}: {ids.name} holds {error}, which is the ID of no synset in "
            "meta.mat: download it again"
        ) from error
    return Truth(
        {f"ILSVRC2012_val_{k:08d}.JPEG": synset for k, synset in enumerate(synsets, 1)},
        {row["WNID"]: row["words"] for row in rows.values()},
        {row["WNID"]: int(row["num_train_images"]) for row in rows.values()},
        {row["WNID"]: number for number, row in rows.items()},
    )


def _read_csv(path: Path, text: str) -> dict[str, str | int]:
    """ILSVRC2012_val_00048981,n03995372 85 1 499 272"""
    try:
        return {
            f"{row['ImageId']}.JPEG": row["PredictionString"].split()[0]
            for row in csv.DictReader(text.splitlines())
        }
    except (KeyError, IndexError, AttributeError) as error:
        raise PrepError(
            f"{path}: expected columns ImageId, PredictionString, and a synset in each "
            f"line ({error!r}): download it again"
        ) from error


def _read_list(path: Path, text: str) -> dict[str, str | int]:
    """ILSVRC2012_val_00000001.JPEG 65"""
    found: dict[str, str | int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if line.strip():
            if not name or not label.isdecimal():
                raise PrepError(
                    f"{path}, line {number}: expected 'FILE LABEL', found {line!r}; "
                    "where only IDs of synsets stand in it, give the folder or archive "
                    "of the development kit, which says what they mean"
                )
            found[name] = int(label)
    return found
