"""The images below a folder: what is taken, and by kind what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2

from caffe_plain.images import printable
from relaybp.data_prep.errors import PrepError

_BUILDS = (".gif", ".jp2", ".avif")  # which some builds of OpenCV read
EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".ras", ".sr"),
    *filter(cv2.haveImageWriter, _BUILDS),
}
UNREADABLE = {
    *(".heic", ".heif", ".hif", ".jxl", ".psd", ".svg", ".ico", ".xcf", ".tga", ".j2k", ".eps"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw"),
    *set(_BUILDS).difference(EXTENSIONS),
}
_SYSTEM = {"__macosx", "#recycle", "$recycle.bin", "lost+found", "thumbs", "thumbnails"}
_EXAMPLES = 3

HIDDEN = "hidden files and folders"
SYSTEM = "folders of thumbnails and of the system"
AGAIN = "links to folders that are listed where they lie, or twice"
BROKEN = "broken links"
NO_FILES = "that are neither files nor folders"


class ImageTree:
    """Walks over a folder, each real folder below it once.

    left_out: {kind: how many files, folders or links of it}; `lines()` is that for people.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self.left_out: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._listed = [os.path.realpath(root)]

    def images(self, folder: str = "") -> list[str]:
        """The images below a folder of the root, relative to the root, in alphabetical order."""
        return list(self._walk(folder))

    def top(self) -> tuple[list[str], list[str]]:
        """The folders and the images that lie in the root itself, in alphabetical order."""
        return self._sort("")

    def lines(self) -> Iterator[str]:
        """Yield a line for each kind that was left out: how many, some of them, the cure."""
        for kind, count in sorted(self.left_out.items()):
            names = ", ".join(self._examples[kind])
            more = ", ..." if count > len(self._examples[kind]) else ""
            cure = ""
            if kind.split(" ")[0] in UNREADABLE:
                cure = "; OpenCV here cannot read them: convert them to JPEG or PNG"
            yield f"left out: {count} {kind} ({names}{more}){cure}"

    def _walk(self, folder: str) -> Iterator[str]:
        subfolders, files = self._sort(folder)
        for path in files:
            if "\n" in path:
                raise PrepError(f"{path!r}: a list file cannot hold such a name: rename it")
            yield path
        for path in subfolders:
            yield from self._walk(path)

    def _sort(self, folder: str) -> tuple[list[str], list[str]]:
        """The folders and the images in a folder; the rest is noted."""
        full = os.path.join(self.root, folder)
        try:
            with os.scandir(full) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise PrepError(
                f"cannot read the folder {printable(full)}: {error.strerror}; get the right to "
                "read it, or move it away"
            ) from error
        subfolders, files = [], []
        for entry in entries:
            path = os.path.join(folder, entry.name)
            reason = self._unwanted(entry)
            if reason:
                self._note(reason, path)
            else:
                (subfolders if os.path.isdir(entry.path) else files).append(path)
        return subfolders, files

    def _unwanted(self, entry: os.DirEntry) -> str | None:
        """The kind of what is left out, or None."""
        name = entry.name.lower()
        if name.startswith("."):
            return HIDDEN
        if os.path.isdir(entry.path):
            if name in _SYSTEM or name.startswith("@"):
                return SYSTEM
            return AGAIN if entry.is_symlink() and not self._is_new(entry.path) else None
        if not os.path.exists(entry.path):
            return BROKEN
        extension = os.path.splitext(name)[1]
        if not os.path.isfile(entry.path):
            return NO_FILES
        if extension not in EXTENSIONS:
            return f"{extension} files" if extension else "files without an extension"
        return None

    def _is_new(self, link: str) -> bool:
        """Whether a link leads where the walk does not come otherwise; then it comes there now."""
        real = os.path.realpath(link)
        if any(_lies_in(real, other) or _lies_in(other, real) for other in self._listed):
            return False
        self._listed.append(real)
        return True

    def _note(self, kind: str, path: str) -> None:
        self.left_out[kind] = self.left_out.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(printable(path))


def _lies_in(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
