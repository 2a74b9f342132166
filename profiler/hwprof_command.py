"""What the commands of `hwprof` do."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .. import data
from ..common.console import say
from ..common.errors import InputError, require, shown
from ..common.files import make_folder, read_record, read_text, record_json, write_record
from ..common.ranges import parse_ranges
from ..common.tables import plain_table
from ..fitting.latency import fit_samples
from ..fitting.library import load_profile, own, own_folder, slug
from ..fitting.schemas import SMALLEST, LatencyFitRecord, LatencyProfile, Provenance
from . import bench
from .journal import Journal
from .timing import Samples, Settings, Visit, relative_half_width
from .workloads import Dtype, Workload, read_config, resolution_of

MOST_BATCH = 4096


@dataclass(frozen=True)
class BenchRequest:
    """The options of `hwprof bench`; see its help."""

    device: str
    model: str
    batches: str
    resolution: int | None
    dtype: Dtype | None
    guidance: bool
    channels_last: bool
    compile: bool
    cuda_graph: bool
    precision: float | None
    max_seconds: float | None
    name: str | None
    output: Path | None
    resume: bool
    as_json: bool


@dataclass(frozen=True)
class FitRequest:
    """The options of `hwprof fit`; see its help."""

    samples: Path
    name: str | None
    device: str
    model: str
    resolution: int
    dtype: Dtype
    guidance: bool
    output: Path | None
    as_json: bool


def run_bench(request: BenchRequest) -> None:
    """Measure, fit, write, print.

    Raises:
        InputError: one line; the journal of what was measured stays for --resume.
    """
    require("models", "torch", "diffusers")
    workload, settings = _workload(request), _settings(request)
    batches = parse_ranges("--batches", request.batches, 1, MOST_BATCH, fewest=2)
    resolution = resolution_of(workload, read_config(workload.model))
    bench.check_device(workload)
    device = bench.device_name(workload.device)
    name = slug(request.name or device)
    path = _profile_path(request.output, name)
    journal_path = path.with_suffix(".journal.jsonl")
    if request.resume and path.exists() and not journal_path.exists():
        _notice(f"{path} is finished, there is nothing to resume; leave out --resume to measure anew")
        _print(read_record(path, LatencyProfile), request.as_json)
        return
    _check_writable(path)
    config = {"device": device, "workload": asdict(workload), "batches": batches, "precision": settings.precision}
    journal = Journal(journal_path, config | {"versions": bench.versions()}, request.resume)
    try:
        with progress_bar(settings) as progress:
            unet, machine = bench.build(workload), bench.machine_of(workload.device)
            measurement = bench.measure(unet, machine, batches, settings, journal, _notice, progress)
        profile = bench.make_profile(measurement, workload, settings, resolution, name)
    except BaseException:
        journal.close(remove=not journal.used)
        raise
    _save(path, profile)
    journal.close(remove=True)
    for line in profile.provenance.notes if request.as_json else ():  # the table ends with them
        _notice(line)
    _print(profile, request.as_json)


def run_fit(request: FitRequest) -> None:
    """Fit the rows of a CSV file.

    Raises:
        InputError: one line naming the file and the line.
    """
    for option, value in (("--device", request.device), ("--model", request.model)):
        if not value:
            raise InputError(f"{option}: found '', accepted: a name")
    durations = read_samples(request.samples)
    if len(durations) < 2:
        raise InputError(f"{request.samples}: found one batch size, accepted: two or more; a line needs them")
    fit = fit_samples({batch: [[s] for s in seconds] for batch, seconds in durations.items()})
    name = slug(request.name or request.samples.stem)
    profile = LatencyProfile(
        name=name,
        device=request.device,
        model=request.model,
        resolution=request.resolution,
        dtype=request.dtype,
        guidance=request.guidance,
        samples=[bench.latency_sample(batch, np.array(s)) for batch, s in sorted(durations.items())],
        fit=LatencyFitRecord.of(fit),
        max_batch=None,
        telemetry=None,
        provenance=Provenance(
            kind="measured", source=f"hwprof fit {request.samples.name}", date=datetime.now(UTC).date().isoformat()
        ),
    )
    _save(_profile_path(request.output, name), profile)
    if warning := fit.warning():
        _notice(warning)
    _print(profile, request.as_json)


def read_samples(path: Path) -> dict[int, list[float]]:
    """Batch size -> durations, from a CSV with columns `batch` and `duration_s`.

    Raises:
        InputError: one line naming file, line, column, what was found and what is accepted.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    columns = [name.strip() for name in reader.fieldnames or []]
    if not {"batch", "duration_s"} <= set(columns):
        raise InputError(f"{path}: header: found {shown(','.join(columns))}, accepted: columns batch and duration_s")
    reader.fieldnames = columns
    durations: dict[int, list[float]] = {}
    for place, row in rows_of(path, reader):
        batch = _number(row["batch"])
        if not (batch.is_integer() and 1 <= batch <= MOST_BATCH):
            raise InputError(f"{place}, column 'batch': found {shown(row['batch'])}, accepted: 1 to {MOST_BATCH}")
        seconds = _number(row["duration_s"])
        if not SMALLEST <= seconds < 1e6:
            found = shown(row["duration_s"])
            raise InputError(f"{place}, column 'duration_s': found {found}, accepted: a number of seconds above 0")
        durations.setdefault(int(batch), []).append(seconds)
    if not durations:
        raise InputError(f"{path}: no rows below the header; add one row per timed step")
    return durations


