"""What a run's folder holds, read when a panel asks for it."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
from typing import Any

from .. import identity, relay_file, run_folder
from ..cli import command
from ..errors import RelayError
from ..evaluation.identity import net_of_run
from ..evaluation.results import FOLDER, Result
from ..figures.run_tables import Run
from ..run_files import DEPLOY
from ..run_folder import STANDARD_STAGE

TIMING = ("lr", "images/s")  # what a training row holds besides losses


class Source:
    """A run's folder. tables: its CSV files; record: its run.json, None without one.

    Raises RelayError where the folder has no metrics.csv.
    """

    def __init__(self, engine: Any, folder: str) -> None:
        self.engine, self.folder = engine, os.path.normpath(folder)
        self.tables = Run(folder)
        self.name = self.tables.name
        self.record = identity.read(folder)

    @property
    def losses(self) -> list[str]:
        """The losses that training reports."""
        return [name for kind, name in self.tables.curves if kind == "train" and name not in TIMING]

    @functools.cached_property
    def solver(self) -> Any:
        """The SolverParameter of the run."""
        path = os.path.join(self.folder, "solver.prototxt")
        if not os.path.exists(path):
            raise RelayError(f"{path} is not there: `relay train --model` keeps it in the folder")
        return run_folder.read(path, self.engine.pb.SolverParameter())

    @functools.cached_property
    def net(self) -> Any:
        """The NetParameter that the solver names."""
        return net_of_run(self.engine.pb, self.folder)

    @property
    def size(self) -> tuple[int, ...] | None:
        """(C, H, W) of the images, where the folder's deploy.prototxt tells it."""
        path = os.path.join(self.folder, DEPLOY)
        if not os.path.exists(path):
            return None
        deploy = run_folder.read(path, self.engine.pb.NetParameter())
        shapes = [shape for layer in deploy.layer[:1] for shape in layer.input_param.shape[:1]]
        return tuple(shapes[0].dim[1:]) if shapes else None

    @property
    def is_standard(self) -> bool:
        """Whether the run leaves the auxiliary branches out."""
        return STANDARD_STAGE in self.solver.train_state.stage

    @functools.cached_property
    def relay(self) -> Any:
        """The RelayParameter of the run; without a file every loss trains all below it."""
        path = os.path.join(self.folder, "relay.prototxt")
        if os.path.exists(path):
            return relay_file.read_relay(path)
        schedule = "STANDARD" if self.is_standard else "JOINT"
        return relay_file.RelayParameter(schedule=relay_file.SCHEDULES.index(schedule))

    @functools.cached_property
    def results(self) -> list[Result]:
        """What `relay evaluate` has kept of the run, the newest first.

        What an earlier version has kept, and measured in another way, is left out.
        """
        paths = glob.glob(os.path.join(glob.escape(self.folder), FOLDER, "*.json"))
        found = []
        for path in sorted(paths, key=os.path.getmtime, reverse=True):
            with contextlib.suppress(KeyError):  # of what it did not record
                found.append(Result(path))
        return found

    @property
    def result(self) -> Result:
        """The newest of the results."""
        if not self.results:
            raise RelayError(f"not tested yet: `{command('evaluate', self.folder)}` fills this")
        return self.results[0]
