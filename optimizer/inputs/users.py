"""The users file: CSV, Parquet or a table in, checked arrays out, or one line that says what to mend and where."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.arrays import Floats, Ints
from ...common.errors import InputError, counted, nearest, shown
from ...common.table_reader import TableForm, TextTable, read_table
from ...fitting.library import load_profile
from ...fitting.schemas import LARGEST, SMALLEST, LatencyProfile
from ..model.qoe import Scenario, Users
from ..model.servers import NOWHERE, Fleet
from ..model.split import alpha_from_emphasis
from .notices import latency_notices, shadow_notices
from .records import NO_SERVER

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("user_id", "device", "step_latency_s", "alpha", "emphasis", "request_slot", "cell", "cluster", "servers")
FORM = TableForm(rows="users", known=COLUMNS, names=("user_id", "cell", "cluster"))
MOST_RATE = 1e6
"""Largest spectral efficiency of a link, bit/s/Hz."""
DEFAULT_EMPHASIS = 0.25


@dataclass(frozen=True)
class NamedUsers(Users):
    """Users with the names of people and cells, as a file has them.

    Attributes:
        user_id: name of every user, unique.
        cell_of: name of every user's cell; None where the input has no such column.
        cell_names: names of the cells by their numbers; one empty name where there is no column.
        devices: latency profile of every device that the input names.
        notices: sentences that the user should know about those profiles.
        decode_s: seconds in which every user's device decodes a picture, 0 where its profile does not say; None where
            none says. No plan reckons with them: they are the same however the steps are shared.
    """

    user_id: Sequence[str]
    cell_of: Sequence[str] | None
    cell_names: Sequence[str]
    devices: Mapping[str, LatencyProfile] = field(default_factory=dict)
    notices: Sequence[str] = ()
    decode_s: Floats | None = None


def named(users: Users) -> NamedUsers:
    """Users as they are if they have names, else as user-1, user-2 and so on; cells by their numbers."""
    if isinstance(users, NamedUsers):
        return users
    people = [f"user-{number + 1}" for number in range(len(users))]
    cells = [str(number) for number in range(users.cells)] if users.cells > 1 else [""]
    cell_of = [cells[number] for number in users.cell] if users.cells > 1 else None
    return NamedUsers(
        users.step_latency_s,
        users.alpha,
        users.request_slot,
        users.cell,
        people,
        cell_of,
        cells,
        cluster=users.cluster,
        rate=users.rate,
    )


def read_users(source: "str | Path | pd.DataFrame", scenario: Scenario) -> NamedUsers:
    """Read and check users, and turn devices into step latencies and emphasis into alpha.

    Args:
        source: file in CSV, or in Parquet by its suffix; or a table of pandas with the same columns.
        scenario: system at whose number of GPUs and reference batch emphasis becomes alpha, and whose K bounds the
            request slots. To compare numbers of GPUs, read the users once: their alpha then stays.

    Raises:
        InputError: one line naming file, row, column, what was found and what is accepted.
    """
    table = read_table(source, FORM)
    _check_columns(table)
    _check_step_latency_given(table)
    devices = _device_profiles(table)
    latency = _step_latencies(table, devices)
    fleet = scenario if isinstance(scenario, Fleet) else None
    names = list(dict.fromkeys(table["cell"]))
    number = {name: i for i, name in enumerate(names)}
    return NamedUsers(
        step_latency_s=latency,
        alpha=_alphas(table, latency, scenario),
        request_slot=_request_slots(table, scenario.slots),
        cell=np.array([number[name] for name in table["cell"]], np.int64),
        cluster=_clusters(table, fleet) if fleet else None,
        rate=_rates(table, fleet) if fleet else None,
        user_id=table["user_id"],
        cell_of=table.columns.get("cell"),
        cell_names=names,
        devices=devices,
        notices=[
            *shadow_notices("profiles", ((device, table.folder) for device in devices)),
            *latency_notices(latency, table["user_id"]),
            *(_place_notices(table, fleet) if fleet else _left_out(table)),
        ],
        decode_s=_decode_times(table, devices),
    )


def _check_columns(table: TextTable) -> None:
    """Refuse a table that lacks a needed column or any row, or whose names are missing or not unique."""
    if "user_id" not in table.columns:
        raise InputError(f"{table.source}: header: column 'user_id' is missing; add it, with a unique name per row")
    if not {"device", "step_latency_s"} & table.columns.keys():
        raise InputError(
            f"{table.source}: header: column 'device' or 'step_latency_s' is missing; add one of them, "
            "with a profile's name or the seconds of one step"
        )
    if not len(table):
        raise InputError(f"{table.source}: no rows below the header; add one row per user")
    table.check_names("user_id")
    table.check_unique("user_id")


def _check_step_latency_given(table: TextTable) -> None:
    """Refuse a row that does not have exactly one of a device and a step latency."""
    by_device, by_number = table.filled("device"), table.filled("step_latency_s")
    table.refuse_first(by_device & by_number, "step_latency_s", "a blank cell where 'device' is filled")
    column = "device" if "device" in table.columns else "step_latency_s"
    table.refuse_first(~by_device & ~by_number, column, "a device or a step latency; fill one of the two")


def _step_latencies(table: TextTable, devices: Mapping[str, LatencyProfile]) -> Floats:
    """L_i(1) of every row: its own number, or that of the device which it names."""
    numbers = table.numbers("step_latency_s", "a number of seconds above 0", SMALLEST, LARGEST)
    latency_of = {name: float(profile.fit.model().step_latency(1)) for name, profile in devices.items()}
    return np.where(table.filled("device"), [latency_of.get(name, math.nan) for name in table["device"]], numbers)


def _decode_times(table: TextTable, devices: Mapping[str, LatencyProfile]) -> Floats | None:
    """Seconds in which the device of every row decodes a picture, as its profile says; None where none says."""
    known = {name: profile.decode_s for name, profile in devices.items() if profile.decode_s}
    return np.array([known.get(name, 0.0) for name in table["device"]]) if known else None


def _device_profiles(table: TextTable) -> dict[str, LatencyProfile]:
    """The profile of every device that the rows name; each is read once."""
    profiles: dict[str, LatencyProfile] = {}
    for row, name in enumerate(table["device"]):
        if name and name not in profiles:
            try:
                profiles[name] = load_profile(name, table.folder)
            except InputError as error:
                raise InputError(
                    f"{table.place(row)}, column 'device': {error}; or fill step_latency_s with seconds of one step"
                ) from error
    return profiles


def _alphas(table: TextTable, latency: Floats, scenario: Scenario) -> Floats:
    """The alpha of every row: its own, or the one that its emphasis (0.25 where it is blank) sets; seconds."""
    by_alpha = table.filled("alpha")
    both = by_alpha & table.filled("emphasis")
    table.refuse_first(both, "emphasis", "a blank cell where 'alpha' is filled; keep one of the two")
    alpha = table.numbers("alpha", "a number of seconds, 0 or more", 0, LARGEST)
    emphasis = table.numbers("emphasis", "a number from 0 to 1", 0, 1)
    emphasis = np.where(np.isnan(emphasis), DEFAULT_EMPHASIS, emphasis)
    alpha = np.where(by_alpha, alpha, alpha_from_emphasis(scenario, latency, emphasis))
    flat = f"an alpha instead: at this emphasis it would be above {LARGEST:g} (a flat PAI curve, or a huge latency)"
    table.refuse_first(~(alpha <= LARGEST), "emphasis" if "emphasis" in table.columns else "alpha", flat)
    return alpha


def _request_slots(table: TextTable, slots: int) -> Ints:
    """The request slot k_i of every row, K where it is blank."""
    accepted = f"a whole number from 1 to {slots}, the scenario's slots"
    slot = table.numbers("request_slot", accepted, 1, slots, whole=True)
    return np.where(np.isnan(slot), slots, slot).astype(np.int64)


def _clusters(table: TextTable, fleet: Fleet) -> Ints:
    """The number of every row's cluster, `NOWHERE` where it has none or where no model knows it."""
    number = {name: i for i, name in enumerate(fleet.clusters)}
    return np.array([number.get(name, NOWHERE) for name in table["cluster"]], np.int64)


