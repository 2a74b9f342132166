"""Seeded mutations of files that commands read: of what they say, and of their bytes."""

import copy
import json

from damage import damaged

ODD = (
    None, True, -1, 0, 10**400, -(10**30), 1e308, -1e-320, float("nan"), float("inf"), "", " ", "[/bold]", "\x1b[2J",
    "a\0b", "\ud800", "../../x", "x" * 5000, "\u202eabc\u200b", "=1+1", [], {}, [[]], {"a": {"b": [None]}}, "1e5", 1.5,
)  # fmt: skip
"""Values that stand nowhere in a good file."""


def mutated_json(text, rng):
    """A JSON text in which some values are others, or keys are missing, new or twice; now and then other bytes."""
    if rng.random() < 0.25:
        return damaged(text.encode(), rng)
    value = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        value = _mutated(value, rng)
    if rng.random() < 0.03:
        value = {"deep": "DEEP", "value": value} if rng.random() < 0.5 else value | {"notes": "DEEP"}
    deep = "[" * 100_000 + "]" * 100_000
    return json.dumps(value).replace('"DEEP"', deep).encode()


def _mutated(value, rng):
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return {}
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind == 2 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        factor = rng.choice([-1, 0, 1e-9, 1e9, 1e20, 1.0000001]).item()
        holder[key] = factor * min(holder[key], 1e300)
    else:
        holder[key] = ODD[rng.integers(len(ODD))]
    return value


def _places(value):
    """Every place in nested lists and objects, as the holder and the key; of a long list its ends alone."""
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = [*range(min(len(value), 3)), *range(max(3, len(value) - 1), len(value))]
    else:
        return
    for key in keys:
        yield value, key
        yield from _places(value[key])


CELLS = (
    "",
    "nan",
    "inf",
    "-1",
    "1e400",
    "9" * 5000,
    "1_0",
    "=cmd|' /C calc'!A0",
    "\x1b[31m",
    "a\0b",
    '"',
    '"a\nb"',
    "é" * 300,
)
"""Cells that stand nowhere in a good table."""


def mutated_table(text, rng, separator=","):
    """A CSV text in which some cells are others, lines are missing or twice; now and then other bytes."""
    if rng.random() < 0.3:
        return damaged(text.encode(), rng)
    lines = [line.split(separator) for line in text.splitlines()]
    for _ in range(rng.integers(1, 4)):
        row = lines[rng.integers(min(len(lines), 40))]
        kind = rng.integers(5)
        if kind == 0 and len(lines) > 1:
            lines.remove(row)
        elif kind == 1:
            lines.insert(rng.integers(len(lines)), list(row))
        elif kind == 2 and row:
            del row[rng.integers(len(row))]
        elif row:
            row[rng.integers(len(row))] = CELLS[rng.integers(len(CELLS))]
    ending = ("\n", "\r\n", "\r")[rng.integers(3)]
    return ending.join(separator.join(row) for row in lines).encode(errors="surrogatepass")