def rows_of(path: Path, reader: "csv.DictReader[str]") -> Iterator[tuple[str, dict[str, str]]]:
    """(place for a message, row) of each row.

    Raises:
        InputError: for a row with more fields than the header, or that the csv module cannot read.
    """
    try:
        for row in reader:
            place = f"{path}: line {reader.line_num}"
            if None in row:
                raise InputError(f"{place}: found more fields than the header has, accepted: {len(row) - 1}")
            yield place, row
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1}: not CSV ({error}); one step per line") from error


def list_profiles(as_json: bool) -> None:
    """Shipped and own profiles, own ones last and in place of a shipped one of the same name."""
    mine = own("profiles")
    profiles = {}
    for name, path in (data.shipped("profiles") | mine).items():
        try:
            profiles[name] = read_record(path, LatencyProfile)
        except InputError as error:  # one that was spoiled does not hide the others
            _notice(str(error))
    if as_json:
        import json

        print(json.dumps({name: {"own": name in mine, **_facts(p)} for name, p in profiles.items()}, indent=1))
        return
    table = plain_table("name", "model", "dtype", "k ms/image", "h ms", "floor ms", "from", right_from=3)
    for name, profile in profiles.items():
        origin = "own, " + profile.provenance.kind if name in mine else profile.provenance.kind
        table.add_row(name, profile.model, profile.dtype, *_fit_ms(profile), origin)
    Console(highlight=False).print(table)


def show_profile(reference: str, as_json: bool) -> None:
    """One profile in full."""
    _print(load_profile(reference), as_json)


def compare_profiles(references: Sequence[str], picture: Path, as_json: bool) -> None:
    """Several profiles side by side, and drawn into one picture."""
    from .figures import draw_profiles, save_figure

    if len(references) < 2:
        raise InputError(f"compare: found {len(references)} profile, accepted: two or more; see hwprof list")
    profiles = [load_profile(reference) for reference in references]
    paths = save_figure(picture, draw_profiles(profiles))
    if as_json:
        import json

        print(json.dumps([{"name": profile.name, **_facts(profile)} for profile in profiles], indent=1))
    else:
        table = plain_table("name", "k ms/image", "h ms", "floor ms", "L(1) ms", "L(8) ms", "L(16) ms", "L(16) / first")
        first = float(profiles[0].fit.model().step_latency(16))
        for profile in profiles:
            at = 1e3 * profile.fit.model().step_latency([1, 8, 16])
            table.add_row(profile.name, *_fit_ms(profile), *(f"{ms:.1f}" for ms in at), f"{at[2] / 1e3 / first:.2f}")
        Console(highlight=False).print(table)
    say(f"wrote {paths[0]} and {paths[1].name}")


# -- pieces -------------------------------------------------------------------------------------------------


def _workload(request: BenchRequest) -> Workload:
    read_config(request.model)
    if request.resolution is not None and not (8 <= request.resolution <= 4096 and request.resolution % 64 == 0):
        raise InputError(f"--resolution: found {request.resolution}, accepted: a multiple of 64 up to 4096")
    return Workload(
        model=request.model,
        device=request.device,
        resolution=request.resolution,
        dtype=request.dtype or ("fp32" if request.device == "cpu" else "fp16"),
        guidance=request.guidance,
        channels_last=request.channels_last,
        compile=request.compile,
        cuda_graph=request.cuda_graph,
    )


def _settings(request: BenchRequest) -> Settings:
    loose = request.device == "cpu" and request.model == "tiny"
    precision = request.precision if request.precision is not None else (0.02 if loose else 0.01)
    max_seconds = request.max_seconds if request.max_seconds is not None else (40.0 if loose else 120.0)
    for option, value, most in (("--precision", precision, 1.0), ("--max-seconds", max_seconds, 1e6)):
        if not 0 < value <= most:
            raise InputError(f"{option}: found {value}, accepted: a number above 0, up to {most:g}")
    return Settings(precision=precision, max_seconds=max_seconds)


def _profile_path(output: Path | None, name: str) -> Path:
    if output is None:
        return own_folder("profiles") / f"{name}.json"
    if output.suffix != ".json":
        raise InputError(f"{output}: found suffix '{output.suffix}', accepted: .json")
    return output


