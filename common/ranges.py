"""Whole numbers on the command line: "1:16", "1:16:3", "1,2,4" or a mix; STOP is included."""

from .errors import InputError, shown

MOST_NUMBERS = 10_000


def parse_ranges(option: str, text: str, least: int, most: int, fewest: int = 1) -> list[int]:
    """The numbers of a text, ascending, each once.

    Args:
        option: name of the option, for messages.
        text: value of the option.
        least: smallest number that is accepted.
        most: largest number that is accepted.
        fewest: number of different numbers that are needed.

    Raises:
        InputError: for anything else.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        span = _span(part.strip())
        if span is None or not least <= span[0] <= span[-1] <= most:
            raise _refusal(option, text, least, most, fewest)
        if len(numbers) + len(span) > MOST_NUMBERS:
            raise InputError(
                f"{option}: found {shown(text)}, accepted: {MOST_NUMBERS} numbers at most; take a larger STEP"
            )
        numbers |= set(span)
    if len(numbers) < fewest:
        raise _refusal(option, text, least, most, fewest)
    return sorted(numbers)


def _span(part: str) -> range | None:
    pieces = part.split(":")
    if len(pieces) > 3 or not all(piece.isdecimal() and piece.isascii() and len(piece) < 10 for piece in pieces):
        return None
    start, stop, step = int(pieces[0]), int(pieces[min(1, len(pieces) - 1)]), int(pieces[2]) if len(pieces) == 3 else 1
    return range(start, stop + 1, step) if start <= stop and step >= 1 else None


def _refusal(option: str, text: str, least: int, most: int, fewest: int) -> InputError:
    count = "numbers" if fewest == 1 else f"{fewest} numbers or more"
    return InputError(
        f"{option}: found {shown(text)}, accepted: {count} from {least} to {most} as START:STOP, START:STOP:STEP or a "
        "list, such as 1:16 or 1,2,4,8"
    )
