"""Damage to files, from a seed: what disks, editors and hostile people do to them."""

TOKENS = [
    b"{",
    b"}",
    b":",
    b'"',
    b"'",
    b"#",
    b"\n",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"0x",
    b"\\",
    b"[",
    b"]",
    b"<",
    b">",
    b";",
    b",",
    b"nan",
    b"\xff",
    b"\0",
    b"layer { ",
    b"layers { ",
    b'input: "x" ',
    b"input_dim: 3 ",
    b'type: "conv" ',
    b"type: CONVOLUTION ",
]


def mutate(rng, data):
    """`data` with one to five changes: bytes set, flipped, inserted, removed, copied, cut off."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(data) + 1))
        length = int(rng.integers(1, 40))
        change = rng.integers(7)
        if change == 0 and place < len(data):
            data[place] = rng.integers(256)
        elif change == 1 and place < len(data):
            data[place] ^= 1 << int(rng.integers(8))
        elif change == 2:
            data[place : place + 4] = b"\xff" * 4
        elif change == 3:
            data[place:place] = TOKENS[rng.integers(len(TOKENS))]
        elif change == 4:
            del data[place : place + length]
        elif change == 5:
            start = int(rng.integers(len(data) + 1))
            data[place:place] = data[start : start + length]
        elif rng.integers(4) == 0:
            del data[place:]
    return bytes(data)
