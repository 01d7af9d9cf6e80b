"""BVLC Caffe's own sources: its tests of pycaffe, its parse_log.py.

BVLC_SOURCE names the folder that holds them; what needs them is skipped without it. On Debian 11,
`apt-get source caffe` brings them.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get("BVLC_SOURCE", "none")).absolute()

needed = pytest.mark.skipif(
    "BVLC_SOURCE" not in os.environ, reason="BVLC_SOURCE does not name BVLC Caffe's sources"
)


def parse_log(log, folder):
    """(train rows, test rows) that BVLC's parse_log.py makes of a log, {column: number} each."""
    for name in ("parse_log.py", "extract_seconds.py"):
        text = (SOURCE / "tools" / "extra" / name).read_text()
        text = text.replace("print 'Wrote %s' % output_filename", "pass")  # Python 2's
        (folder / name).write_text(text)
    command = [sys.executable, "-W", "ignore", "parse_log.py", str(log), "."]
    subprocess.run(command, cwd=folder, check=True)
    tables = []
    for kind in ("train", "test"):
        with open(folder / f"{log.name}.{kind}", newline="") as file:
            rows = csv.DictReader(file)
            tables.append([{name: float(value) for name, value in row.items()} for row in rows])
    return tables
