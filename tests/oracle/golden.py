"""Writes recordings, and beside them MANIFEST.json: which Caffe and which script made each.

The recorders of this folder use it, under BVLC Caffe's Python 3.9.
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden")
MANIFEST = "MANIFEST.json"


def save_arrays(path: str, **arrays: np.ndarray) -> None:
    """Write an .npz and enter it."""
    facts = _facts()
    np.savez_compressed(path, **arrays)
    _enter([path], facts)
    print(f"{path}: {len(arrays)} arrays, {os.path.getsize(path)} bytes")


def save_text(path: str, text: str) -> None:
    """Write a text file and enter it."""
    facts = _facts()
    with open(path, "w") as file:
        file.write(text)
    _enter([path], facts)
    print(f"{path}: {os.path.getsize(path)} bytes")


def enter(*paths: str) -> None:
    """Enter files, just made by the running script, in the manifest of their folder.

    Files that are gone leave the manifest. tests/golden has one manifest, its subfolders none.
    """
    _enter(paths, _facts())


def enter_handwritten(*paths: str) -> None:
    """Enter files that no Caffe made."""
    _enter(paths, {"written": "by hand"})


def caffe_in_force() -> str:
    """The Caffe that this Python imports; ends the script if it is this repository's engine."""
    import caffe

    if hasattr(caffe, "register_layer"):
        sys.exit(
            f"{_script()}: `import caffe` gives {caffe.__file__}, not BVLC Caffe; "
            "run it as tests/README.md says"
        )
    name = f"BVLC Caffe {caffe.__version__}"
    try:
        done = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", "python3-caffe"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except FileNotFoundError:  # no Debian
        return name
    return f"{name} (Debian's {done.stdout})" if done.returncode == 0 else name


def sha256(path: str) -> str:
    """The digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _facts():
    """The manifest's entry for a file that the running script makes."""
    return {"caffe": caffe_in_force(), "script": _script()}


def _script():
    return "tests/oracle/" + os.path.basename(sys.argv[0])


def _enter(paths, facts):
    inside = all(os.path.abspath(path).startswith(FOLDER + os.sep) for path in paths)
    folder = FOLDER if inside else os.path.dirname(os.path.abspath(paths[0]))
    manifest, entries = os.path.join(folder, MANIFEST), {}
    if os.path.exists(manifest):
        with open(manifest) as file:
            entries = json.load(file)
    for path in paths:
        entries[os.path.relpath(path, folder)] = {**facts, "sha256": sha256(path)}
    kept = {name: e for name, e in entries.items() if os.path.exists(os.path.join(folder, name))}
    with open(manifest, "w") as file:
        json.dump(kept, file, indent=1, sort_keys=True)
        file.write("\n")
