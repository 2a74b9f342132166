"""What `pai-sweep` does: measure what is missing, analyse, write and print."""

import time
import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.console import resumable, say
from ..common.database import DATABASE, move_aside
from ..common.errors import InputError, counted, require
from ..common.files import read_record, write_record
from ..common.progress import Progress, progress_bar
from ..common.tables import Columns
from ..diffusion.inference.references import MODULES
from ..fitting.doubts import curve_doubts
from ..fitting.schemas import PaiCurveFile
from .analysis import Analysis
from .curve import analysed, curve_file
from .measurements import MOST_STEPS, NEEDED, TABLE, facts_of, read_measurements, write_measurements
from .options import CurveOptions, SweepRequest, on_machine, resolve
from .settings import SweepSettings
from .store import COMMAND, Store, settings_in

if TYPE_CHECKING:
    from .engines import Engine

CURVE = "pai_curve.json"


def run_sweep(request: SweepRequest) -> None:
    """Measure what is missing, fit, write and print.

    Raises:
        InputError: one line; what was measured stays.
    """
    settings = resolve(request)
    require("models", *MODULES, "lpips")
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft|torchvision|lpips")
    from .engines import open_engine
    from .figures import save_figures

    with resumable():
        with closing(open_engine(request.engine, request.device, request.workers)) as engine:
            settings, table = _measured(settings, request, engine)
        columns = _with_prompts(table, settings)
        facts = facts_of(settings)
        write_measurements(request.output / TABLE, columns, facts)
        analysis = analysed(columns, facts, settings.total_steps, request.curve)
        curve = curve_file(analysis, facts, settings.total_steps, request.curve.personal)
        _publish(curve, analysis, request.output / CURVE, request.as_json)
        save_figures(request.output, analysis, settings, table)
    say(f"wrote {request.output}: {CURVE}, {TABLE}, fig4a and fig4b as PNG and SVG, pictures")
    say(f"now: plan --users users.csv --pai {request.output / CURVE}")


def run_fit(table: Path, output: Path, steps: int | None, options: CurveOptions, as_json: bool) -> None:
    """Fit the curve again from a table.

    Raises:
        InputError: one line naming the file.
    """
    columns, facts = read_measurements(table)
    largest = max(columns["local_steps"], default=0)
    known = largest if facts.total_steps is None else facts.total_steps
    total = known if steps is None else steps
    if not largest <= total <= MOST_STEPS:
        raise InputError(
            f"--steps: found {total}, accepted: from the table's largest local_steps, {largest}, to {MOST_STEPS}"
        )
    try:
        analysis = analysed(columns, facts, total, options)
    except InputError as error:
        raise InputError(f"{table}: {error}") from error
    _publish(curve_file(analysis, facts, total, options.personal), analysis, output, as_json)
    say(f"wrote {output}")


def _measured(settings: SweepSettings, request: SweepRequest, engine: "Engine") -> tuple[SweepSettings, Columns]:
    """The sweep's settings, now with those of the machine, and its table when everything is measured."""
    settings = on_machine(settings, engine.kind, {} if request.fresh else settings_in(request.output))
    if not settings.threads:
        settings = replace(settings, threads=engine.threads(settings))
    if request.fresh or not (request.output / DATABASE).exists():
        engine.load(settings)  # what cannot be measured is refused before anything is written or moved
    if not settings.batch:
        settings = replace(settings, batch=engine.largest_batch(settings))
    if request.fresh:
        move_aside(request.output, COMMAND)
    with closing(Store(request.output, settings)) as store:
        _measure_missing(settings, store, engine)
        return settings, store.table()


def _measure_missing(settings: SweepSettings, store: Store, engine: "Engine") -> None:
    """Measure every block of which a group is missing; each is kept as soon as it is finished."""
    groups = set(store.missing(settings.groups))
    blocks = [block for block in settings.blocks if groups & set(block)]
    if not blocks:
        say("pai-sweep: everything is measured already")
        return
    if len(groups) < len(settings.groups):
        threads = f", with {counted(settings.threads, 'CPU thread')} as before" if settings.device == "cpu" else ""
        say(f"pai-sweep: {len(groups)} of {len(settings.groups)} (prompt, seed) pairs are left to measure{threads}")
    pictures = sum(map(len, blocks)) * settings.group_pictures
    with progress_bar("pai-sweep", pictures, "pictures") as progress:
        count = _PictureCount(progress, settings.group_pictures / settings.group_steps)
        for measured in engine.measure(settings, blocks, count):
            store.add(measured)


class _PictureCount:
    """Shows progress in pictures, from the steps of single pictures.

    Args:
        progress: shows how far the work is.
        pictures_per_step: pictures that one step of a single picture finishes on average.
    """

    def __init__(self, progress: Progress, pictures_per_step: float) -> None:
        self.progress, self.pictures_per_step = progress, pictures_per_step
        self.steps, self.start_s = 0, time.monotonic()

    def __call__(self, steps: int) -> None:
        self.steps += steps
        pictures = self.steps * self.pictures_per_step
        self.progress(pictures, f"{pictures / max(time.monotonic() - self.start_s, 1e-9):.1f}/s")


def _with_prompts(table: Columns, settings: SweepSettings) -> Columns:
    """The table with the prompts in place of their numbers."""
    templates = [settings.templates[number] for number in table["prompt"]]
    return {"prompt": templates, **{name: table[name] for name in (*NEEDED[1:], "picture")}}


def _publish(curve: PaiCurveFile, analysis: Analysis, output: Path, as_json: bool) -> None:
    """Write a curve and print it, with what its user should know."""
    from .output import print_curve

    notices = [*_replaced(output, curve), *analysis.warnings(), *curve_doubts(curve)]
    write_record(output, curve)
    print_curve(curve, analysis, as_json)
    for line in notices:
        say(f"pai-sweep: {line}")


def _replaced(output: Path, curve: PaiCurveFile) -> Iterator[str]:
    """What is said of a curve whose PAI was computed in another way and that this one replaces."""
    from .output import AGGREGATIONS

    with suppress(InputError):
        old = read_record(output, PaiCurveFile)
        if old.aggregation != curve.aggregation:
            before, now = old.fit, curve.fit
            yield (
                f"{output} held a curve with {AGGREGATIONS[old.aggregation]}; a_F was {before.steepness:.5f} and is "
                f"{now.steepness:.5f}, b_F was {before.midpoint:.2f} and is {now.midpoint:.2f}"
            )
