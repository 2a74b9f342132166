"""What `pai-sweep` does: measure what is missing, analyse, write, print."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .. import data
from ..common.console import say
from ..common.database import DATABASE, move_aside
from ..common.errors import InputError, nearest, require, shown
from ..common.files import record_json, whole_file, write_record
from ..common.tables import plain_table
from ..diffusion.dreambooth_command import MODULES
from ..fitting.schemas import PaiCurveFile, Provenance
from .options import ENGINES, LARGEST, Equation, SweepRequest, is_toy, resolve

if TYPE_CHECKING:
    from .analysis import Analysis
    from .engines import Engine
    from .store import Store
    from .sweep import SweepSettings

Columns = Mapping[str, Sequence[Any]]
CURVE, TABLE = "pai_curve.json", "measurements.parquet"
MOST_STEPS = 100_000
"""As the curve's file."""
METADATA = b"edgesplit"
NEEDED = ("prompt", "seed", "local_steps", "user", "clip", "lpips")
VERSIONS = ("edgesplit", "torch", "diffusers", "open_clip_torch", "lpips")


def run_sweep(request: SweepRequest) -> None:
    """Measure what is missing, fit, write, print.

    Raises:
        InputError: one line; what was measured stays.
    """
    require("models", *MODULES, "lpips")
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft|torchvision|lpips")
    from .store import COMMAND, Store, stored_settings

    with closing(_engine(request)) as engine:
        settings = resolve(request, engine.kind, {} if request.fresh else stored_settings(request.output))
        if request.fresh or not (request.output / DATABASE).exists():
            engine.load(settings)  # what cannot be measured is refused before anything is written or moved
        if not settings.batch:
            settings = replace(settings, batch=engine.largest_batch(settings))
        if request.fresh:
            move_aside(request.output, COMMAND)
        with closing(Store(request.output, settings)) as store:
            measure_missing(settings, store, engine)
            table = store.table()
    analysis = _write_results(request, settings, table)
    draw(analysis, settings, table, request.output)
    say(f"wrote {request.output}: {CURVE}, {TABLE}, fig4a and fig4b as PNG and SVG, pictures")
    say(f"now: plan --users users.csv --pai {request.output / CURVE}")


def run_fit(table: Path, output: Path, steps: int | None, equation: Equation, as_json: bool) -> None:
    """Fit the curve again from a table.

    Raises:
        InputError: one line naming the file.
    """
    columns, facts = read_measurements(table)
    largest = max(columns["local_steps"], default=0)
    total = facts.get("total_steps", largest) if steps is None else steps
    if not largest <= total <= MOST_STEPS:
        raise InputError(
            f"--steps: found {total}, accepted: from the table's largest local_steps, {largest}, to {MOST_STEPS}"
        )
    try:
        _finish(columns, {**facts, "total_steps": total}, equation, output, as_json)
    except InputError as error:
        raise InputError(f"{table}: {error}") from error
    say(f"wrote {output}")


# -- measuring ----------------------------------------------------------------------------------------------


def measure_missing(settings: "SweepSettings", store: "Store", engine: "Engine") -> None:
    """Measure every block that is not all there; each is kept as soon as it is finished."""
    clusters = set(store.missing(settings.clusters))
    blocks = [block for block in settings.blocks if clusters & set(block)]
    if not blocks:
        say("pai-sweep: everything is measured already")
        return
    if len(clusters) < len(settings.clusters):
        say(f"pai-sweep: {len(clusters)} of {len(settings.clusters)} (prompt, seed) pairs are left to measure")
    pairs = sum(map(len, blocks))
    with progress_bar(pairs * len(settings.users) * len(settings.splits), pairs * settings.cluster_steps) as count:
        for measured in engine.measure(settings, blocks, count):
            store.add(measured)


