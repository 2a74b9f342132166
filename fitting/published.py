"""Make the shipped latency profiles from published step latencies: `python -m edgesplit.fitting.published DIR`.

There is one profile per card of `CARDS`, fitted to the rows of `data/published/step_latency.csv` from the cleanest
source that names exactly this card (`PREFERENCE`), an estimate for the H100 NVL, of which no measurement is public, and
what `further` makes of `data/published/more_step_latency.csv`. `data/published/README.md` describes the sources.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from .. import data
from ..common.files import read_text, write_record
from .further import checked, further_profiles, shipped_rows
from .latency import fit_latency
from .names import slug
from .schemas import LatencyFitRecord, LatencyProfile, LatencySample, Provenance
from .sources import DECODE, PREFERENCE

CARDS = (
    "GTX 1060 6GB", "GTX 1070", "GTX 1070 Ti", "GTX 1080", "GTX 1080 Ti",
    "RTX 2060", "RTX 2060 SUPER", "RTX 2070", "RTX 2070 SUPER", "RTX 2080", "RTX 2080 SUPER", "RTX 2080 Ti",
    "RTX 3050", "RTX 3060", "RTX 3060 Ti", "RTX 3070", "RTX 3070 Ti", "RTX 3080", "RTX 3080 Ti", "RTX 3090",
    "RTX 3090 Ti", "RTX 4060", "RTX 4060 Ti", "RTX 4070", "RTX 4070 Ti", "RTX 4080", "RTX 4090",
    "Tesla T4", "L4", "A10", "Tesla V100-SXM2-16GB",
    "A100-SXM4-40GB", "A100-SXM4-80GB", "A100 80GB PCIe", "H100 PCIe", "H200",
)  # fmt: skip
CALLED_ELSEWHERE = {"T4": "Tesla T4"}
"""Name of a card in some rows -> its name in `CARDS`. The rows of S2 for "A100" and "V100" are not used, as several
different cards bear those names."""

CLEANER_SIBLING = {
    "A100-SXM4-80GB": "A100-SXM4-40GB",
    "RTX 3080": "RTX 3090", "RTX 3080 Ti": "RTX 3090", "RTX 3090 Ti": "RTX 3090",
    "RTX 2070 SUPER": "Tesla T4", "RTX 2080": "Tesla T4", "RTX 2080 SUPER": "Tesla T4",
}  # fmt: skip
"""Card that only S1 covers -> card with the same chip (GA100, GA102, TU104) that a cleaner source covers."""

S1_SLOPE_FACTOR = 0.87
"""Mean ratio of the slopes from S2 to S4 to those from S1, over the cards that both cover."""

SPILL_RATIO = 1.25
"""Ratio of a latency per image to that of a smaller batch above which GPU memory must have run over: (k b + h) / b only
falls with b, and noise lets published medians rise by a factor of up to 1.14."""


@dataclass(frozen=True)
class Row:
    """One published point: the median seconds of one step of a batch, with guidance, at 512 x 512 pixels."""

    gpu: str
    dtype: str
    source: str
    model: str
    backend: str
    batch: int
    median_s: float
    records: int


def read_rows(path: Path) -> list[Row]:
    """The rows of `step_latency.csv`."""
    return [
        Row(
            gpu=CALLED_ELSEWHERE.get(row["gpu"], row["gpu"]),
            dtype=row["precision"],
            source=row["source"],
            model=row["model"],
            backend=row["backend"],
            batch=int(row["batch"]),
            median_s=float(row["step_latency_s"]),
            records=int(row["n_records"]),
        )
        for row in csv.DictReader(read_text(path).splitlines())
    ]


def best_rows(card: str, rows: Sequence[Row]) -> list[Row]:
    """A card's rows from the preferred source, in order of batch size, up to where GPU memory ran over.

    Raises:
        LookupError: for a card without a row.
    """
    for name, source in PREFERENCE.items():
        own = [
            row
            for row in rows
            if (row.gpu, row.source, row.dtype) == (card, name, source.dtype) and source.backend in ("", row.backend)
        ]
        if own and not (card == "H200" and name == "S1"):  # one clean bf16 record beats two noisy fp16 ones
            return before_spill(sorted(own, key=lambda row: row.batch))
    raise LookupError(f"no published fp16 or bf16 row for {card}")


def before_spill(rows: Sequence[Row]) -> list[Row]:
    """The rows up to the first batch size whose latency per image shows that GPU memory ran over."""
    fits = [
        row.median_s / row.batch <= SPILL_RATIO * min(r.median_s / r.batch for r in rows[: i + 1])
        for i, row in enumerate(rows)
    ]
    return [row for row, _ in takewhile(lambda pair: pair[1], zip(rows, fits, strict=True))]


def published_profile(card: str, rows: Sequence[Row]) -> LatencyProfile:
    """The profile fitted to one card's rows, each weighted by the number of records behind its median."""
    fit = fit_latency([r.batch for r in rows], [r.median_s for r in rows], [r.records for r in rows])
    source_id = rows[0].source
    if source_id == "S1":
        fit = replace(fit, model=replace(fit.model, slope_s=S1_SLOPE_FACTOR * fit.model.slope_s))
    source = PREFERENCE[source_id]
    return LatencyProfile(
        name=slug(card),
        device=card,
        model=rows[0].model,
        resolution=512,
        dtype=source.dtype,
        guidance=True,
        samples=[_sample(row) for row in rows],
        fit=LatencyFitRecord.of(fit),
        max_batch=None,
        telemetry=None,
        provenance=Provenance(
            kind="published",
            source=f"{source_id}: {source.title}",
            date=source.date,
            versions={"backend": rows[0].backend},
            notes=[*_notes(card, rows[0]), *([warning] if (warning := fit.warning()) else [])],
        ),
    )


