"""The table of measurements, one row per picture, and what is known of it: a Parquet file, or a CSV from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from .. import data
from ..common.errors import InputError, printable, shown
from ..common.files import Record, whole_file
from ..common.json_text import parse_json
from ..common.table_reader import TableForm, TextTable, read_table
from ..common.tables import PARQUET, Columns
from ..fitting.schemas import Provenance, Steps, Text, of_today
from .fingerprints import is_toy
from .options import LARGEST
from .settings import SweepSettings

MOST_STEPS = 100_000
"""Largest number of steps that the curve's file has room for."""
METADATA = b"edgesplit"
"""Key of the Parquet file's metadata that holds what is known of the table."""
TABLE = "measurements.parquet"
"""Name of the table in the folder of a sweep."""
NEEDED = ("prompt", "seed", "local_steps", "user", "clip", "lpips")
FORM = TableForm(rows="pictures", known=NEEDED, names=("prompt", "user"), strict=False, needed=NEEDED)
WORDS = {
    "prompt": "the prompt of the picture",
    "seed": "the seed of its initial noise",
    "local_steps": f"a whole number from 0 to {MOST_STEPS}",
    "user": "the name of the user whose model finished it",
    "clip": f"a number from {-LARGEST:.0f} to {LARGEST:.0f}",
    "lpips": f"a number from {-LARGEST:.0f} to {LARGEST:.0f}",
}
"""What each column holds, for messages."""
VERSIONS = ("edgesplit", "torch", "diffusers", "open_clip_torch", "lpips")


class TableFacts(Record):
    """What is known of a table of measurements beside its rows.

    Attributes:
        total_steps: N; None where nobody wrote it down.
        scheduler: name of the scheduler.
        models: references of the cluster-wide model and of the users' models.
        toy: whether the pictures are those of toy models.
        provenance: where the measurements come from.
    """

    total_steps: Annotated[Steps, Field(ge=1)] | None = None
    scheduler: Text = "unknown"
    models: list[Text] = Field(default_factory=lambda: ["unknown"])
    toy: bool = False
    provenance: Provenance


def facts_of(settings: SweepSettings) -> TableFacts:
    """What is known of the table of a sweep."""
    guidance = "no guidance" if settings.guidance_scale == 1 else f"guidance {settings.guidance_scale:g}"
    users = [
        f"{reference}: {{subject}} is {settings.words[name]!r}, judged as {settings.descriptions[name]!r}"
        for name, reference in settings.users.items()
    ]
    provenance = of_today(
        "measured",
        f"pai-sweep: {len(settings.templates)} prompts x {settings.seeds} seeds x {len(settings.users)} users",
        VERSIONS,
        [
            f"{guidance}, {settings.dtype}, CLIP {settings.clip}, LPIPS {settings.lpips}",
            f"{settings.cluster}: {{subject}} is {settings.class_word!r}",
            *users,
            *(f"prompt: {template}" for template in settings.templates),
        ],
    )
    return TableFacts(
        total_steps=settings.total_steps,
        scheduler=settings.scheduler,
        models=[settings.cluster, *settings.users.values()],
        toy=is_toy(data.located(settings.cluster)),
        provenance=provenance,
    )


def write_measurements(path: Path, columns: Columns, facts: TableFacts) -> None:
    """Write a table as Parquet, with its facts in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: list(values) for name, values in columns.items()})
    with whole_file(path, "wb") as handle:
        pq.write_table(table.replace_schema_metadata({METADATA: facts.model_dump_json()}), handle)


def read_measurements(path: Path) -> tuple[Columns, TableFacts]:
    """A table of measurements and what is known of it.

    Args:
        path: Parquet file or folder of its parts, CSV file, or folder of a sweep.

    Raises:
        InputError: one line naming file, row and column, for a file that is no such table.
    """
    own = path / TABLE
    path = own if own.is_file() else path
    table = read_table(path, FORM)
    _check_rows(table)
    steps = table.numbers("local_steps", WORDS["local_steps"], 0, MOST_STEPS, whole=True)
    columns: Columns = {
        "prompt": table["prompt"],
        "seed": _seeds(table),
        "local_steps": [int(n) for n in steps],
        "user": table["user"],
        **{name: table.numbers(name, WORDS[name], -LARGEST, LARGEST).tolist() for name in ("clip", "lpips")},
    }
    _check_unique(table, columns)
    _check_enough(path, columns)
    return columns, _facts(path, _metadata(path).get(METADATA))


def _check_rows(table: TextTable) -> None:
    """Refuse a table without rows, a value that is missing, and a user's name that no terminal shows."""
    if not len(table):
        raise InputError(f"{table.source}: no rows below the header; add one row per picture")
    for name, accepted in WORDS.items():
        table.refuse_first(~table.filled(name), name, accepted)
    table.check_names("user")


def _seeds(table: TextTable) -> Sequence[int | str]:
    """The seeds: whole numbers, or texts where one of them is none."""
    try:
        return [int(seed) for seed in table.numbers("seed", "", -LARGEST, LARGEST, whole=True)]
    except InputError:
        return table["seed"]


def _check_unique(table: TextTable, columns: Columns) -> None:
    """Refuse a row of the same picture as one before, whichever way its numbers are written."""
    texts = {name: [str(value) for value in columns[name]] for name in ("seed", "local_steps")}
    replace(table, columns=table.columns | texts).check_unique("prompt", "seed", "local_steps", "user")


def _check_enough(path: Path, columns: Columns) -> None:
    """Refuse a table with too few splits for a curve, or too few users for pairs of them."""
    splits, users = (list(dict.fromkeys(columns[name])) for name in ("local_steps", "user"))
    if len(splits) < 3:
        found = ", ".join(map(str, splits))
        raise InputError(f"{path}: column 'local_steps': found {found} alone, accepted: three different ones or more")
    if len(users) < 2:
        raise InputError(f"{path}: column 'user': found {shown(users[0])} alone, accepted: two users or more")


def _metadata(path: Path) -> Mapping[bytes, bytes]:
    """What a Parquet file, or a folder of its parts, says beside its rows; nothing for another file."""
    if path.suffix.casefold() not in PARQUET and not path.is_dir():
        return {}
    import pyarrow.parquet as pq

    return pq.ParquetDataset(path).schema.metadata or {}


def _facts(path: Path, text: bytes | None) -> TableFacts:
    """The facts in a file's metadata; of a table without them only its name and the day are known."""
    if text is None:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return TableFacts(
            provenance=Provenance(kind="measured", source=printable(path.name) or "pai-sweep fit", date=today)
        )
    try:
        return TableFacts.model_validate(parse_json(text))
    except ValueError as error:
        raise InputError(
            f"{path}: found damaged metadata, accepted: what pai-sweep writes; name another table, or the rows as a CSV"
        ) from error
