"""The users file: CSV or Parquet in, checked arrays out, or one line that says what to mend and where."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ...common.errors import InputError, nearest, shown
from ...common.files import read_text
from ...fitting.library import load_profile
from ...fitting.schemas import LARGEST, SMALLEST
from ..model.qoe import Scenario, Users
from ..model.split import alpha_from_emphasis

COLUMNS = ("user_id", "device", "step_latency_s", "alpha", "emphasis", "request_slot", "cell")
DEFAULT_EMPHASIS = 0.25


@dataclass(frozen=True)
class UserTable:
    """A checked users file.

    Attributes:
        user_id: one name per row, unique.
        cell: each row's cell, or None where the file has no such column.
        cell_names: the cells in order of first appearance; one without a name where there is no column.
        users: the arrays to plan with.
    """

    user_id: Sequence[str]
    cell: Sequence[str] | None
    cell_names: Sequence[str]
    users: Users


class Rows:
    """The rows of a file as columns of text; blank means not given.

    Attributes:
        path: the file.
        columns: name -> one stripped text per row.
        lines: the line in the file of every row; None where it has no lines.
    """

    def __init__(self, path: Path, columns: dict[str, Sequence[str]], lines: Sequence[int] | None) -> None:
        self.path, self.columns, self.lines = path, columns, lines

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, column: str) -> Sequence[str]:
        return self.columns.get(column) or [""] * len(self)

    def given(self, column: str) -> Bools:
        """Which rows fill this column."""
        return np.array([text != "" for text in self[column]], bool)

    def place(self, row: int) -> str:
        """Where row number `row` (from 0) stands."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"{self.path}: row {row + 1}{line}"

    def refuse(self, row: int, column: str, accepted: str) -> InputError:
        """The error for one cell of the table."""
        found = shown(self[column][row]) if self[column][row] else "nothing"
        return InputError(f"{self.place(row)}, column '{column}': found {found}, accepted: {accepted}")


def read_users(path: Path, scenario: Scenario) -> UserTable:
    """Read and check a users file, and resolve devices and emphasis.

    Args:
        path: CSV, or Parquet by its suffix.
        scenario: at whose own G and reference batch emphasis becomes alpha, and whose K bounds the slots.

    Raises:
        InputError: one line naming file, row, column, what was found and what is accepted.
    """
    rows = _read_parquet(path) if path.suffix.casefold() in (".parquet", ".pq") else _read_csv(path)
    _check_columns(rows)
    if not len(rows):
        raise InputError(f"{path}: no rows below the header; add one row per user")
    _check_user_ids(rows)
    latency = _step_latencies(rows)
    names = list(dict.fromkeys(rows["cell"]))
    number = {name: i for i, name in enumerate(names)}
    users = Users(
        step_latency_s=latency,
        alpha=_alphas(rows, latency, scenario),
        request_slot=_request_slots(rows, scenario.slots),
        cell=np.array([number[name] for name in rows["cell"]], np.int64),
    )
    return UserTable(rows["user_id"], rows.columns.get("cell"), names, users)


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
    return Rows(path, columns, lines[1:])


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
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not valid Parquet ({reason[:80]}); write the file again") from error
    _check_header(path, table.column_names)
    columns: dict[str, Sequence[str]] = {}
    for name in table.column_names:
        columns[name] = _as_text(table.column(name).to_pylist())
    return Rows(path, columns, None)


def _as_text(values: list[object]) -> list[str]:
    return ["" if value is None else str(value).strip() for value in values]


def _check_header(path: Path, header: Sequence[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            one_column = any(separator in name for separator in ";\t|")
            hint = "separate columns with commas" if one_column else nearest(name, COLUMNS)
            raise InputError(f"{path}: header: found unknown column {shown(name)}; {hint}")
        if header.count(name) > 1:
            raise InputError(f"{path}: header: column {shown(name)} stands twice; keep one of them")


def _check_columns(rows: Rows) -> None:
    if "user_id" not in rows.columns:
        raise InputError(f"{rows.path}: header: column 'user_id' is missing; add it, with a unique name per row")
    if not {"device", "step_latency_s"} & rows.columns.keys():
        raise InputError(
            f"{rows.path}: header: column 'device' or 'step_latency_s' is missing; add one of them, "
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


def _step_latencies(rows: Rows) -> Floats:
    """L_i(1) of every row: given, or of the named device."""
    by_device, by_number = rows.given("device"), rows.given("step_latency_s")
    _refuse_first(rows, by_device & by_number, "step_latency_s", "a blank cell where 'device' is filled")
    column = "device" if "device" in rows.columns else "step_latency_s"
    _refuse_first(rows, ~by_device & ~by_number, column, "a device or a step latency; fill one of the two")
    latency = _numbers(rows, "step_latency_s", "a number of seconds above 0", SMALLEST, LARGEST)
    devices = _device_latencies(rows)
    return np.where(by_device, [devices.get(name, math.nan) for name in rows["device"]], latency)


def _device_latencies(rows: Rows) -> dict[str, float]:
    """Device name -> L(1) of its profile; each profile is read once."""
    latencies = {}
    for row, name in enumerate(rows["device"]):
        if name and name not in latencies:
            try:
                profile = load_profile(name, rows.path.parent)
            except InputError as error:
                raise InputError(f"{rows.place(row)}, column 'device': {error}") from error
            latencies[name] = float(profile.fit.model().step_latency(1))
    return latencies


def _alphas(rows: Rows, latency: Floats, scenario: Scenario) -> Floats:
    """alpha of every row: given, or set through emphasis (default 0.25)."""
    given = rows.given("alpha")
    both = given & rows.given("emphasis")
    _refuse_first(rows, both, "emphasis", "a blank cell where 'alpha' is filled; keep one of the two")
    alpha = _numbers(rows, "alpha", "a number of seconds, 0 or more", 0, LARGEST)
    emphasis = _numbers(rows, "emphasis", "a number from 0 to 1", 0, 1)
    emphasis = np.where(np.isnan(emphasis), DEFAULT_EMPHASIS, emphasis)
    alpha = np.where(given, alpha, alpha_from_emphasis(scenario, latency, emphasis))
    flat = f"an alpha instead: at this emphasis it would be above {LARGEST:g} (a flat PAI curve, or a huge latency)"
    _refuse_first(rows, ~(alpha <= LARGEST), "emphasis" if "emphasis" in rows.columns else "alpha", flat)
    return alpha


def _request_slots(rows: Rows, slots: int) -> Ints:
    """k_i of every row, K where it is not given."""
    accepted = f"a whole number from 1 to {slots}, the scenario's slots"
    slot = _numbers(rows, "request_slot", accepted, 1, slots)
    _refuse_first(rows, np.floor(slot) < slot, "request_slot", accepted)
    return np.where(np.isnan(slot), slots, slot).astype(np.int64)


def _numbers(rows: Rows, column: str, accepted: str, least: float, most: float) -> Floats:
    """A column as numbers, NaN where it is blank."""
    texts = rows[column]
    values = np.array([_number(text) for text in texts], float)
    bad = ~((values >= least) & (values <= most)) & rows.given(column)
    _refuse_first(rows, bad, column, accepted)
    return values


def _number(text: str) -> float:
    """The number that a text says, NaN where it says none ("1_000" is Python, not a number)."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _refuse_first(rows: Rows, bad: Bools, column: str, accepted: str) -> None:
    if bad.any():
        raise rows.refuse(int(np.argmax(bad)), column, accepted)