def estimated_h100_nvl() -> LatencyProfile:
    """The profile of the paper's edge GPU, estimated, as no step latency of SD1.5 on it is public."""
    fit = LatencyFitRecord(
        slope_s=0.0105, intercept_s=0.012, floor_s=0.018,
        slope_ci_s=None, intercept_ci_s=None, floor_ci_s=None,
        r2=None, max_relative_residual=None, held_out_error=None,
    )  # fmt: skip
    return LatencyProfile(
        name="h100-nvl", device="H100 NVL", model="SD1.5", resolution=512, dtype="fp16", guidance=True,
        samples=[], fit=fit, max_batch=None, telemetry=None,
        provenance=Provenance(
            kind="estimated",
            source="scaled from H100 PCIe, H100 SXM and H200 by their MLPerf Inference v4.1 SDXL throughput "
            "(NVL/PCIe 1.200, NVL/SXM 0.722, NVL/H200 0.678)",
            date="2024",
            notes=[
                "plausible ranges: slope_s 0.0096 to 0.015, intercept_s 0.009 to 0.02",
                "measure yours and pass it with --edge",
            ],
        ),
    )  # fmt: skip


def all_profiles() -> list[LatencyProfile]:
    """Every shipped latency profile."""
    rows, further = read_rows(data.sample("published/step_latency.csv")), shipped_rows()
    cards = [published_profile(card, best_rows(card, rows)) for card in CARDS] + [estimated_h100_nvl()]
    return [with_decode_time(checked(card, further)) for card in cards] + further_profiles(further)


def with_decode_time(card: LatencyProfile) -> LatencyProfile:
    """The profile with the time in which its VAE decodes a picture, where that is published."""
    decode_s, notes = decode_times(data.sample("published/decode.csv")).get(card.device, (None, []))
    provenance = card.provenance.model_copy(update={"notes": [*card.provenance.notes, *notes]})
    return card.model_copy(update={"decode_s": decode_s, "provenance": provenance})


def decode_times(path: Path) -> dict[str, tuple[float, list[str]]]:
    """Card -> seconds in which its VAE decodes one picture of 512 x 512 pixels, and a note with the source."""
    rows = csv.DictReader(read_text(path).splitlines())
    return {
        row["gpu"]: (float(row["decode_s"]), [f"decode_s: {row['source']}: {DECODE[row['source']]}"]) for row in rows
    }


def _notes(card: str, row: Row) -> Iterator[str]:
    source_id = row.source
    if "no xformers" in row.backend:
        yield "measured without memory-efficient attention: slower than this card is with it"
    if source_id in ("S1", "S1-single"):
        yield "image decoding and user-interface overhead are inside the published times"
    if source_id == "S1-single":
        yield "a single record; its slope is taken as published"
    if source_id == "S1":
        yield f"slope_s is the fitted slope times {S1_SLOPE_FACTOR}, the ratio of cleaner sources to this one"
        yield "r2, max_relative_residual and held_out_error describe the fit before that factor"
    if card in CLEANER_SIBLING and source_id == "S1":
        yield f"intercept_s is an upper bound: see {slug(CLEANER_SIBLING[card])}, the same chip from a cleaner source"


def _sample(row: Row) -> LatencySample:
    return LatencySample(
        batch=row.batch, median_s=row.median_s, n=row.records, ci_low_s=None, ci_high_s=None, durations_s=None
    )


def main(folder: Path) -> None:
    """Write all shipped latency profiles into a folder."""
    for profile in all_profiles():
        write_record(folder / f"{profile.name}.json", profile)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
