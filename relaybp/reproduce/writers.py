"""A table as text for the terminal, as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

from . import cells, reported
from .cells import Measured
from .layer_list import LayerList
from .spec import Block, Row

COLUMNS = [
    *("data", "row", "k", "reported", "source", "measured", "deviation", "improvement"),
    *("errors", "images", "protocol", "runs", "identities"),
]
TERMINAL = 80  # columns
FACTS = ("depth", "parameters", "multiply-adds")


@dataclass(frozen=True)
class Filled:
    """A block with what was found for it.

    data: the name of the data really used; found: {row label: Measured}; facts: {row label: texts
    for FACTS}; with_reported: whether the papers' numbers are shown.
    """

    block: Block
    data: str
    found: dict[str, Measured]
    facts: dict[str, tuple[str, ...]]
    with_reported: bool = True

    @property
    def title(self) -> str:
        """What the block compares, and on which data."""
        return f"{self.block.title}: {self.data}" if self.data else self.block.title

    def header(self) -> list[str]:
        """The names of the columns."""
        names = ["error in %", *(FACTS if self.facts else ())]
        for k in self.block.ks:
            names += [f"top-{k} reported"] if self.with_reported else []
            names += [f"top-{k} measured"]
        return [*names, "runs x images"]

    def rows(self, plus_minus: str = "±") -> list[list[str]]:
        """The texts of the cells."""
        return [self._row(row, plus_minus) for row in self.block.rows]

    def _row(self, row: Row, plus_minus: str) -> list[str]:
        cell = [row.label, *(self.facts.get(row.label, ("",) * 3) if self.facts else ())]
        for k in self.block.ks:
            if self.with_reported:
                cell.append(cells.text(cells.reported_number(row, k, self.block.rows)))
            cell.append(cells.text(cells.measured_number(row, k, self.found), plus_minus))
        measured = self.found.get(row.label, Measured())
        runs = len(measured.results)
        return [*cell, f"{runs} x {measured.images:,}" if runs else cells.NOTHING]

    columns = COLUMNS

    def csv_rows(self, table: str) -> list[list[str]]:
        """A line for each row and k; errors: of each seed; identities: of each of the runs."""
        start = [table, self.block.title, self.data]
        return [[*start, *self._csv(row, k)] for row in self.block.rows for k in self.block.ks]

    def _csv(self, row: Row, k: int) -> list[str]:
        said = reported.find(row.reported if self.with_reported else None)
        error, source = said.errors.get(k), said.source if k in said.errors else ""
        mine = self.found.get(row.label, Measured())
        found = cells.measured_number(row, k, self.found)
        numbers = (found.value, found.deviation, found.improvement) if found else (None,) * 3
        errors = " ".join(map(_plain, mine.errors(k)))
        behind = [str(mine.images), mine.protocol, " ".join(mine.runs), " ".join(mine.identities)]
        return [row.label, str(k), _plain(error), source, *map(_plain, numbers), errors, *behind]


@dataclass(frozen=True)
class Page:
    """A table that is ready to be printed."""

    name: str
    title: str
    blocks: tuple[Filled | LayerList, ...]
    notes: tuple[str, ...]


def terminal(page: Page) -> str:
    """Aligned columns; a table that is too wide comes once for each k."""
    lines = [page.title]
    for block in page.blocks:
        table = _aligned(block)
        if isinstance(block, Filled) and max(map(len, table)) > TERMINAL:
            parts = (replace(block, block=replace(block.block, ks=(k,))) for k in block.block.ks)
            table = [line for part in parts for line in _aligned(part)]
        lines += ["", block.title, *table]
    return "\n".join([*lines, "", *page.notes]) + "\n"


def _aligned(block: Filled | LayerList) -> list[str]:
    """The lines of a table, the header first."""
    rows = [block.header(), *block.rows()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def markdown(page: Page) -> str:
    """A heading, and a table for each block."""
    lines = [f"# {page.title}", ""]
    for block in page.blocks:
        header = block.header()
        lines += [f"**{block.title}**", "", _bar(header), "|---" * len(header) + "|"]
        lines += [*map(_bar, block.rows()), ""]
    return "\n".join([*lines, *(f"- {note}" for note in page.notes)]) + "\n"


def _bar(cell: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cell) + " |"


def latex(page: Page) -> str:
    """A table environment for each block, which needs no package."""
    lines = [f"% {page.title}"]
    for block in page.blocks:
        header = block.header()
        lines += ["\\begin{table}", "\\centering", f"\\caption{{{_tex(page.title, block.title)}}}"]
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", "\\hline"]
        lines += [_ampersand(header), "\\hline"]
        lines += map(_ampersand, block.rows("$\\pm$"))
        lines += ["\\hline", "\\end{tabular}", "\\end{table}"]
    return "\n".join([*lines, *(f"% {note}" for note in page.notes)]) + "\n"


def _ampersand(cell: list[str]) -> str:
    return " & ".join(text.replace("_", "\\_").replace("%", "\\%") for text in cell) + " \\\\"


def _tex(*parts: str) -> str:
    return ". ".join(parts).replace("_", "\\_").replace("%", "\\%")


def comma_separated(page: Page) -> str:
    """A line for each row and k; reported and measured errors in columns of their own."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", "block", *page.blocks[0].columns])
    for block in page.blocks:
        writer.writerows(block.csv_rows(page.name))
    return file.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


FORMATS = {"md": markdown, "tex": latex, "csv": comma_separated}
