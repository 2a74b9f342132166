"""What the commands of `hwprof` print."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..common.errors import printable
from ..common.files import record_json
from ..common.tables import plain_table, print_table, short_name
from ..fitting.names import network_of
from ..fitting.schemas import HeldOut, LatencyProfile

if TYPE_CHECKING:
    from rich.text import Text

NAME_CELLS = 80
"""Most cells of a terminal that the name of a profile's file takes in a list; those of profiles are shorter."""
MODEL_CELLS = 14
"""Most cells of a terminal that the name of a model takes in a list."""
UNKNOWN = ["-"] * 3
"""What stands for slope, intercept and floor, or for L(8) and what follows it, where one batch size was measured."""
TEXT_CELLS = 24
"""Most cells of a terminal that a text beside a held-out measurement takes."""


def print_profile(profile: LatencyProfile, as_json: bool) -> None:
    """Print one profile: its points and its fit, or its file."""
    if as_json:
        print(record_json(profile), end="")
        return
    form = f"{profile.resolution} px, {profile.number_format}, {'with' if profile.guidance else 'no'} guidance"
    attention = f", {profile.attention} attention" if profile.attention else ""
    print(printable(f"{profile.name}: {profile.device_name}, {profile.model}, {form}{attention}"))
    table = plain_table("batch", "median ms", "95 % interval ms", "samples", "fit ms", "off", right_from=0)
    for sample in profile.samples:
        fitted = float(profile.fit.model().step_latency(sample.batch))
        known = sample.ci_low_s is not None and sample.ci_high_s is not None
        interval = f"{1e3 * (sample.ci_low_s or 0):.2f} to {1e3 * (sample.ci_high_s or 0):.2f}" if known else "-"
        numbers = [f"{1e3 * sample.median_s:.2f}", interval, str(sample.n), f"{1e3 * fitted:.2f}"]
        table.add_row(str(sample.batch), *numbers, _off(sample.median_s / fitted - 1))
    if profile.samples:
        print_table(table)
    for line in _fit_lines(profile):
        print(printable(line))
    if profile.held_out:
        _print_held_out(profile)


def _print_held_out(profile: LatencyProfile) -> None:
    """Print how far the fit is off what others measured on the same card."""
    print("measured by others, and no part of the fit:")
    table = plain_table("batch", "theirs ms", "fit ms", "fit off", "source", "backend", right_from=0)
    for column in table.columns[-2:]:
        column.justify = "left"
    for check in profile.held_out:
        fitted = float(profile.fit.model().step_latency(check.batch))
        numbers = [f"{1e3 * check.step_s:.2f}", f"{1e3 * fitted:.2f}", _off(_fit_off(profile, check))]
        texts = (short_name(text, TEXT_CELLS) for text in (check.source.partition(":")[0], check.backend))
        table.add_row(str(check.batch), *numbers, *texts)
    print_table(table)
    for _, checks in groupby(profile.held_out, key=lambda check: (check.source, check.backend)):
        print(printable(_spread(profile, list(checks))))


def _spread(profile: LatencyProfile, checks: Sequence[HeldOut]) -> str:
    """How far the fit is off the held-out measurements of one source, in one line."""
    first, off = checks[0], [_fit_off(profile, check) for check in checks]
    distance = _off(min(off)) if len(off) == 1 else f"{_off(min(off))} to {_off(max(off))}"
    return f"fit {distance} off {first.device}, {first.model}, {first.backend}: {first.source}"


def _fit_off(profile: LatencyProfile, check: HeldOut) -> float:
    """L(b) / measured - 1."""
    return float(profile.fit.model().step_latency(check.batch)) / check.step_s - 1


def print_list(profiles: Mapping[str, LatencyProfile], own: Collection[str], as_json: bool) -> None:
    """Print profiles one a line.

    Args:
        profiles: name -> profile.
        own: names of the profiles that are the user's own.
        as_json: whether to print one JSON object instead of a table.
    """
    if as_json:
        entries = {name: {"own": name in own, **_facts(profile)} for name, profile in profiles.items()}
        print(json.dumps(entries, indent=1))
        return
    table = plain_table("name", "dtype", "L(1) ms", "k ms", "h ms", "floor ms", "from", right_from=2)
    for group in _by_network(profiles, own):
        table.add_row(_group_title(profiles[group[0]]), style="bold")
        for name in group:
            origin = "own, " * (name in own) + profiles[name].provenance.kind
            table.add_row(short_name(name, NAME_CELLS), *_list_cells(profiles[name]), origin)
    print_table(table)


def _group_title(profile: LatencyProfile) -> "Text":
    """The network and the pictures of a group of profiles, of which this is the first."""
    network = network_of(profile.model)
    words = short_name(network if network.startswith("SD ") else profile.model, MODEL_CELLS)
    return words.append(f", {profile.resolution} px:")