@contextmanager
def progress_bar(pictures: int, sample_steps: int) -> Iterator[Any]:
    """A line with pictures, pictures/s and time left, on stderr, fed with sample-steps."""
    columns = (
        TextColumn("pai-sweep"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f}/{task.total:.0f} pictures {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("", total=pictures, rate="")

        def count(steps: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=steps * pictures / sample_steps, rate=f"{speed:.1f}/s" if speed else "")

        yield count


def _engine(request: SweepRequest) -> "Engine":
    from .engines import LocalEngine, RayEngine

    if request.engine not in ENGINES:
        hint = nearest(request.engine, ENGINES)
        raise InputError(f"--engine: found {shown(request.engine)}, accepted: {', '.join(ENGINES)}; {hint}")
    return RayEngine(request.device, request.workers) if request.engine == "ray" else LocalEngine(request.device)


# -- results ------------------------------------------------------------------------------------------------


def _write_results(request: SweepRequest, settings: "SweepSettings", table: Columns) -> "Analysis":
    facts = {
        "total_steps": settings.total_steps,
        "scheduler": settings.scheduler,
        "models": [settings.cluster, *settings.users.values()],
        "toy": is_toy(data.located(settings.cluster)),
        "provenance": _provenance(settings).model_dump(),
    }
    templates = [settings.templates[number] for number in table["prompt"]]
    columns = {"prompt": templates, **{name: table[name] for name in (*NEEDED[1:], "picture")}}
    write_measurements(request.output / TABLE, columns, facts)
    return _finish(columns, facts, request.equation, request.output / CURVE, request.as_json)


def _finish(columns: Columns, facts: Mapping[str, Any], equation: Equation, output: Path, as_json: bool) -> "Analysis":
    """Analyse, write the curve, print."""
    from .analysis import analyse, scores_of

    scores, total = scores_of(columns), facts["total_steps"]
    analysis = analyse(
        scores,
        total,
        equation.constants,
        own_kappa=facts["toy"] and equation.kappa is None,
        personal=equation.personal,
        two_parameter=equation.two_parameter,
    )
    provenance = Provenance.model_validate(facts["provenance"])
    curve = PaiCurveFile(
        total_steps=total,
        scheduler=facts["scheduler"],
        models=facts["models"],
        kappa=analysis.constants.kappa,
        gain=analysis.constants.gain,
        threshold=analysis.constants.threshold,
        points=analysis.points(),
        fit=analysis.fit_record(),
        min_local_steps=analysis.min_local_steps,
        provenance=provenance.model_copy(update={"notes": [*provenance.notes, _rule(analysis, equation, total)]}),
    )
    write_record(output, curve)
    if as_json:
        print(record_json(curve), end="")
    else:
        _print(analysis, curve, equation)
    for line in analysis.warnings():
        say(f"pai-sweep: {line}")
    return analysis


def _provenance(settings: "SweepSettings") -> Provenance:
    guidance = "no guidance" if settings.guidance_scale == 1 else f"guidance {settings.guidance_scale:g}"
    return Provenance(
        kind="measured",
        source=f"pai-sweep: {len(settings.templates)} prompts x {settings.seeds} seeds x {len(settings.users)} users",
        date=datetime.now(UTC).date().isoformat(),
        versions={name: version(name) for name in VERSIONS},
        notes=[
            f"{guidance}, {settings.dtype}, CLIP {settings.clip}, LPIPS {settings.lpips}",
            f"{settings.cluster}: {{subject}} is {settings.class_word!r}",
            *(
                f"{reference}: {{subject}} is {settings.words[name]!r}, judged as {settings.descriptions[name]!r}"
                for name, reference in settings.users.items()
            ),
            *(f"prompt: {template}" for template in settings.templates),
        ],
    )


def _rule(analysis: "Analysis", equation: Equation, total: int) -> str:
    found = analysis.min_local_steps
    judged = "95 % interval of LPIPS-bar" if analysis.intervals else "LPIPS-bar"
    low = analysis.intervals["lpips"][0] if analysis.intervals else analysis.means["lpips"]
    wanted = f"n whose {judged} lies above {equation.personal:g}"
    if (low > equation.personal).any():
        return f"N-hat = {found}: the smallest {wanted}"
    return f"N-hat = {total}, all steps: there is no {wanted}"


def write_measurements(path: Path, columns: Columns, facts: Mapping[str, Any]) -> None:
    """Write the table as Parquet, what `pai-sweep fit` needs to know beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: list(values) for name, values in columns.items()})
    with whole_file(path, "wb") as handle:
        pq.write_table(table.replace_schema_metadata({METADATA: json.dumps(facts)}), handle)


def read_measurements(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
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
            metadata: dict[bytes, bytes] = {}
        else:
            table = pq.read_table(path)
            frame, metadata = table.to_pandas(), table.schema.metadata or {}
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: cannot read ({reason}); name a measurements.parquet, or a CSV") from error
    _check_columns(path, frame)
    unknown = {
        "scheduler": "unknown",
        "models": ["unknown"],
        "toy": False,
        "provenance": Provenance(kind="measured", source=path.name, date=f"{datetime.now(UTC):%Y-%m-%d}").model_dump(),
    }
    facts = unknown | json.loads(metadata.get(METADATA, b"{}"))
    return {name: frame[name].tolist() for name in NEEDED}, facts


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


def draw(analysis: "Analysis", settings: "SweepSettings", table: Columns, folder: Path) -> None:
    """Fig. 4a with the pictures of the first prompt and seed, and Fig. 4b."""
    from .figures import draw_curve, draw_pictures, save_figure

    pictures: dict[str, list[Path]] = {name: [] for name in settings.users}
    rows = zip(table["prompt"], table["seed"], table["user"], table["picture"], strict=True)
    for prompt, seed, user, picture in rows:
        if (prompt, seed) == (0, 0):
            pictures[user].append(folder / picture)
    words = " / ".join(dict.fromkeys([settings.class_word, *settings.words.values()]))
    caption = settings.templates[0].replace("{subject}", words)
    save_figure(folder / "fig4a", draw_pictures(analysis, pictures, caption))
    save_figure(folder / "fig4b", draw_curve(analysis))


def _print(analysis: "Analysis", curve: PaiCurveFile, equation: Equation) -> None:
    console = Console(highlight=False)
    table = plain_table("n", "CLIP", "95 %", "LPIPS-bar", "95 %", "PAI", "95 %", right_from=0)
    for point in curve.points:
        cells = [(point.clip, point.clip_ci), (point.lpips, point.lpips_ci), (point.pai, point.pai_ci)]
        texts = [text for value, ends in cells for text in (f"{value:.3f}", _interval(ends, 3))]
        table.add_row(str(point.local_steps), *texts)
    console.print(table)
    fit = curve.fit
    form = "F(n)" if analysis.fit.parameters == 2 else f"{fit.offset:.4f} + {fit.amplitude:.4f} F(n)"
    for line in (
        "",
        f"PAI(n) = {form}, F(n) = 1 / (1 + exp(-a_F (n - b_F)))" + ("" if fit.r2 is None else f", R2 = {fit.r2:.4f}"),
        f"a_F = {_estimate(fit.steepness, fit.steepness_ci, 5)}, b_F = {_estimate(fit.midpoint, fit.midpoint_ci, 2)}; "
        f"kappa = {curve.kappa:.4f}",
        _rule(analysis, equation, curve.total_steps),
    ):
        console.print(line, soft_wrap=True, markup=False)


def _estimate(value: float, ends: Sequence[float] | None, digits: int) -> str:
    return f"{value:.{digits}f} {_interval(ends, digits)}".rstrip()


def _interval(ends: Sequence[float] | None, digits: int) -> str:
    return "" if ends is None else f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"
