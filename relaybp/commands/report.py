"""Write what is known of runs as one HTML file, which needs no network and no server.

    relay report runs/resnet50_relay-... [runs/resnet50-... ...] [--out report.html]
    relay report runs/resnet50_relay-... --watch       write it again whenever training reports

It holds the curves, the settings that differ, the network with what each loss trains, what --probe
has measured, and, of runs that `relay evaluate` has tested, errors by class, confusions and images.
What a run lacks is said in a line, with the command that makes it. By default report.html in the
first run's folder.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from caffe_plain.errors import CaffeError
from caffe_plain.files import write_atomically
from caffe_plain.snapshots import RECORD

from .. import engines, identity
from ..cli import Parser, Runs
from ..html_report.gather import gather
from ..html_report.page import render
from ..lock import KILLED, state_of
from ..tables import METRICS, PROBE

EVERY_S = 5  # between two looks at runs that are watched
WATCHED = (METRICS, PROBE, RECORD, "results")


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "run", nargs="+", action=Runs, help="folders of runs; the first is listed first"
    )
    parser.add_argument("--out", help="the HTML file; default: report.html in the first folder")
    parser.add_argument(
        "--watch", action="store_true", help="write it again while the runs train, until they end"
    )
    args = parser.parse_args()
    out = args.out or os.path.join(args.run[0], "report.html")
    engine = engines.load()
    engine.use_device("none")  # beside a training on the GPU
    try:
        (watch if args.watch else write)(engine, args.run, out)
    except CaffeError as error:
        sys.exit(f"report: {error}")


def write(engine: Any, runs: list[str], out: str, watched: bool = False) -> None:
    """Write the report of runs, whole or not at all, and say where.

    watched: whether the page is to look again whether it has been rewritten.
    """
    page = render(gather(engine, runs), time.strftime("%Y-%m-%d %H:%M:%S"), watched)
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    write_atomically(out, page)
    print(f"{len(page) / 1e6:.1f} MB: {out}", flush=True)


def watch(engine: Any, runs: list[str], out: str, every_s: float = EVERY_S) -> None:
    """Write the report again whenever a run has reported something, until all have ended.

    A run that was killed has ended, too, and is named. What is written last, also after Ctrl-C,
    looks for no other.
    """
    seen = None
    try:
        while any(state_of(run) == identity.RUNNING for run in runs):
            if stamps(runs) != seen:
                seen = stamps(runs)
                write(engine, runs, out, watched=True)
            time.sleep(every_s)
    except KeyboardInterrupt:
        write(engine, runs, out)
        raise
    write(engine, runs, out)
    for run in runs:
        if state_of(run) == KILLED:
            print(f"{run}: {KILLED}; the command that began it goes on from its newest snapshot")


def stamps(runs: list[str]) -> list[float]:
    """When what the report shows has changed last, in seconds."""
    paths = [os.path.join(run, name) for run in runs for name in WATCHED]
    return [os.path.getmtime(path) if os.path.exists(path) else 0.0 for path in paths]
