"""Cases that the proposed method cannot plan: they are planned exactly, as by `plan`, and said where they count."""

from dataclasses import replace

import pandas as pd

from ...common.errors import InputError, reason_of
from ...optimizer.agent.decide import EXACTLY
from ...optimizer.methods.exact import optimum
from ...optimizer.methods.registry import BUILT_IN, DEFAULT_METHOD, Method
from ...optimizer.model.qoe import Plan, Scenario, Users
from .checks import FINDING, Check

LONGEST_NOTE = 200
"""Letters of what an own method says that are repeated."""


def own_plan(scenario: Scenario, users: Users, /, name: str, method: Method) -> Plan:
    """The plan of a method that is not ours; the exact one, with a note, where the method refuses with `InputError`."""
    try:
        return method(scenario, users)
    except InputError as error:
        reason = reason_of(error, LONGEST_NOTE) or "no reason given"
        return replace(optimum(scenario, users), note=f"method {name}: {reason}; {EXACTLY}")


def planned_exactly(note: str) -> bool:
    """Whether a plan's note says that its method left it to the exact optimum."""
    return note.endswith(EXACTLY)


def reason_in(note: str) -> str:
    """Why a method left a plan to the exact optimum, as its note says."""
    return note.removesuffix(f"; {EXACTLY}").partition(": ")[2]


def notes_of(table: pd.DataFrame, proposed: str) -> "pd.Series[str]":
    """The notes of the proposed method's plans; blank where the table has none."""
    own = table[table["method"] == proposed]
    return own["note"].fillna("") if "note" in own else pd.Series("", own.index)


def remarks(notes: "pd.Series[str]", proposed: str) -> str:
    """What has to be said wherever the proposed method's plans count; nothing where all of them are its own.

    Args:
        notes: note of every one of its plans.
        proposed: name of the method.
    """
    exact = notes.map(planned_exactly).astype(bool)
    who = "the policy is out of its range" if proposed == DEFAULT_METHOD else "the method does not plan"
    words = []
    if exact.any():
        reasons = notes[exact].map(reason_in)
        such = "such as " if reasons.nunique() > 1 else ""
        first = f"in {exact.sum()} of {len(notes)} cases {who} ({such}{reasons.iloc[0]})"
        words.append(f"{first} and the plan is the exact one")
    other = notes[~exact & (notes != "")]
    if len(other) and proposed not in BUILT_IN:  # what ours say is in the tables
        first = " ".join(other.iloc[0].split())[:LONGEST_NOTE]
        words.append(f"in {len(other)} of {len(notes)} cases the method says: {first}")
    return "; ".join(words)


def remarks_on(table: pd.DataFrame, proposed: str) -> str:
    """The remarks on the proposed method's plans of a table."""
    return remarks(notes_of(table, proposed), proposed)


def with_remarks(check: Check, notes: "pd.Series[str]", proposed: str) -> Check:
    """A claim about the proposed method with what has to be said; a mere finding where it planned no case itself."""
    words = remarks(notes, proposed)
    if not words:
        return check
    verdict = FINDING if notes.map(planned_exactly).all() else check.verdict
    return replace(check, verdict=verdict, evidence=f"{check.evidence}; {words}")


def share_exact(notes: "pd.Series[str]") -> str:
    """How many plans are the exact ones, for a legend; nothing where none is."""
    exact = int(notes.map(planned_exactly).sum())
    return f", exact in {exact} of {len(notes)} cases" if exact else ""
