"""In which order a database stores the colours of its pixels: RGB as CIFAR's and SVHN's, or BGR.

settings.json in a database says it where the tools here made it. Caffe's convert_cifar_data leaves
no such file; its records are known by their keys and sizes. Of others nobody knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import closing
from itertools import combinations
from typing import Any

from caffe_plain.database import open_database
from relaybp.data_prep.errors import PrepError
from relaybp.layers.datum import read_datum

FIELD = "colours"  # of settings.json
RGB, BGR = "RGB", "BGR"
_CIFAR = (3, 32, 32)
_CIFAR_DIGITS = 5  # of a key


def colour_order(source: str | os.PathLike) -> str | None:
    """RGB or BGR; None of gray records, and where nobody knows."""
    settings = settings_of(source)
    if settings.get("gray"):
        return None
    if "short" in settings:  # as earlier versions of convert_imageset left it
        return str(settings.get(FIELD, BGR))
    if "tool" in settings:
        before = BGR if settings["tool"] == "demo_scenes" else RGB  # as earlier versions left it
        return str(settings.get(FIELD, before))
    return RGB if _is_cifar(source) else None


def check_colour_orders(sources: Iterable[str]) -> None:
    """Raise PrepError where databases that belong together store colours in different orders."""
    orders = {source: colour_order(source) for source in dict.fromkeys(sources)}
    for first, second in combinations([source for source in orders if orders[source]], 2):
        if orders[first] != orders[second]:
            raise PrepError(
                f"{first} stores colours as {orders[first]}, {second} as {orders[second]}: make "
                "both with the same tool (data_prep's --lmdb, as Caffe's convert_cifar_data, "
                "stores RGB, convert_imageset BGR)"
            )


def settings_of(source: str | os.PathLike) -> dict[str, Any]:
    """The settings.json of a database; {} where there is none that can be read."""
    try:
        with open(os.path.join(source, "settings.json"), encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError):
        return {}


def _is_cifar(source: str | os.PathLike) -> bool:
    with closing(open_database(source)) as environment, environment.begin() as transaction:
        key, record = next(iter(transaction.cursor()))
    try:
        datum = read_datum(record)
    except ValueError:
        return False
    shape = (datum.channels, datum.height, datum.width)
    is_number = len(key) == _CIFAR_DIGITS and bytes(key).isdigit()
    return is_number and shape == _CIFAR and not datum.encoded
