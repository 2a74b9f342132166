"""Seeded damage to the bytes of a file."""

HEADER = 100
"""Bytes of a SQLite database's header."""


def flipped(data, rng):
    """A few bits are another way round."""
    data = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 20)):
        data[place] ^= 1 << rng.integers(8)
    return bytes(data)


def overwritten(data, rng):
    """A stretch holds other bytes."""
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
    return data[:start] + rng.bytes(min(length, len(data) - start)) + data[start + length :]


def zeroed(data, rng, page=4096):
    """One or two pages are empty."""
    data = bytearray(data)
    for number in rng.integers(-(-len(data) // page), size=rng.integers(1, 3)):
        part = data[number * page : (number + 1) * page]
        data[number * page : (number + 1) * page] = bytes(len(part))
    return bytes(data)


def cut(data, rng):
    """The end is missing."""
    return data[: rng.integers(len(data))]


def swapped(data, rng, page=4096):
    """Two pages have changed places."""
    pages = [data[start : start + page] for start in range(0, len(data), page)]
    one, other = rng.integers(len(pages), size=2)
    pages[one], pages[other] = pages[other], pages[one]
    return b"".join(pages)


def other_header(data, rng):
    """A field of the first hundred bytes is another."""
    start = int(rng.integers(HEADER - 4))
    value = rng.choice([0, 1, 2, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF]).item().to_bytes(4, "big")
    return (
        data[:start] + value[: rng.integers(1, 5)].ljust(0) + data[start + 4 :]
        if rng.random() < 0.2
        else (data[:start] + value + data[start + 4 :])
    )


DAMAGES = (flipped, overwritten, zeroed, cut, swapped, other_header)


def damaged(data, rng):
    """The bytes after one kind of damage, now and then two."""
    for number in rng.integers(len(DAMAGES), size=1 + (rng.random() < 0.25)):
        data = DAMAGES[number](data, rng) if data else data
    return data
