"""The users file: CSV, Parquet or a table in, checked arrays out, or one line that says what to mend and where."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import InputError, nearest, reason_of, shown
from ...common.files import read_text
from ...common.tables import PARQUET
from ...fitting.library import load_profile
from ...fitting.schemas import LARGEST, SMALLEST, LatencyProfile
from ..model.qoe import Scenario, Users
from ..model.split import alpha_from_emphasis
from .notices import shadow_notices

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("user_id", "device", "step_latency_s", "alpha", "emphasis", "request_slot", "cell")
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
    """

    user_id: Sequence[str]
    cell_of: Sequence[str] | None
    cell_names: Sequence[str]
    devices: Mapping[str, LatencyProfile] = field(default_factory=dict)
    notices: Sequence[str] = ()


def named(users: Users) -> NamedUsers:
    """Users as they are if they have names, else as user-1, user-2 and so on; cells by their numbers."""
    if isinstance(users, NamedUsers):
        return users
    people = [f"user-{number + 1}" for number in range(len(users))]
    cells = [str(number) for number in range(users.cells)] if users.cells > 1 else [""]
    cell_of = [cells[number] for number in users.cell] if users.cells > 1 else None
    return NamedUsers(users.step_latency_s, users.alpha, users.request_slot, users.cell, people, cell_of, cells)


class Rows:
    """The rows of a users table as columns of text; a blank text means that the value is not given.

    Attributes:
        source: name of the table in messages, such as its path.
        folder: folder that relative paths in the table start from.
        columns: stripped texts of every column, one per row.
        lines: line of every row in the file; None where the table has no lines.
    """

    def __init__(
        self, source: object, folder: Path, columns: dict[str, Sequence[str]], lines: Sequence[int] | None = None
    ) -> None:
        self.source, self.folder, self.columns, self.lines = source, folder, columns, lines

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, column: str) -> Sequence[str]:
        return self.columns.get(column) or [""] * len(self)

    def filled(self, column: str) -> Bools:
        """Whether each row fills this column."""
        return np.array([text != "" for text in self[column]], bool)

    def place(self, row: int) -> str:
        """The place of row number `row`, counted from 0, for a message."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"{self.source}: row {row + 1}{line}"

    def refuse(self, row: int, column: str, accepted: str) -> InputError:
        """The error for one value of the table."""
        value = shown(self[column][row]) if self[column][row] else "nothing"
        return InputError(f"{self.place(row)}, column '{column}': found {value}, accepted: {accepted}")


def read_users(source: "str | Path | pd.DataFrame", scenario: Scenario) -> NamedUsers:
    """Read and check users, and turn devices into step latencies and emphasis into alpha.

    Args:
        source: file in CSV, or in Parquet by its suffix; or a table with the same columns.
        scenario: system at whose number of GPUs and reference batch emphasis becomes alpha, and whose K bounds the
            request slots. To compare numbers of GPUs, read the users once: their alpha then stays.

    Raises:
        InputError: one line naming file, row, column, what was found and what is accepted.
    """
    rows = _read_file(Path(source)) if isinstance(source, str | Path) else _read_frame(source)
    _check_columns(rows)
    if not len(rows):
        raise InputError(f"{rows.source}: no rows below the header; add one row per user")
    _check_user_ids(rows)
    _check_step_latency_given(rows)
    devices = _device_profiles(rows)
    latency = _step_latencies(rows, devices)
    names = list(dict.fromkeys(rows["cell"]))
    number = {name: i for i, name in enumerate(names)}
    return NamedUsers(
        step_latency_s=latency,
        alpha=_alphas(rows, latency, scenario),
        request_slot=_request_slots(rows, scenario.slots),
        cell=np.array([number[name] for name in rows["cell"]], np.int64),
        user_id=rows["user_id"],
        cell_of=rows.columns.get("cell"),
        cell_names=names,
        devices=devices,
        notices=list(shadow_notices("profiles", ((device, rows.folder) for device in devices))),
    )


def _read_file(path: Path) -> Rows:
    return _read_parquet(path) if path.suffix.casefold() in PARQUET else _read_csv(path)


def _read_frame(frame: "pd.DataFrame") -> Rows:
    """A table in memory; its index does not matter."""
    header = [str(name) for name in frame.columns]
    _check_header("users", header)
    texts = [_as_text(frame[name].astype(object).where(frame[name].notna(), None).tolist()) for name in frame.columns]
    return Rows("users", Path(), dict(zip(header, texts, strict=True)))


def _read_csv(path: Path) -> Rows:
    records, lines = _csv_records(path)
    if not records:
        known = ", ".join(COLUMNS)
        raise InputError(f"{path}: the file is empty; accepted: a header ({known}) and one row per user")
    header = [name.strip() for name in records[0]]
    _check_header(path, header)
    for record, line in zip(records[1:], lines[1:], strict=True):
        if len(record) != len(header):
            raise InputError(
                f"{path}: line {line}: found {len(record)} fields, accepted: {len(header)} as in the header; "
                "quote a field that holds a comma"
            )
    columns: dict[str, Sequence[str]] = {name: [] for name in header}
    for name, column in zip(header, zip(*records[1:], strict=True), strict=False):  # none where there are no rows
        columns[name] = [text.strip() for text in column]
    return Rows(path, path.parent, columns, lines[1:])


def _csv_records(path: Path) -> tuple[list[list[str]], list[int]]:
    """The records that are not blank, and the line that each ends on."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    records, lines = [], []
    try:
        for record in reader:
            if len(record) > 1 or "".join(record).strip():
                records.append(record)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not valid CSV ({error}); mend the quotes") from error
    return records, lines


