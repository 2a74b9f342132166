"""Claims and their verdicts, which are computed from the table that is drawn.

A `Check` is one claim. It holds, holds partly or does not hold; a finding of ours, which is no claim of the paper's, is
none of these. A tie is not superiority: "beats" and "best" need more than `TINY`. A figure holds where all of its
claims hold, does not hold where none of them does, and holds partly otherwise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...optimizer.methods.ilp import PROVEN

HOLDS, PARTLY, NOT, FINDING = "holds", "holds partly", "does not hold", "finding"
TINY = 1e-9
"""Differences up to this size are rounding."""


@dataclass(frozen=True)
class Check:
    """One claim, its verdict, and the figures that decide."""

    claim: str
    verdict: str
    evidence: str


def overall(checks: Sequence[Check]) -> str:
    """The verdict on a figure."""
    claims = [check.verdict for check in checks if check.verdict != FINDING]
    return together(claims) if claims else FINDING


def together(verdicts: Iterable[str]) -> str:
    """The verdict on several: their common one, or "holds partly" where they differ."""
    different = set(verdicts)
    return different.pop() if len(different) == 1 else PARTLY


def judged(parts: Iterable[bool]) -> str:
    """The verdict on a claim with several parts, such as the points of a figure; each part is true or not."""
    return together(HOLDS if part else NOT for part in parts)


def r2_of_line(x: "pd.Series[float]", y: "pd.Series[float]") -> float:
    """R2 of the best straight line through points."""
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def count_proven(notes: "pd.Series[str]") -> str:
    """How often the solver of integer programs has proven its plan, in words."""
    return f"proven optimal for its form in {int(notes.str.startswith(PROVEN).sum())} of {len(notes)} cases"
