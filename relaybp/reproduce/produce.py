"""A table from its name to its files: plan, train, test, tabulate."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from caffe_plain.files import write_atomically
from caffe_plain.phases import TEST

from .. import identity, prototxt, run_folder
from ..cli import in_checkout
from ..errors import RelayError
from ..evaluation.protocol import Protocol
from ..evaluation.results import Member, ensemble, measure
from ..progress import clock
from ..prototxt import count
from . import auxnet_tables, relay_tables, writers
from .cells import Measured
from .data import DRAWN, DataSet, kind_of, variables
from .layer_list import layer_list
from .runs import FINISHED, FP32, Options, Run, Runs
from .scales import PAPER, SMOKE
from .spec import Block, Row, Table, Test, Training
from .writers import Filled, Page

TABLES = {**relay_tables.TABLES, **auxnet_tables.TABLES}


def without_reported(table: Table) -> Table:
    """The table without the rows for which nothing is measured."""
    blocks = [
        replace(block, rows=tuple(row for row in block.rows if row.test)) for block in table.blocks
    ]
    return replace(table, blocks=tuple(block for block in blocks if block.rows), notes=())


class Production:
    """A table that is reproduced: `runs`, what each row needs of them, and the page at the end.

    data: {key: DataSet} of the sets at hand; rows of others stay empty.
    """

    def __init__(
        self, engine: Any, name: str, table: Table, options: Options, data: dict[str, DataSet]
    ):
        self.engine, self.name = engine, name
        self.table = without_reported(table) if options.scale == SMOKE else table
        self.options, self.data = options, data
        self.maker = Runs(engine, options, data)
        trainings = [training for training in table.trainings() if training.data in data]
        self.runs: dict[tuple[Training, int], Run] = {
            (training, seed): self.maker.plan(training, seed)
            for seed in options.seeds
            for training in trainings
        }
        if self.runs and not any(map(self._is_asked_for, self.runs.values())):
            names = "\n  ".join(training.name for training in trainings)
            raise RelayError(f"ONLY={options.only}: none of the trainings, which are\n  {names}")

    def _is_asked_for(self, run: Run) -> bool:
        return fnmatchcase(run.training.name, self.options.only)

    def describe(self) -> str:
        """What there is to train, with the time that it takes where that is known."""
        lines = []
        for run in self.runs.values():
            seconds = None if run.state == FINISHED else self.maker.seconds(run)
            about = f", about {clock(seconds)}" if seconds else ""
            state = run.state if run.state == FINISHED or self._is_asked_for(run) else "left out"
            lines.append(
                f"  {os.path.basename(run.folder)}: {state}; {run.iterations:,} iterations, "
                f"{run.images:,} images{about}"
            )
        used = (f"  {key}: {found}" for key, found in self.data.items())
        if not self.runs:
            return f"{self.table.title}: nothing to train"
        return "\n".join([self.table.title, "data:", *used, "runs:", *lines])

    def train(self) -> None:
        """Train what is not finished, one run after another."""
        for run in self.runs.values():
            if run.state != FINISHED and self._is_asked_for(run):
                self.maker.train(run)

    def page(self) -> Page:
        """Test every row, and fill the table."""
        if self.table.listed:
            lists = [layer_list(self.engine.pb, *network) for network in self.table.listed]
            return Page(self.name, self.table.title, tuple(lists), ())
        blocks = tuple(self._fill(block) for block in self.table.blocks)
        titles = dict.fromkeys(block.data for block in blocks if block.data)
        notes = [*self.table.notes, *self._notes()]
        return Page(
            self.name, f"{self.table.title}. Data: {'; '.join(titles)}", blocks, tuple(notes)
        )

    def _fill(self, block: Block) -> Filled:
        found = {
            row.label: self.measure(row.test)
            for row in block.rows
            if row.test and block.data in self.data
        }
        facts = {row.label: self._facts(row) for row in block.rows if row.deploy}
        title = self.data[block.data].title if block.data in self.data else ""
        return Filled(block, title, found, facts, self.options.scale != SMOKE)

    def measure(self, test: Test) -> Measured:
        """The Result of each seed that was trained; what was tested before is not tested again."""
        results, folders = [], []
        how = self.options.gpu, self.options.precision
        for seed in self.options.seeds:
            runs = [self.runs[training, seed] for training, _ in test.members]
            if any(run.state != FINISHED for run in runs):
                continue
            members = [
                Member(run.folder, Protocol.parse(protocol, loss=test.loss))
                for run, (_, protocol) in zip(runs, test.members)
            ]
            if len(members) > 1:
                out = os.path.join(self.options.out, "ensembles", f"{self.name}-seed{seed}")
                results.append(ensemble(self.engine, members, out, *how))
            else:
                folder, protocol, _ = members[0]
                results.append(measure(self.engine, folder, protocol, None, *how))
            folders += [run.folder for run in runs]
        return Measured(
            tuple(results),
            tuple(map(os.path.basename, folders)),
            tuple(map(identity.checksum_of, folders)),
            results[0].protocol if results else "",
        )

    def _facts(self, row: Row) -> tuple[str, ...]:
        """Layers with weights, parameters and multiply-adds of a net."""
        path = os.path.join(os.path.dirname(prototxt.__file__), row.deploy)
        net = run_folder.read(path, self.engine.pb.NetParameter())
        rows = count.walk(net, TEST)
        depth = sum(layer.multiply_adds > 0 for layer in rows)
        return (
            str(depth),
            f"{count.parameters(rows) / 1e6:.2f} M",
            f"{count.multiply_adds(rows) / 1e6:.1f} M",
        )

    def _notes(self) -> list[str]:
        options, seeds = self.options, " ".join(map(str, self.options.seeds))
        overs = {row.over for block in self.table.blocks for row in block.rows if row.over}
        base = " or ".join(sorted(overs)) if len(overs) < 3 else "the same network by standard BP"
        over = f", in brackets the improvement over {base}" if overs else ""
        several = len(options.seeds) > 1
        what = (
            "mean over seeds {}, ± the standard deviation of the sample" if several else "seed {}"
        )
        notes = [f"Measured: {what.format(seeds)}{over}; `-`: nothing was run."]
        missing = variables([key for key in self.table.data() if key not in self.data])
        notes += [f"{variable}= was not named: nothing was run on it." for variable in missing]
        if options.epochs:
            notes.append(f"Schedules were shortened proportionally to {options.epochs:g} epochs.")
        if options.precision != FP32:
            notes.append(f"Trained and tested in {options.precision}.")
        notes.append(f"Some of it again: `{self._command()}`.")
        if DRAWN in self.data:
            notes.append("Drawn scenes and some iterations: these errors mean nothing.")
        elif options.scale != PAPER and not self.name.startswith("auxnet"):
            notes.append(
                "Reported errors are those of the paper's own networks and data, not of these."
            )
        return notes + self._commits()

    def _command(self) -> str:
        """What trains and tests one cell again."""
        options, runs = self.options, list(self.runs.values())
        paths = {
            kind.variable: shlex.quote(found.named)
            for key, found in self.data.items()
            if (kind := kind_of(key))
        }
        words = [f"{variable}={path}" for variable, path in paths.items()]
        words += [f"OUT={shlex.quote(options.out)}"]
        words += [f"SCALE={options.scale}", f"PRECISION={options.precision}"]
        words += [f"EPOCHS={options.epochs:g}"] if options.epochs else []
        words += [f"SEEDS={options.seeds[0]}", f"ONLY={runs[-1].training.name}"] if runs else []
        script = f"bash tools/tables/{self.name}.sh"
        return " ".join([*words, script if in_checkout() else f"relay reproduce {self.name}"])

    def _commits(self) -> list[str]:
        """A remark where the runs were trained by different code."""
        records = [identity.read(run.folder) for run in self.runs.values()]
        commits = sorted({str(record.get("commit")) for record in records if record})
        if len(commits) < 2:
            return []
        return [f"The runs were trained at several commits: {', '.join(commits)}."]

    def write(self, page: Page) -> list[str]:
        """Write OUT/NAME.md, .tex and .csv; return their paths."""
        os.makedirs(self.options.out, exist_ok=True)
        paths = []
        for ending, form in writers.FORMATS.items():
            paths.append(os.path.join(self.options.out, f"{self.name}.{ending}"))
            write_atomically(paths[-1], form(page))
        return paths
