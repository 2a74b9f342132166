"""The tables of `cluster`: vectors in, users in and out."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.arrays import Floats
from ..common.errors import InputError, counted, shown
from ..common.table_reader import TableForm, TextTable, read_table
from ..common.tables import Columns
from ..optimizer.inputs.users import FORM

if TYPE_CHECKING:
    import pandas as pd

USER = "user_id"
VECTORS = TableForm(rows="users", known=(USER,), names=(USER,), needed=(USER,), others=True)
NUMBERS = ("step_latency_s", "alpha", "emphasis", "request_slot")
"""Columns of the users file that may have a decimal comma."""
LARGEST = 1e300


def read_vectors(source: "str | Path | pd.DataFrame") -> tuple[list[str], Floats]:
    """Users and their vectors, shape (users, width): every column but `user_id` is a coordinate.

    Raises:
        InputError: one line naming file, row and column.
    """
    table = read_table(source, VECTORS)
    names = [name for name in table.columns if name != USER]
    if not names or not len(table):
        what = "no column of numbers" if len(table) else "no rows below the header"
        raise InputError(f"{table.source}: found {what}, accepted: user_id, number columns, and one row per user")
    table.check_names(USER)
    table.check_unique(USER)
    vectors = np.stack([_coordinates(table, name) for name in names], axis=1)
    table.refuse_first(
        (vectors == 0).all(axis=1), names[0], "a number other than 0 in one column: zeros have no direction"
    )
    return list(table[USER]), vectors


def _coordinates(table: TextTable, column: str) -> Floats:
    accepted = "a finite number; remove columns that are no coordinates"
    values = table.numbers(column, accepted, -LARGEST, LARGEST)
    table.refuse_first(np.isnan(values), column, accepted)
    return values


def read_known_users(path: Path) -> TextTable:
    """A users file as `plan` reads it, its numbers apart, which `plan` checks.

    Raises:
        InputError: one line naming the file and the place.
    """
    table = read_table(path, FORM)
    if USER not in table.columns:
        raise InputError(f"{path}: header: column 'user_id' is missing; add it, with a unique name per row")
    table.check_names(USER)
    table.check_unique(USER)
    return table


def with_clusters(table: TextTable, cluster_of: Mapping[str, str], folder: Path) -> Columns:
    """The rows of a users file with their clusters, for a file in another folder.

    Args:
        table: the users file; a user who is in no cluster keeps the cluster that the file says.
        cluster_of: user -> name of the cluster.
        folder: folder of the new file, from which paths of devices then start.
    """
    columns = dict(table.columns)
    columns["cluster"] = [
        cluster_of.get(user, before) for user, before in zip(table[USER], table["cluster"], strict=True)
    ]
    if "device" in columns:
        columns["device"] = [_moved(device, table.folder, folder) for device in columns["device"]]
    if table.decimal_comma:
        for name in columns.keys() & NUMBERS:
            columns[name] = [text.replace(",", ".") for text in columns[name]]
    return columns


def _moved(device: str, before: Path, after: Path) -> str:
    """The path of a profile from another folder; a profile's name as it is."""
    return relative(before / device, after) if device and (before / device).is_file() else device


def relative(path: Path, folder: Path) -> str:
    """A path as a file in a folder names it."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def check_together(named: list[str], users: list[str], first: str, second: str) -> str:
    """What should be known of users that only one of two inputs has; empty where both have all.

    Raises:
        InputError: where the inputs have no user in common.
    """
    both, known = set(named) & set(users), set(users)
    if not both:
        raise InputError(f"{first}: found {shown(named[0])} and none of {second}, accepted: the same user ids in both")
    missing = [name for name in named if name not in known]
    return f"{counted(len(missing), 'user')} of {first} not in {second}, such as {shown(missing[0])}" if missing else ""