def _read_parquet(path: Path) -> Rows:
    import pyarrow as pa  # costs 0.2 s, and CSV files do not need it
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: cannot read: not an existing file; name a CSV or Parquet file")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not valid Parquet ({reason_of(error, 80)}); write the file again") from error
    _check_header(path, table.column_names)
    columns: dict[str, Sequence[str]] = {}
    for name in table.column_names:
        columns[name] = _as_text(table.column(name).to_pylist())
    return Rows(path, path.parent, columns)


def _as_text(values: list[object]) -> list[str]:
    return ["" if value is None else str(value).strip() for value in values]


def _check_header(source: object, header: Sequence[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            one_column = any(separator in name for separator in ";\t|")
            hint = "separate columns with commas" if one_column else nearest(name, COLUMNS)
            raise InputError(f"{source}: header: found unknown column {shown(name)}; {hint}")
        if header.count(name) > 1:
            raise InputError(f"{source}: header: column {shown(name)} stands twice; keep one of them")


def _check_columns(rows: Rows) -> None:
    if "user_id" not in rows.columns:
        raise InputError(f"{rows.source}: header: column 'user_id' is missing; add it, with a unique name per row")
    if not {"device", "step_latency_s"} & rows.columns.keys():
        raise InputError(
            f"{rows.source}: header: column 'device' or 'step_latency_s' is missing; add one of them, "
            "with a profile's name or the seconds of one step"
        )


def _check_user_ids(rows: Rows) -> None:
    ids = rows["user_id"]
    first_seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if not name:
            raise rows.refuse(row, "user_id", "a name")
        if first_seen.setdefault(name, row) != row:
            other = f"row {first_seen[name] + 1} has it already"
            raise rows.refuse(row, "user_id", f"a name that no other row has ({other})")


def _check_step_latency_given(rows: Rows) -> None:
    """Refuse a row that does not have exactly one of a device and a step latency."""
    by_device, by_number = rows.filled("device"), rows.filled("step_latency_s")
    _refuse_first(rows, by_device & by_number, "step_latency_s", "a blank cell where 'device' is filled")
    column = "device" if "device" in rows.columns else "step_latency_s"
    _refuse_first(rows, ~by_device & ~by_number, column, "a device or a step latency; fill one of the two")


def _step_latencies(rows: Rows, devices: Mapping[str, LatencyProfile]) -> Floats:
    """L_i(1) of every row: its own number, or that of the device which it names."""
    numbers = _numbers(rows, "step_latency_s", "a number of seconds above 0", SMALLEST, LARGEST)
    latency_of = {name: float(profile.fit.model().step_latency(1)) for name, profile in devices.items()}
    return np.where(rows.filled("device"), [latency_of.get(name, math.nan) for name in rows["device"]], numbers)


def _device_profiles(rows: Rows) -> dict[str, LatencyProfile]:
    """The profile of every device that the rows name; each is read once."""
    profiles: dict[str, LatencyProfile] = {}
    for row, name in enumerate(rows["device"]):
        if name and name not in profiles:
            try:
                profiles[name] = load_profile(name, rows.folder)
            except InputError as error:
                raise InputError(f"{rows.place(row)}, column 'device': {error}") from error
    return profiles


def _alphas(rows: Rows, latency: Floats, scenario: Scenario) -> Floats:
    """The alpha of every row: its own, or the one that its emphasis (0.25 where it is blank) sets; seconds."""
    by_alpha = rows.filled("alpha")
    both = by_alpha & rows.filled("emphasis")
    _refuse_first(rows, both, "emphasis", "a blank cell where 'alpha' is filled; keep one of the two")
    alpha = _numbers(rows, "alpha", "a number of seconds, 0 or more", 0, LARGEST)
    emphasis = _numbers(rows, "emphasis", "a number from 0 to 1", 0, 1)
    emphasis = np.where(np.isnan(emphasis), DEFAULT_EMPHASIS, emphasis)
    alpha = np.where(by_alpha, alpha, alpha_from_emphasis(scenario, latency, emphasis))
    flat = f"an alpha instead: at this emphasis it would be above {LARGEST:g} (a flat PAI curve, or a huge latency)"
    _refuse_first(rows, ~(alpha <= LARGEST), "emphasis" if "emphasis" in rows.columns else "alpha", flat)
    return alpha


def _request_slots(rows: Rows, slots: int) -> Ints:
    """The request slot k_i of every row, K where it is blank."""
    accepted = f"a whole number from 1 to {slots}, the scenario's slots"
    slot = _numbers(rows, "request_slot", accepted, 1, slots)
    _refuse_first(rows, np.floor(slot) < slot, "request_slot", accepted)
    return np.where(np.isnan(slot), slots, slot).astype(np.int64)


def _numbers(rows: Rows, column: str, accepted: str, least: float, most: float) -> Floats:
    """A column as numbers, with NaN where it is blank."""
    texts = rows[column]
    values = np.array([_number(text) for text in texts], float)
    bad = ~((values >= least) & (values <= most)) & rows.filled(column)
    _refuse_first(rows, bad, column, accepted)
    return values


def _number(text: str) -> float:
    """The number in a text, NaN where there is none ("1_000" is a number in Python alone)."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _refuse_first(rows: Rows, bad: Bools, column: str, accepted: str) -> None:
    if bad.any():
        raise rows.refuse(int(np.argmax(bad)), column, accepted)
