"""The option `--splits`: local steps as numbers, or as parts of N."""

import re
from fractions import Fraction

from ..common.errors import InputError, shown

NUMBER = re.compile(r"(\d{1,6})|N(?:/([1-9]\d{0,5}))?")


def parse_splits(text: str | None, total: int) -> list[int]:
    """Local steps n, ascending, each once, from a text such as "0:N:N/10" or "0,10,N"; rounded to whole steps.

    Args:
        text: what the user wrote; None for every tenth of N.
        total: N.

    Raises:
        InputError: for fewer than three splits, splits outside 0..N, or steps of less than one.
    """
    if text is None and total < 2:
        raise InputError(f"--steps: found {total}, accepted: 2 or more, as a curve needs three splits")
    if text is None:
        return sorted({(2 * i * total + 10) // 20 for i in range(11)})
    points = {point for part in text.split(",") for point in _points(part, text, total)}
    splits = sorted({int(point + Fraction(1, 2)) for point in points})
    if len(splits) < 3 or splits[-1] > total:
        raise _bad_splits(text, total)
    return splits


def _points(part: str, text: str, total: int) -> list[Fraction]:
    """The points of one part of the list: NUMBER, START:STOP or START:STOP:STEP."""
    ends = [_steps(piece.strip(), total) for piece in part.split(":")]
    start, stop, step = ends[0], ends[min(1, len(ends) - 1)], ends[2] if len(ends) == 3 else Fraction(1)
    if len(ends) > 3 or None in ends or start is None or stop is None or step is None:
        raise _bad_splits(text, total)
    if step < 1:
        raise InputError(f"--splits: found {shown(text)}, with steps of {float(step):g}, accepted: 1 or more")
    return [start + i * step for i in range(int((stop - start) / step) + 1 if stop >= start else 0)]


def _steps(text: str, total: int) -> Fraction | None:
    """A number of steps such as "10", "N" or "N/10"; None for any other text."""
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    return Fraction(match[1]) if match[1] else Fraction(total, int(match[2] or 1))


def _bad_splits(text: str, total: int) -> InputError:
    return InputError(
        f"--splits: found {shown(text)}, accepted: three or more from 0 to N = {total} as START:STOP:STEP or a list, "
        "such as 0:N:N/10 or 0,10,N"
    )
