"""The split point of each user: from a plan, or from NAME=n on the command line."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...common.errors import InputError, nearest, shown
from ...common.table_reader import TableForm, read_table

COLUMNS = ("user_id", "local_steps", "offloaded_steps")
"""The columns of a plan that are read."""
FORM = TableForm(rows="users", known=COLUMNS, names=("user_id",), strict=False)
MOST_STEPS = 1000
"""The largest number of steps that a plan may have here."""


@dataclass(frozen=True)
class PlannedSplits:
    """What a plan says of the splits.

    Attributes:
        local_steps: user -> n, as text.
        total_steps: N, the same for all users.
    """

    local_steps: dict[str, str]
    total_steps: int


def read_plan(path: Path) -> PlannedSplits:
    """The splits of a table that `plan` wrote, CSV or Parquet.

    Raises:
        InputError: one line naming the file and the row.
    """
    table = read_table(path, FORM)
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise InputError(f"{path}: column {missing[0]!r}: missing; name a table that plan -o wrote")
    table.check_names("user_id")
    table.check_unique("user_id")
    steps = {}
    for column in COLUMNS[1:]:
        accepted = f"a whole number from 0 to {MOST_STEPS}"
        table.refuse_first(~table.filled(column), column, accepted)
        steps[column] = table.numbers(column, accepted, 0, MOST_STEPS, whole=True)
    totals = {int(total) for total in steps["local_steps"] + steps["offloaded_steps"]}
    if len(totals) != 1:
        raise InputError(f"{path}: found {len(totals)} numbers of steps in all, accepted: one; name a whole plan")
    local = [str(int(n)) for n in steps["local_steps"]]
    return PlannedSplits(dict(zip(table["user_id"], local, strict=True)), totals.pop())


def own_splits(place: str, splits: Mapping[str, str], users: Collection[str], total: int) -> dict[str, int]:
    """Check one split per user.

    Args:
        place: file or option that the splits come from, for messages.
        splits: user -> n, as text.
        users: names of the users whose models there are.
        total: N.

    Returns:
        user -> n, in the order of the users.

    Raises:
        InputError: for a user without a split, a split without a user, or n outside 0 to N.
    """
    if missing := next((name for name in users if name not in splits), None):
        raise InputError(f"{place}: user {missing!r}: found no split, accepted: one for each of {', '.join(users)}")
    if unknown := next((name for name in splits if name not in users), None):
        raise InputError(f"{place}: user {shown(unknown)}: found no model of that name; {nearest(unknown, users)}")
    for name, text in splits.items():
        if not _whole(text) or int(text) > total:
            raise InputError(f"{place}: user {name!r}: found {shown(text)}, accepted: 0 to N = {total}")
    return {name: int(splits[name]) for name in users}


def _whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