def _list_cells(profile: LatencyProfile) -> list[str]:
    """Number format and latencies of a profile; k and h only where they are known."""
    step_ms = f"{1e3 * float(profile.fit.model().step_latency(1)):.2f}"
    return [profile.number_format, step_ms, *_fit_ms(profile)]


def _by_network(profiles: Mapping[str, LatencyProfile], own: Collection[str]) -> list[list[str]]:
    """Names of profiles of the same network and resolution, in the order of the first of each that ships."""
    groups: dict[tuple[str, int | str], list[str]] = {}
    for name in sorted(profiles, key=lambda name: name in own):
        groups.setdefault((network_of(profiles[name].model), profiles[name].resolution), []).append(name)
    return list(groups.values())


def print_comparison(profiles: Sequence[LatencyProfile], as_json: bool) -> None:
    """Print profiles side by side, each one's L(16) as a multiple of the first one's."""
    if as_json:
        print(json.dumps([{"name": profile.name, **_facts(profile)} for profile in profiles], indent=1))
        return
    table = plain_table("name", "k ms", "h ms", "floor ms", "L(1) ms", "L(8) ms", "L(16) ms", "ratio")
    for profile in profiles:
        table.add_row(profile.name, *_fit_ms(profile), *_latency_cells(profile, profiles[0]))
    print_table(table)


def _latency_cells(profile: LatencyProfile, first: LatencyProfile) -> list[str]:
    """L(1), L(8) and L(16), and the last as a multiple of that of the first profile; only what is known."""
    latencies_s, first_s = (each.fit.model().step_latency([1, 8, 16]) for each in (profile, first))
    cells = [f"{1e3 * seconds:.1f}" for seconds in latencies_s]
    if profile.one_size:
        return [cells[0], *UNKNOWN]
    return [*cells, "-" if first.one_size else f"{latencies_s[2] / first_s[2]:.2f}"]


def _facts(profile: LatencyProfile) -> dict[str, Any]:
    """What a list and a comparison print as JSON."""
    return {
        "device": profile.device,
        "model": profile.model,
        "resolution": profile.resolution,
        "dtype": profile.dtype,
        "quantization": profile.quantization,
        "guidance": profile.guidance,
        "fit": profile.fit.model_dump(),
        "max_batch": profile.max_batch,
        "provenance": profile.provenance.kind,
    }


def _fit_ms(profile: LatencyProfile) -> list[str]:
    """Slope, intercept and floor in milliseconds, where they are known."""
    if profile.one_size:
        return UNKNOWN
    fit = profile.fit
    floor = f"{1e3 * fit.floor_s:.1f}" if fit.floor_s else "-"
    return [f"{1e3 * fit.slope_s:.2f}", f"{1e3 * fit.intercept_s:.2f}", floor]


def _fit_lines(profile: LatencyProfile) -> Iterator[str]:
    fit, origin = profile.fit, profile.provenance
    if not profile.one_size:
        yield f"k = {_with_interval(fit.slope_s, fit.slope_ci_s)} ms per image"
        yield f"h = {_with_interval(fit.intercept_s, fit.intercept_ci_s)} ms"
    if fit.floor_s:
        yield f"floor = {_with_interval(fit.floor_s, fit.floor_ci_s)} ms: L(b) = max(floor, k b + h)"
    quality = [
        "" if fit.r2 is None else f"R2 {fit.r2:.4f}",
        "" if fit.max_relative_residual is None else f"largest residual {fit.max_relative_residual:.1%}",
        "" if fit.held_out_error is None else f"held-out error {fit.held_out_error:.1%}",
    ]
    if any(quality):
        yield ", ".join(text for text in quality if text)
    if profile.max_batch:
        yield f"largest batch that fits: {profile.max_batch}"
    for part, seconds in (("decoding a picture", profile.decode_s), ("encoding a prompt", profile.encode_s)):
        if seconds is not None:
            yield f"{part} takes {1e3 * seconds:.1f} ms"
    yield f"{origin.kind}, {origin.date}: {origin.source}"
    yield from (f"note: {note}" for note in origin.notes)


def _off(relative: float) -> str:
    """A relative distance with its sign, which nothing has that rounds to 0."""
    text = f"{relative:+.1%}"
    return text[1:] if text[1:] == "0.0%" else text


def _with_interval(seconds: float, interval: Sequence[float] | None) -> str:
    """A duration in milliseconds with its interval."""
    text = f"{1e3 * seconds:.3f}"
    return text if interval is None else f"{text} ({1e3 * interval[0]:.3f} to {1e3 * interval[1]:.3f})"
