"""Errors that a user can mend: one line, exit code 2."""

import difflib
import importlib.util
import sys
from collections.abc import Iterable


class InputError(Exception):
    """Bad input. The message is one line naming the place, what was found and what is accepted."""


def shown(value: object, width: int = 60) -> str:
    """A value for an error message: quoted if it is text, shortened, never more than one line."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


JOINERS = "\u200c\u200d"
"""What joins emoji, and parts letters of Persian and Indic names, without being seen."""


def printable(text: str) -> str:
    """A text that a terminal only shows: what could move its cursor becomes a question mark, joiners are left out."""
    return "".join(c if c.isprintable() else "?" for c in text if c not in JOINERS)


def reason_of(error: BaseException, width: int = 100) -> str:
    """What another library says of its error, as one short line for a message of ours."""
    said = getattr(error, "strerror", None) or str(error)
    return printable(" ".join(str(said).split()))[:width]


def counted(count: int, noun: str) -> str:
    """A number of things in words, such as 1 GPU or 2,000 GPUs."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def nearest(word: str, known: Iterable[str], all_known: str = "") -> str:
    """A suggestion to end a message with: the nearest known word, or all of them where few are known.

    Args:
        word: word that is not known.
        known: known words.
        all_known: sentence that says where to see all known words, for where they are too many to name.
    """
    known = list(known)
    folded = {name.casefold(): name for name in known}
    matches = difflib.get_close_matches(word.casefold(), folded, n=1)
    if matches:
        return f"did you mean {folded[matches[0]]!r}?"
    if len(known) > 8 and all_known:
        return all_known
    return "known: " + ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")


def require(extra: str, *modules: str) -> None:
    """Refuse to go on without the modules of an extra, in words that say what to install.

    Raises:
        InputError: naming the first missing module, or the setting of Python with which it cannot work.
    """
    if extra == "models" and sys.flags.optimize > 1:  # transformers makes its help of docstrings, and fails without
        raise InputError("PYTHONOPTIMIZE: found 2 (or python -OO), accepted: 0 or 1; transformers needs docstrings")
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise InputError(f"needs the module '{module}', which is not installed: pip install 'edgesplit[{extra}]'")