def _save(path: Path, profile: LatencyProfile) -> None:
    from .figures import draw_profiles, save_figure

    make_folder(path.parent)
    write_record(path, profile)
    pictures = save_figure(path, draw_profiles([profile]))
    say(f"wrote {path}, {pictures[0].name} and {pictures[1].name}; now: plan --edge {path} ...")


@contextmanager
def progress_bar(settings: Settings) -> Iterator[bench.Progress]:
    """A line with batch, samples, interval and time left, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TimeRemainingColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("warming up", total=settings.max_seconds)
        start = math.nan

        def update(samples: Samples, visit: Visit) -> None:
            nonlocal start
            if math.isnan(start):  # sampling alone is limited, and begins now
                bar.reset(task)
                start = bar.get_time()
            durations = samples.durations(visit.batch)
            width = relative_half_width(durations)
            known = f"+-{width:.1%}" if math.isfinite(width) else "..."
            text = f"batch {visit.batch:3d}  {durations.size:5d} samples  {known}"
            bar.update(task, description=text, completed=bar.get_time() - start)

        yield update


def _facts(profile: LatencyProfile) -> dict[str, Any]:
    described = {key: getattr(profile, key) for key in ("device", "model", "resolution", "dtype", "guidance")}
    return described | {
        "fit": profile.fit.model_dump(),
        "max_batch": profile.max_batch,
        "provenance": profile.provenance.kind,
    }


def _fit_ms(profile: LatencyProfile) -> list[str]:
    fit = profile.fit
    return [
        f"{1e3 * fit.slope_s:.2f}",
        f"{1e3 * fit.intercept_s:.2f}",
        f"{1e3 * fit.floor_s:.1f}" if fit.floor_s else "-",
    ]


def _print(profile: LatencyProfile, as_json: bool) -> None:
    if as_json:
        print(record_json(profile), end="")
        return
    console, fit = Console(highlight=False), profile.fit
    form = f"{profile.resolution} px, {profile.dtype}, {'with' if profile.guidance else 'no'} guidance"
    console.print(f"{profile.name}: {profile.device}, {profile.model}, {form}", markup=False, soft_wrap=True)
    table = plain_table("batch", "median ms", "95 % interval ms", "samples", "fit ms", "off", right_from=0)
    for sample in profile.samples:
        fitted = float(fit.model().step_latency(sample.batch))
        known = sample.ci_low_s is not None and sample.ci_high_s is not None
        interval = f"{1e3 * (sample.ci_low_s or 0):.2f} to {1e3 * (sample.ci_high_s or 0):.2f}" if known else "-"
        numbers = [f"{1e3 * sample.median_s:.2f}", interval, str(sample.n), f"{1e3 * fitted:.2f}"]
        table.add_row(str(sample.batch), *numbers, f"{sample.median_s / fitted - 1:+.1%}")
    if profile.samples:
        console.print(table)
    for line in _fit_lines(profile):
        console.print(line, markup=False, soft_wrap=True)


def _fit_lines(profile: LatencyProfile) -> Iterator[str]:
    fit, origin = profile.fit, profile.provenance
    yield f"k = {_with_interval(fit.slope_s, fit.slope_ci_s)} ms per image"
    yield f"h = {_with_interval(fit.intercept_s, fit.intercept_ci_s)} ms"
    if fit.floor_s:
        yield f"floor = {_with_interval(fit.floor_s, fit.floor_ci_s)} ms: L(b) = max(floor, k b + h)"
    quality = {"R2": fit.r2, "largest residual": fit.max_relative_residual, "held-out error": fit.held_out_error}
    known = [
        f"{name} {value:.4f}" if name == "R2" else f"{name} {value:.1%}"
        for name, value in quality.items()
        if value is not None
    ]
    if known:
        yield ", ".join(known)
    if profile.max_batch:
        yield f"largest batch that fits: {profile.max_batch}"
    yield f"{origin.kind}, {origin.date}: {origin.source}"
    yield from (f"note: {note}" for note in origin.notes)


def _with_interval(seconds: float, interval: Sequence[float] | None) -> str:
    text = f"{1e3 * seconds:.3f}"
    return text if interval is None else f"{text} ({1e3 * interval[0]:.3f} to {1e3 * interval[1]:.3f})"


def _check_writable(path: Path) -> None:
    """Say before the measurement what would be said after it."""
    from .figures import FORMATS

    for target in (path, *(path.with_suffix(f".{kind}") for kind in FORMATS)):
        if target.exists() and not target.is_file():
            raise InputError(f"{target}: cannot write: it is not a regular file; choose another place with -o")


def _number(text: str | None) -> float:
    try:
        return float(text or "nan") if "_" not in (text or "") else math.nan
    except ValueError:
        return math.nan


def _notice(line: str) -> None:
    say(f"hwprof: {line}")
