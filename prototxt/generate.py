"""Write the files of each model folder from its net.py.

python -m relaybp.prototxt.generate [MODEL ...]        (default: every model)
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from .model import Model

HERE = Path(__file__).parent


def folders() -> list[str]:
    """The names of all model folders."""
    return sorted(path.parent.name for path in HERE.glob("*/net.py"))


def load(folder: str) -> Model:
    """The Model that `folder`/net.py defines."""
    spec = importlib.util.spec_from_file_location(f"{folder} net", HERE / folder / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="*", metavar="MODEL", help=", ".join(folders()))
    chosen = parser.parse_args().model or folders()
    unknown = sorted(set(chosen) - set(folders()))
    if unknown:
        parser.error(f"no {unknown[0]}/net.py; there are: {', '.join(folders())}")
    changed = sum(write(folder) for folder in chosen)
    print(f"{len(chosen)} models, {changed} files changed")


def write(folder: str) -> int:
    """Write the files of a folder that differ from their net.py; return how many did."""
    changed = 0
    for name, text in load(folder).files(folder).items():
        path = HERE / folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed += 1
    return changed


if __name__ == "__main__":
    main()
