"""The table of measurements, one row per picture, and what is known of it: a Parquet file, or a CSV from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import data
from ..common.errors import InputError, reason_of
from ..common.files import whole_file
from ..common.tables import Columns
from ..fitting.schemas import Provenance
from .fingerprints import is_toy
from .options import LARGEST

if TYPE_CHECKING:
    from .settings import SweepSettings

MOST_STEPS = 100_000
"""Largest number of steps that the curve's file has room for."""
METADATA = b"edgesplit"
"""Key of the Parquet file's metadata that holds what is known of the table."""
NEEDED = ("prompt", "seed", "local_steps", "user", "clip", "lpips")
VERSIONS = ("edgesplit", "torch", "diffusers", "open_clip_torch", "lpips")


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """What is known of a table of measurements beside its rows.

    Attributes:
        total_steps: N; None where nobody wrote it down.
        scheduler: name of the scheduler.
        models: references of the cluster-wide model and of the users' models.
        toy: whether the pictures are those of toy models.
        provenance: where the measurements come from.
    """

    total_steps: int | None = None
    scheduler: str = "unknown"
    models: Sequence[str] = ("unknown",)
    toy: bool = False
    provenance: Provenance

    def as_json(self) -> str:
        """The facts as the table's metadata keep them."""
        return json.dumps(
            {
                "total_steps": self.total_steps,
                "scheduler": self.scheduler,
                "models": self.models,
                "toy": self.toy,
                "provenance": self.provenance.model_dump(),
            }
        )


def facts_of(settings: "SweepSettings") -> TableFacts:
    """What is known of the table of a sweep."""
    guidance = "no guidance" if settings.guidance_scale == 1 else f"guidance {settings.guidance_scale:g}"
    users = [
        f"{reference}: {{subject}} is {settings.words[name]!r}, judged as {settings.descriptions[name]!r}"
        for name, reference in settings.users.items()
    ]
    provenance = Provenance(
        kind="measured",
        source=f"pai-sweep: {len(settings.templates)} prompts x {settings.seeds} seeds x {len(settings.users)} users",
        date=datetime.now(UTC).date().isoformat(),
        versions={name: version(name) for name in VERSIONS},
        notes=[
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
        pq.write_table(table.replace_schema_metadata({METADATA: facts.as_json()}), handle)


def read_measurements(path: Path) -> tuple[dict[str, list[Any]], TableFacts]:
    """A table of measurements and what is known of it.

    Raises:
        InputError: for a file that is no such table.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.casefold() == ".csv":
            frame = pd.read_csv(path)
            metadata: Mapping[bytes, bytes] = {}
        else:
            table = pq.read_table(path)
            frame, metadata = table.to_pandas(), table.schema.metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot read ({reason_of(error)}); name a measurements.parquet, or a CSV") from error
    _check_columns(path, frame)
    return {name: frame[name].tolist() for name in NEEDED}, _facts(path, metadata.get(METADATA))


def _facts(path: Path, text: bytes | None) -> TableFacts:
    """The facts in a file's metadata; of a table without them only its name and the day are known."""
    if text is None:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return TableFacts(provenance=Provenance(kind="measured", source=path.name, date=today))
    try:
        stored = json.loads(text)
        return TableFacts(**stored | {"provenance": Provenance.model_validate(stored["provenance"])})
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: found damaged metadata, accepted: what pai-sweep writes; name another table, or the rows as a CSV"
        ) from error


def _check_columns(path: Path, frame: Any) -> None:
    missing = [name for name in NEEDED if name not in frame]
    if missing:
        raise InputError(f"{path}: found no column {missing[0]!r}, accepted: {', '.join(NEEDED)}")
    for name in ("local_steps", "clip", "lpips"):
        column = frame[name]
        if column.dtype.kind not in "iuf" or not (column.abs() <= LARGEST).all():
            raise InputError(
                f"{path}: column {name!r}: found what is no number or is beyond {LARGEST:.0f}, accepted: numbers"
            )
    steps = frame["local_steps"]
    if steps.nunique() < 3 or not steps.between(0, MOST_STEPS).all() or (steps % 1 != 0).any():
        raise InputError(
            f"{path}: column 'local_steps': accepted: three different whole numbers from 0 to {MOST_STEPS}, or more"
        )
    if frame["user"].nunique() < 2:
        raise InputError(f"{path}: column 'user': found one user, accepted: two or more")
