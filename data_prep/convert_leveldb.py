"""Turn a LevelDB into an LMDB with the same keys and records.

    python data_prep/convert_leveldb.py LEVELDB LMDB

Data layers read either. An LMDB can also be written by convert_imageset and merge_shards, and
tells its number of records without being read. The LevelDB stays as it is.
"""

from __future__ import annotations

from contextlib import closing

from caffe_plain.database import is_leveldb, new_database, open_database
from caffe_plain.flags import FlagParser
from relaybp.data_prep.errors import PrepError, run


def parser() -> FlagParser:
    flags = FlagParser(__doc__)
    flags.add_argument("source", metavar="LEVELDB", help="folder to read")
    flags.add_argument("db", metavar="LMDB", help="folder to make")
    return flags


def main(args: list[str] | None = None) -> None:
    options = parser().parse_args(args)
    with closing(open_database(options.source)) as environment:
        if not is_leveldb(options.source):
            raise PrepError(f"{options.source}: is an LMDB already")
        with environment.begin() as transaction, new_database(options.db) as put:
            for record in transaction.cursor():
                put(*record)
        print(f"{options.db}: {environment.stat()['entries']} records")


def command() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    command()
