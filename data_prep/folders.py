"""Output folders that are either complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relaybp.data_prep.errors import PrepError


@contextmanager
def complete_folder(folder: str | Path) -> Iterator[Path]:
    """Yield FOLDER.partial to fill; it becomes `folder` if no error ends the block.

    What a killed run left in FOLDER.partial is removed first.
    """
    folder = Path(folder)
    if folder.exists():
        raise PrepError(f"{folder} exists already: delete it or choose another name")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        os.rename(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            free = shutil.disk_usage(folder.parent).free // 10**6
            raise PrepError(
                f"cannot make {folder} ({free} MB free on that disk): {error}; nothing "
                "is left of it"
            ) from error
        raise