def _rates(table: TextTable, fleet: Fleet) -> Floats:
    """The spectral efficiency of every row's link to every server, shape (rows, servers): NaN for the server's own.

    A cell lists servers, each with a spectral efficiency or without: "north:7.5 south"; blank for all of them.
    """
    number = {server.name: m for m, server in enumerate(fleet.servers)}
    rate = np.full((len(table), len(number)), math.nan)
    for row, text in enumerate(table["servers"]):
        if text:
            rate[row] = 0.0
        for link in () if text == NO_SERVER else text.split():
            name, colon, efficiency = link.partition(":")
            if name not in number:
                raise table.refusal(row, "servers", f"names of servers between spaces; {nearest(name, number)}")
            rate[row, number[name]] = _efficiency(table, row, efficiency) if colon else math.nan
    return rate


def _efficiency(table: TextTable, row: int, text: str) -> float:
    """The spectral efficiency that stands behind a server's name; 0 where nothing gets through."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value == 0 or SMALLEST <= value <= MOST_RATE):
        words = f"a spectral efficiency from 0 to {MOST_RATE:g} bit/s/Hz behind the colon, as in north:7.5"
        raise table.refusal(row, "servers", words)
    return value


def _place_notices(table: TextTable, fleet: Fleet) -> Iterator[str]:
    """Says where a cluster is none of any model's, and which users reach no server."""
    strange = [name for name in dict.fromkeys(table["cluster"]) if name and name not in fleet.clusters]
    if strange:
        others = f" and {counted(len(strange) - 1, 'more cluster')}" if len(strange) > 1 else ""
        yield f"no model was trained for the cluster {shown(strange[0])}{others}"
    alone = int((_rates(table, fleet) == 0).all(axis=1).sum())
    if alone:
        yield f"{counted(alone, 'user')} without a server in reach: all local"


def _left_out(table: TextTable) -> Iterator[str]:
    """Says that one server leaves the columns of several out."""
    for column in ("cluster", "servers"):
        if table.filled(column).any():
            yield f"the column {column} is left out: the scenario has one server and one model"
