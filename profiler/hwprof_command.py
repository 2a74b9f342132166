"""What the commands of `hwprof` do."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .. import data
from ..common.console import resumable, say
from ..common.errors import InputError, require
from ..common.figures import save_both
from ..common.files import make_folder, read_record, write_record
from ..common.locks import only_run
from ..common.progress import Progress, progress_bar
from ..fitting.latency import fit_samples
from ..fitting.library import load_profile, own
from ..fitting.names import slug
from ..fitting.schemas import SMALLEST, LatencyProfile
from .bench import load_network, measure
from .devices import check_device, device_name, instruments_for, versions
from .journal import Journal
from .options import (
    BenchRequest,
    FitRequest,
    batches_of,
    check_output,
    check_writable,
    profile_path,
    timing_of,
    workload_of,
)
from .output import print_comparison, print_list, print_profile
from .profiles import foreign_profile, make_profile
from .samples import read_samples
from .timing import Samples, TimingSettings, Visit, relative_half_width
from .workload import Workload


def run_bench(request: BenchRequest) -> None:
    """Measure, fit, write and print.

    Raises:
        InputError: one line; the journal keeps what was measured, and the same command goes on from it.
    """
    require("models", "torch", "diffusers")
    workload, settings, batches = workload_of(request), timing_of(request), batches_of(request)
    check_output(request.output)
    check_device(workload)
    device = device_name(workload.device)
    name = slug(request.name or device)
    path = profile_path(request.output, name)
    check_writable(path)
    config = {"device": device, "workload": asdict(workload), "batches": batches, "precision": settings.precision}
    with only_run(path, "hwprof bench"), resumable():
        journal_path = path.with_suffix(".journal.jsonl")
        if request.resume and path.exists() and not journal_path.exists():
            _notice(f"{path} is finished, there is nothing to resume; leave out --resume to measure anew")
            profile = read_record(path, LatencyProfile)
        else:
            with Journal(journal_path, config | {"versions": versions(workload)}, request.fresh) as journal:
                profile = _measured_profile(workload, batches, settings, journal, name)
                _save(path, profile)
            _say_notes(profile, request.as_json)
    print_profile(profile, request.as_json)


def run_fit(request: FitRequest) -> None:
    """Fit the rows of a table, write and print.

    Raises:
        InputError: one line naming the file and the row.
    """
    check_output(request.output)
    durations_s = read_samples(request.samples)
    fit = fit_samples({batch: [[s] for s in seconds] for batch, seconds in durations_s.items()})
    if (step_s := float(fit.model.step_latency(1))) < SMALLEST:
        raise InputError(
            f"{request.samples}: found durations by which a step of one image takes {step_s:g} s, "
            f"accepted: {SMALLEST:g} s or more; are they in seconds?"
        )
    profile = foreign_profile(request, durations_s, fit)
    _save(profile_path(request.output, profile.name), profile)
    _say_notes(profile, request.as_json)
    print_profile(profile, request.as_json)


def list_profiles(as_json: bool) -> None:
    """Print shipped and own profiles; own ones come last, and take the place of shipped ones of the same name."""
    mine = own("profiles")
    profiles = {}
    for name, path in (data.shipped("profiles") | mine).items():
        try:
            profiles[name] = read_record(path, LatencyProfile)
        except InputError as error:  # one spoiled file does not hide the others
            _notice(str(error))
    print_list(profiles, mine, as_json)


def show_profile(reference: str, as_json: bool) -> None:
    """Print one profile in full."""
    print_profile(load_profile(reference), as_json)


def compare_profiles(references: Sequence[str], picture: Path, as_json: bool) -> None:
    """Print several profiles side by side, and draw them into one picture.

    Raises:
        InputError: for fewer than two profiles, or one that is not there.
    """
    from .figures import draw_profiles

    if len(references) < 2:
        raise InputError(f"compare: found {len(references)} profile, accepted: two or more; see hwprof list")
    profiles = [load_profile(reference) for reference in references]
    if not picture.suffix and os.path.exists(picture):  # such as /dev/stdout
        raise InputError(f"{picture}: found no file of pictures, accepted: a name such as compare.png")
    check_writable(picture)
    paths = save_both(picture, draw_profiles(profiles))
    print_comparison(profiles, as_json)
    say(f"wrote {paths[0]} and {paths[1].name}")


# -- pieces -------------------------------------------------------------------------------------------------


def _measured_profile(
    workload: Workload, batches: Sequence[int], settings: TimingSettings, journal: Journal, name: str
) -> LatencyProfile:
    if journal.done:
        _notice(f"goes on with the {len(journal.done)} visits of an interrupted run; --fresh begins anew")
    timed, instruments = load_network(workload), instruments_for(workload)
    with progress_bar("hwprof", settings.max_seconds, "seconds") as progress:
        progress(0, "warming up")
        run = measure(timed, instruments, batches, settings, journal, _notice, _Shown(progress))
    return make_profile(run, workload, settings, timed.resolution, name)


class _Shown:
    """Shows after every visit how long sampling has taken and how well the visited batch size is known."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.start_s = progress, math.nan

    def __call__(self, samples: Samples, visit: Visit) -> None:
        if math.isnan(self.start_s):  # only sampling is limited in time, and it has begun with this visit
            self.start_s = time.monotonic()
        durations = samples.durations(visit.batch)
        width = relative_half_width(durations)
        known = f"+-{width:.1%}" if math.isfinite(width) else "..."
        text = f"batch {visit.batch:3d}  {durations.size:5d} samples  {known}"
        self.progress(time.monotonic() - self.start_s, text)


def _save(path: Path, profile: LatencyProfile) -> None:
    """Write a profile and its picture, and say where."""
    from .figures import draw_profiles

    make_folder(path.parent)
    write_record(path, profile)
    pictures = save_both(path, draw_profiles([profile]))
    say(f"wrote {path}, {pictures[0].name} and {pictures[1].name}; now: plan --edge {path} ...")


def _say_notes(profile: LatencyProfile, as_json: bool) -> None:
    """Say what the profile's table ends with, where no table is printed."""
    for line in profile.provenance.notes if as_json else ():
        _notice(line)


def _notice(line: str) -> None:
    say(f"hwprof: {line}")
