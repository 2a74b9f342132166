"""Profiles of further devices and models, and what other people measured on the cards of the first table.

Both come from `data/published/more_step_latency.csv`. Its column `use` says for each row whether a profile is made of
it, or whether it is held out: kept beside the profile of its card, to whose fit it did not contribute.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

from .. import data
from ..common.files import read_text
from .doubts import profile_doubts
from .latency import fit_latency
from .names import network_of, slug
from .schemas import (
    Dtype,
    HeldOut,
    LatencyFitRecord,
    LatencyProfile,
    LatencySample,
    Provenance,
)
from .sources import FURTHER

MEANT = {
    "A100": ("A100-SXM4-40GB", "A100-SXM4-80GB", "A100 80GB PCIe"),
    "A100-80GB": ("A100-SXM4-80GB", "A100 80GB PCIe"),
    "A100-SXM4-80GB": ("A100-SXM4-80GB", "A100-80GB"),
    "H100": ("H100 PCIe", "H100 NVL"),
    "H100-PCIe": ("H100 PCIe",),
    "Tesla V100": ("Tesla V100-SXM2-16GB",),
}
"""Name of a card in some held-out rows -> the cards of profiles that it may be; other names are those cards' own."""
QUANTISED = {"w8a16": "int16"}
"""Number format of quantised rows -> number format of the activations."""


@dataclass(frozen=True)
class FurtherRow:
    """One row: seconds of one step of a batch, with guidance, on square pictures."""

    device: str
    model: str
    resolution: int
    precision: str
    backend: str
    batch: int
    step_s: float
    source: str
    use: str


def read_further(path: Path) -> list[FurtherRow]:
    """The rows of `more_step_latency.csv`."""
    return [
        FurtherRow(
            device=row["device"],
            model=row["model"],
            resolution=int(row["resolution"]),
            precision=row["precision"],
            backend=row["backend"],
            batch=int(row["batch"]),
            step_s=float(row["step_latency_s"]),
            source=row["source"],
            use=row["use"],
        )
        for row in csv.DictReader(read_text(path).splitlines())
    ]


def shipped_rows() -> list[FurtherRow]:
    """The rows of the shipped table."""
    return read_further(data.sample("published/more_step_latency.csv"))


def further_profiles(rows: Sequence[FurtherRow]) -> list[LatencyProfile]:
    """The profiles of the rows that are meant for one, one for each device and model."""
    meant = [row for row in rows if row.use.startswith("profile")]
    groups = groupby(meant, key=lambda row: (row.device, row.model, row.source))
    return [checked(_profile(list(group)), rows) for _, group in groups]


def checked(profile: LatencyProfile, rows: Sequence[FurtherRow]) -> LatencyProfile:
    """The profile with what others measured of the same network on its card, or on a card that may be its own."""
    checks = [
        HeldOut(
            device=row.device,
            model=row.model,
            backend=row.backend,
            batch=row.batch,
            step_s=row.step_s,
            source=f"{row.source}: {FURTHER[row.source].title}",
        )
        for row in rows
        if row.use == "held-out check" and profile.device in MEANT.get(row.device, (row.device,))
        if network_of(row.model) == network_of(profile.model)
    ]
    return profile.model_copy(update={"held_out": checks})


def _profile(rows: Sequence[FurtherRow]) -> LatencyProfile:
    first, source = rows[0], FURTHER[rows[0].source]
    quantised = first.precision in QUANTISED
    profile = LatencyProfile(
        name=_name(first),
        device=first.device,
        model=first.model,
        resolution=first.resolution,
        dtype=cast(Dtype, QUANTISED.get(first.precision, first.precision)),
        quantization=first.precision if quantised else None,
        guidance=True,
        samples=[_sample(row) for row in rows],
        fit=_fit(rows),
        max_batch=None,
        telemetry=None,
        provenance=Provenance(
            kind="published",
            source=f"{first.source}: {source.title}",
            date=source.date,
            versions={"backend": first.backend},
            notes=list(source.care),
        ),
    )
    profile.provenance.notes.extend(profile_doubts(profile))
    return profile


def _name(row: FurtherRow) -> str:
    """The device's name; with the model's where that is no UNet of Stable Diffusion 1 or 2, which others have too."""
    plain = network_of(row.model) in ("SD 1.x", "SD 2.x")
    return slug(row.device if plain else f"{row.device} {row.model}")


def _fit(rows: Sequence[FurtherRow]) -> LatencyFitRecord:
    """The fit to the rows; of a single one, the line by which every further image takes as long as the first."""
    if len(rows) > 1:
        return LatencyFitRecord.of(fit_latency([row.batch for row in rows], [row.step_s for row in rows]))
    return LatencyFitRecord(
        slope_s=rows[0].step_s, intercept_s=0.0, floor_s=None, slope_ci_s=None, intercept_ci_s=None, floor_ci_s=None,
        r2=None, max_relative_residual=None, held_out_error=None,
    )  # fmt: skip


def _sample(row: FurtherRow) -> LatencySample:
    return LatencySample(batch=row.batch, median_s=row.step_s, n=1, ci_low_s=None, ci_high_s=None, durations_s=None)
