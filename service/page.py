"""The report of a simulation: one HTML file with the pictures in it, which needs no network and no script."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..common.errors import counted
from .simulator import World
from .worlds import WorldSettings

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 60rem;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin: 1.5rem 0 .5rem; line-height: 1.3; }
img { width: 100%; max-width: 42rem; height: auto; display: block; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: right; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
@media (max-width: 48rem) {
  thead { display: none; } table, tbody, tr, td { display: block; }
  td, td:first-child { text-align: left; border: 0; padding: 0; }
  tr { padding: .5rem 0; border-bottom: 1px solid #ddd; } td:first-child { font-weight: 600; }
  td:not(:first-child)::before { content: attr(data-head) ": "; color: #555; }
}
"""
"""The look of the page. Nothing scrolls sideways: on a narrow screen a table's cells stand below each other."""
COLUMNS = {
    "qoe_per_user": ("QoE, s", "{:.2f}"),
    "gain_per_user": ("gain, s", "{:.3f}"),
    "share_of_hindsight": ("of hindsight", "{:.1%}"),
    "mean_latency_s": ("mean latency, s", "{:.2f}"),
    "p95_latency_s": ("p95, s", "{:.2f}"),
    "p99_latency_s": ("p99, s", "{:.2f}"),
    "mean_pai": ("PAI", "{:.3f}"),
    "share_granted": ("granted", "{:.1%}"),
    "gpu_use": ("edge in use", "{:.0%}"),
    "radio_use": ("radio in use", "{:.0%}"),
}


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: stem of its files.
        title: what it shows.
        png: the bytes of its PNG file.
    """

    name: str
    title: str
    png: bytes


def render(
    settings: WorldSettings, worlds: Sequence[World], result: Mapping[str, Any], pictures: Sequence[Picture]
) -> str:
    """The page as HTML."""
    scenario = settings.resolved.scenario
    words = (
        f"{counted(result['requests'], 'request')} in {counted(len(worlds), 'world')} of {result['seconds']:g} s; edge "
        f"{scenario.gpus} x {settings.resolved.edge_name}, {scenario.bandwidth_hz / 1e6:g} MHz, rounds of "
        f"{scenario.interval_s:g} s, physics {settings.physics}, seed {settings.seed}."
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            f"<title>edgesplit: a service over time</title><style>{STYLE}</style></head><body>",
            "<h1>A service over time</h1>",
            f"<p>{escape(words)}</p>",
            "<p>Gain is the mean QoE of a request over what it has with all steps on its own device. Hindsight is the "
            "best that was found with all arrivals known, a lower bound of what is possible.</p>",
            _table(result["methods"]),
            *(_figure(picture) for picture in pictures),
            "</body></html>\n",
        ]
    )


def _table(methods: Mapping[str, Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title, _ in COLUMNS.values())
    rows = "".join(f"<tr><td>{escape(name)}</td>{_cells(totals)}</tr>" for name, totals in methods.items())
    return f"<table><thead><tr><th>method</th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(totals: Mapping[str, Any]) -> str:
    return "".join(
        f'<td data-head="{escape(title)}">{"-" if totals[name] is None else form.format(totals[name])}</td>'
        for name, (title, form) in COLUMNS.items()
    )


def _figure(picture: Picture) -> str:
    image = b64encode(picture.png).decode()
    title = escape(picture.title)
    return f'<h2>{title}</h2><img src="data:image/png;base64,{image}" alt="{title}" width="640">'
