"""The tables behind the figures: those that need no random case, Figs. 3, 4, 7 and 8, and what is made of others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from .. import data
from ..fitting.schemas import LatencyProfile, PaiCurveFile
from ..optimizer.model.qoe import Scenario, edge_step_latency
from ..optimizer.model.split import alpha_range, best_split
from .experiments import SEARCHED

CURVES = {"general": "paper-general", "GPU-constrained": "gpu-8", "specific": "specific"}
"""Fig. 8: the training whose learning curve stands for each scope; all of the paper's network."""
WINDOW = 1000
"""Episodes of the moving average of Fig. 8."""
ALPHAS = 61


DRAWN = 5
"""Devices of Fig. 3 that are drawn beside the edge's GPU; all are in its table."""


def device_labels(profiles: Sequence[LatencyProfile]) -> dict[str, str]:
    """The devices for people, by the profile's name; that is added where several profiles are of one device."""
    devices = [profile.device for profile in profiles]
    return {p.name: p.device if devices.count(p.device) == 1 else f"{p.device} ({p.name})" for p in profiles}


def latency_table(edge: LatencyProfile, devices: Sequence[LatencyProfile]) -> pd.DataFrame:
    """Fig. 3: measured medians, and the fitted line at every batch up to the largest; the edge's GPU first."""
    rows: list[dict[str, Any]] = []
    labels, drawn = device_labels(devices), evenly(devices, DRAWN)
    labelled = [(f"{edge.device} (edge)", edge, True), *((labels[p.name], p, p in drawn) for p in devices)]
    for device, profile, shown in labelled:
        facts = {"device": device, "source": profile.provenance.kind, "drawn": shown}
        model, most = profile.fit.model(), max([16, *(sample.batch for sample in profile.samples)])
        rows += [{**facts, "what": "measured", "batch": s.batch, "step_s": s.median_s} for s in profile.samples]
        rows += [
            {**facts, "what": "fit", "batch": b, "step_s": float(model.step_latency(b))} for b in range(1, most + 1)
        ]
    return pd.DataFrame(rows)


