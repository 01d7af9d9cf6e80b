"""Print the devices and libraries that the engine finds: python tools/build_info.py"""

import os
import platform

from .. import engines
from ..cli import Parser


def main() -> None:
    Parser(description=__doc__).parse_args()
    engine = engines.load()
    caffe = engine.caffe
    facts = [
        ("caffe", f"{caffe.__version__} ({os.path.dirname(caffe.__file__ or '')})"),
        ("Python", f"{platform.python_version()} on {platform.machine()}"),
        *engine.facts(),
    ]
    for word, what in facts:
        print(f"{word:<10} {what}")
