"""What a table of a paper compares: plain data, which other modules train, test and print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """What is trained for some cells, for each seed anew.

    model: what `relay train --model` takes; data: a key of data.KINDS or data.TAILS; variant: what
    the folder's name says where `words` or `relay` make it another run; words: further arguments of
    `relay train`; relay: fields of a RelayParameter that replace those of the model's relay file.
    """

    model: str
    data: str
    variant: str = ""
    words: tuple[str, ...] = ()
    relay: str = ""

    @property
    def name(self) -> str:
        """The part of a run folder's name that all seeds share."""
        return "-".join(filter(None, (self.data, self.model, self.variant)))


@dataclass(frozen=True)
class Test:
    """How a row is measured: one training, or several whose scores are averaged.

    members: pairs of a Training and a protocol, as `relay evaluate` names it; loss: the output that
    is tested, None for the last.
    """

    members: tuple[tuple[Training, str], ...]
    loss: str | None = None


@dataclass(frozen=True)
class Key:
    """Which lines of reported.tsv a row shows."""

    table: str
    network: str
    method: str
    data: str
    split: str
    protocol: str


@dataclass(frozen=True)
class Row:
    """A row of a block.

    test: None where nothing is trained for it; over: the label of the row whose error it should
    improve on; deploy: MODEL/FILE of the net whose depth and size are shown.
    """

    label: str
    test: Test | None = None
    reported: Key | None = None
    over: str = ""
    deploy: str = ""


@dataclass(frozen=True)
class Block:
    """Rows that are compared with each other, all on one data set.

    title: the network or group of networks; data: as of a Training, "" where only reported
    values are shown; ks: the top-k errors that are shown.
    """

    title: str
    data: str
    rows: tuple[Row, ...]
    ks: tuple[int, ...] = (1, 5)


@dataclass(frozen=True)
class Table:
    """A table: title, what it compares, blocks of rows, and remarks that are printed below it.

    listed: pairs of a model and its name in the paper, whose layers are listed; one_seed: whether
    it shows runs of one seed and no means.
    """

    title: str
    blocks: tuple[Block, ...] = ()
    notes: tuple[str, ...] = ()
    listed: tuple[tuple[str, str], ...] = ()
    one_seed: bool = False

    def trainings(self) -> list[Training]:
        """Everything that is trained for it, each once, in the order of the rows."""
        return list(dict.fromkeys(member for test in self.tests() for member, _ in test.members))

    def tests(self) -> Iterator[Test]:
        """The test of each row that has one."""
        return (row.test for block in self.blocks for row in block.rows if row.test)

    def data(self) -> list[str]:
        """The keys of the data sets that it needs."""
        return list(dict.fromkeys(block.data for block in self.blocks if block.data))


def single(training: Training, protocol: str = "crop", loss: str | None = None) -> Test:
    """The test of one training."""
    return Test(((training, protocol),), loss)
