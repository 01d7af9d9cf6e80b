"""LevelDB's files, written byte by byte as its documents describe them, for tests/test_leveldb.py.

An entry is (key, sequence number, value), the value None for a deletion.
"""

import struct

BLOCK = 32768


def crc32c(data):
    """The CRC-32C of `data`, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32))


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def text(data):
    return varint(len(data)) + data


def internal(key, sequence, value):
    return key + struct.pack("<Q", sequence * 256 + (value is not None))


def literals(data):
    """`data` in Snappy's format, without any copies."""
    out = varint(len(data))
    for at in range(0, len(data), 60):
        piece = data[at : at + 60]
        out += bytes([len(piece) - 1 << 2]) + piece
    return out


def block(pairs, compress):
    """A block of keys and values; every third key is whole."""
    out, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(pairs):
        shared = 0
        if number % 3:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        added = key[shared:]
        out += varint(shared) + varint(len(added)) + varint(len(value)) + added + value
        before = key
    restarts = restarts or [0]
    out += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    out = (literals(out) if compress else out) + bytes([compress])
    return out + masked(out)


def table(entries, records_of_block, compress=False):
    """A table of sorted entries."""
    out, index = b"", []
    for at in range(0, len(entries), records_of_block):
        pairs = [(internal(*entry), entry[2] or b"") for entry in entries[at:][:records_of_block]]
        made = block(pairs, compress)
        index.append((pairs[-1][0], varint(len(out)) + varint(len(made) - 5)))
        out += made
    handles = b""
    for made in (block([], False), block(index, compress)):
        handles += varint(len(out)) + varint(len(made) - 5)
        out += made
    return out + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def batch(entries):
    """The log record of writes with consecutive sequence numbers."""
    out = struct.pack("<QI", entries[0][1], len(entries))
    for key, _, value in entries:
        out += b"\0" + text(key) if value is None else b"\1" + text(key) + text(value)
    return out


def log(records):
    """A log file."""
    out = b""
    for record in records:
        at, is_first = 0, True
        while True:
            if BLOCK - len(out) % BLOCK < 7:
                out += bytes(BLOCK - len(out) % BLOCK)
            piece = record[at : at + BLOCK - len(out) % BLOCK - 7]
            at += len(piece)
            is_last = at == len(record)
            kind = bytes([1 if is_first and is_last else 2 if is_first else 4 if is_last else 3])
            out += masked(kind + piece) + struct.pack("<H", len(piece)) + kind + piece
            is_first = False
            if is_last:
                break
    return out


def edit(tables, deleted=(), log_number=1, comparator=b"leveldb.BytewiseComparator"):
    """The MANIFEST's record of tables {number: (level, entries, bytes)} and (level, number)s."""
    out = b"\1" + text(comparator) + b"\2" + varint(log_number) + b"\3\x99\1\4\xff\1"
    for level, number in deleted:
        out += b"\6" + varint(level) + varint(number)
    for number, (level, entries, made) in tables.items():
        ends = text(internal(*entries[0])) + text(internal(*entries[-1]))
        out += b"\5" + varint(level) + text(internal(*entries[0]))  # where compaction stopped
        out += b"\7" + varint(level) + varint(number) + varint(len(made)) + ends
    return out


def write(folder, tables=(), logs=(), **more):
    """A database of (level, entries, table's bytes) and log files (bytes) of later numbers."""
    folder.mkdir()
    numbered = dict(enumerate(tables, 10))
    for number, (_, _, made) in numbered.items():
        (folder / f"{number:06d}.{'sst' if number % 2 else 'ldb'}").write_bytes(made)
    for number, made in enumerate(logs, 50):
        (folder / f"{number:06d}.log").write_bytes(made)
    more.setdefault("log_number", 50)
    (folder / "MANIFEST-000002").write_bytes(log([edit(numbered, **more)]))
    (folder / "CURRENT").write_text("MANIFEST-000002\n")
    return folder
