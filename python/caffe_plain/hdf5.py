"""HDF5 files from strangers: whole in themselves, or refused."""

from __future__ import annotations

import h5py

from .errors import DataError


def check_self_contained(file: h5py.File) -> None:
    """Raise DataError if anything in an open HDF5 file is a name of another file.

    A link, external storage or a virtual dataset would make whoever opens a stranger's file read
    any other file of theirs, as weights that they may pass on.
    """
    links: list[tuple[str, str]] = []

    def look(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        if info.type not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            links.append((name.decode(errors="replace"), "is a link to"))

    file.id.links.visit(look, info=True)
    file.visititems(lambda name, item: links.extend(_elsewhere(name, item)))
    for name, verb in links:
        raise DataError(
            f"{file.filename}: /{name} {verb} another file, which is never followed; give a file "
            "that holds the values themselves"
        )


def _elsewhere(name: str, item: h5py.Group | h5py.Dataset) -> list[tuple[str, str]]:
    """[(name, how it names another file)] of a dataset whose values are not in its file."""
    if not isinstance(item, h5py.Dataset):
        return []
    plan = item.id.get_create_plist()
    if plan.get_external_count():
        return [(name, "is stored in")]
    return [(name, "is put together from")] if item.is_virtual else []
