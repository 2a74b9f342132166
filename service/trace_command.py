"""What `trace` does: import a foreign file, and sum a trace up."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.console import say
from ..common.errors import counted
from ..common.figures import check_picture, save_figure
from ..common.tables import check_table, write_table
from .traces import TraceFacts, TraceRows, import_trace, read_rows, source_columns, trace_facts


def run_import(file: Path, source: str, own: Mapping[str, str], output: Path) -> None:
    """Read a foreign file and write it as a trace.

    Raises:
        InputError: one line; nothing is written then.
    """
    check_table(output)
    trace = import_trace(file, source_columns(source, own))
    write_table(output, trace)
    say(f"wrote {output}: {counted(len(trace['time_s']), 'request')} in {trace['time_s'][-1] / 3600:.2f} hours")
    say(f"now: edgesplit simulate --arrivals {output}")


def run_show(file: Path, output: Path | None, as_json: bool) -> None:
    """Print what a trace is like, and draw it.

    Raises:
        InputError: one line.
    """
    picture = output or (file if file.is_file() else Path("trace")).with_suffix(".png")
    check_picture(picture)
    rows = read_rows(file)
    facts = trace_facts(rows)
    save_figure(picture, _drawn(rows))
    if as_json:
        print(json.dumps(asdict(facts), indent=1))
    else:
        for line in _lines(facts):
            print(line)
    say(f"wrote {picture}")


def _lines(facts: TraceFacts) -> list[str]:
    users = "" if facts.users is None else f" of {counted(facts.users, 'user')}"
    asked, images = counted(facts.requests, "request"), counted(facts.images, "image")
    minute, hour = counted(facts.busiest_minute, "request"), counted(facts.busiest_hour, "request")
    lines = [
        f"{asked}{users}, {images}, in {facts.seconds / 3600:.2f} hours",
        f"busiest minute {minute}, busiest hour {hour}",
    ]
    if facts.mean_rate is not None and facts.gap_variation is not None:
        lines.insert(1, f"{facts.mean_rate:.4g} a second on average; gaps: median {facts.median_gap_s:.4g} s, "
                        f"coefficient of variation {facts.gap_variation:.3g} (a Poisson process has 1)")  # fmt: skip
    return lines


def _drawn(rows: TraceRows) -> Any:
    from .figures import draw_trace  # seaborn costs a second

    return draw_trace(rows)