def metrics_table(curve: PaiCurveFile) -> pd.DataFrame:
    """Fig. 4a: CLIP and LPIPS-bar at every split point, with their 95 % intervals."""
    rows = []
    for point in curve.points:
        for metric, value, ends in (
            ("CLIP", point.clip, point.clip_ci),
            ("LPIPS-bar", point.lpips, point.lpips_ci),
        ):
            low, high = ends or (value, value)
            rows.append({"local_steps": point.local_steps, "metric": metric, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def pai_table(curve: PaiCurveFile) -> pd.DataFrame:
    """Fig. 4b: the PAI at every split point with its 95 % interval, and the fitted curve there."""
    rows = []
    for point in curve.points:
        low, high = point.pai_ci or (point.pai, point.pai)
        fitted = float(curve.fit.curve().value(point.local_steps))
        rows.append({"local_steps": point.local_steps, "pai": point.pai, "low": low, "high": high, "fitted": fitted})
    return pd.DataFrame(rows)


def splits_by_device(scenario: Scenario, step_latency_s: Mapping[str, float]) -> pd.DataFrame:
    """Fig. 7a: offloaded steps against alpha at the scenario's G, for batch sizes and devices."""
    systems = [(scenario, batch) for batch in _batches(scenario)]
    return _splits(systems, dict(_ends_and_middle(list(step_latency_s.items()))))


def splits_by_gpus(scenario: Scenario, step_latency_s: Mapping[str, float]) -> pd.DataFrame:
    """Fig. 7b: offloaded steps against alpha of a middling device, for numbers of GPUs and batch sizes.

    1, 3/8 and all of G: with batches of 1/4, 1/2 and all of B_max no two b / G are the same.
    """
    gpus = sorted({1, max(1, round(3 * scenario.gpus / 8)), scenario.gpus})
    systems = [(replace(scenario, gpus=g), batch) for g in gpus for batch in _batches(scenario)]
    name, latency = _ends_and_middle(list(step_latency_s.items()))[len(step_latency_s) > 1]
    return _splits(systems, {name: latency})


def learning_table(curves: Mapping[str, str] = CURVES) -> pd.DataFrame:
    """Fig. 8: the moving average over episodes of the return, the optimum and the captured share of each scope."""
    tables = []
    for scope, name in curves.items():
        rows = pd.read_csv(data.FOLDER / "policies" / "curves" / f"{name}.csv")
        averages = {column: moving_average(rows["episode"], rows[column]) for column in AVERAGED}
        tables.append(pd.DataFrame({"scope": scope, "episode": rows["episode"], **averages}))
    return pd.concat(tables, ignore_index=True)


AVERAGED = ("episode_return", "optimum", "all_local", "captured_share")


def moving_average(episode: "pd.Series[int]", value: "pd.Series[float]") -> np.ndarray:
    """The mean over the last `WINDOW` episodes; every value is the mean of the episodes since the one before."""
    ends = episode.to_numpy(float)
    starts = np.concatenate([[0.0], ends[:-1]])
    sums = np.concatenate([[0.0], np.cumsum(value.to_numpy(float) * (ends - starts))])
    first = np.maximum(ends - WINDOW, 0.0)
    found: np.ndarray = (sums[1:] - np.interp(first, [0.0, *ends], sums)) / (ends - first)
    return found


def _splits(systems: Sequence[tuple[Scenario, int]], devices: Mapping[str, float]) -> pd.DataFrame:
    """Rows of alpha against offloaded steps, for every system, batch and device, on one grid of alpha."""
    latency = np.array(list(devices.values()))
    bounds = [alpha_range(scenario, latency) for scenario, _ in systems]
    low = min(float(ends[0][ends[0] > 0].min(initial=np.inf)) for ends in bounds)
    high = max(float(ends[1][np.isfinite(ends[1])].max(initial=0.0)) for ends in bounds)
    alphas = np.geomspace(low / 2, max(2 * high, low), ALPHAS)
    tables = []
    for scenario, batch in systems:
        for name, step in devices.items():
            n, _ = best_split(scenario, alphas, step - edge_step_latency(scenario, batch))
            facts = {"device": name, "gpus": scenario.gpus, "batch": batch, "alpha": alphas}
            tables.append(pd.DataFrame({**facts, "offloaded_steps": scenario.total_steps - n}))
    return pd.concat(tables, ignore_index=True)


def _batches(scenario: Scenario) -> list[int]:
    most = scenario.max_batch
    return sorted({max(1, most // 4), max(1, most // 2), most})


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the items, evenly spaced, both ends among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def shrinking_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Beyond: what a shrinking batch adds to a case's plans, and a search for it on top; tidy, seconds in all."""
    wide = rows.pivot_table(index=["users", "case"], columns="method", values=["fixed_batch", "shrinking_batch"])
    fixed, shrinks = wide["fixed_batch"], wide["shrinking_batch"]
    possible = fixed["exact"] - rows.groupby(["users", "case"])["all_local"].first()
    more = {
        "proposed": shrinks["drl"] - fixed["drl"],
        "optimum": shrinks["exact"] - fixed["exact"],
        "search": shrinks[SEARCHED] - shrinks["exact"],
    }
    parts = [pd.DataFrame({"plan": plan, "more_s": value, "possible": possible}) for plan, value in more.items()]
    found = pd.concat(parts).reset_index()
    return found.assign(more_ms_per_user=1e3 * found["more_s"] / found["users"])


def latency_by_gpus(rows: pd.DataFrame, goal_s: float | None) -> pd.DataFrame:
    """Beyond: the optimum's average latency against G, with the middle 80 % of cases, and the wanted one (or none)."""
    groups = rows.groupby("gpus")["mean_latency_s"]
    found = pd.DataFrame({"mean": groups.mean(), "low": groups.quantile(0.1), "high": groups.quantile(0.9)})
    return found.reset_index().assign(goal_s=np.nan if goal_s is None else goal_s)


def _ends_and_middle(devices: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The slowest, the middle and the fastest; devices are given from slow to fast."""
    return [devices[i] for i in sorted({0, len(devices) // 2, len(devices) - 1})]
