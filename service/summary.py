"""What a way to decide was worth over some worlds, beside all local and hindsight."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..common.arrays import Floats
from ..common.errors import InputError, nearest, shown
from ..optimizer.model.servers import Fleet
from .runs import Run

ALL_LOCAL, HINDSIGHT = "all-local", "hindsight"
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
ROW_COLUMNS = {"mean_pai": "pai", "qoe_per_user": "qoe"}
"""The column of the requests that a total is a mean of, where it is not latency_s."""


@dataclass(frozen=True, kw_only=True)
class ServiceTotals:
    """The totals of one way to decide; the keys of `--json`.

    Attributes:
        qoe_per_user: mean QoE of a request, seconds.
        gain_per_user: its rise over all local, seconds.
        share_of_hindsight: that rise as a share of what hindsight gains; None where hindsight is not known.
        mean_latency_s: mean time from request to image, seconds.
        p50_latency_s: its median.
        p95_latency_s: its 95th percentile.
        p99_latency_s: its 99th percentile.
        mean_pai: mean PAI of the images; 0 for what was given up.
        share_granted: share of the requests that offloaded.
        gpu_use: share of the time with a step under way at the edge; with several servers their mean.
        radio_use: share of the time with something to send; likewise.
        share_given_up: share of the requests that their users gave up.
        gain_ci: 95 % interval of gain_per_user over the worlds, seconds; None for one world.
    """

    qoe_per_user: float
    gain_per_user: float
    share_of_hindsight: float | None
    mean_latency_s: float
    p50_latency_s: float
    p95_latency_s: float
    p99_latency_s: float
    mean_pai: float
    share_granted: float
    gpu_use: float
    radio_use: float
    share_given_up: float
    gain_ci: tuple[float, float] | None


def totals(runs: Sequence[Run], local: Sequence[Run], best: Sequence[Run] | None) -> ServiceTotals:
    """The totals of one way to decide over worlds.

    Args:
        runs: its run of every world.
        local: the same worlds with every request denied.
        best: the same worlds with hindsight; None where it is not known.
    """
    gains, latency = _gains(runs, local), _column(runs, "latency_s")
    p50, p95, p99 = (float(value) for value in np.quantile(latency, [0.5, 0.95, 0.99]))
    seconds = sum(run.duration_s for run in runs)
    possible = float(np.sum(_gains(best, local))) if best else 0.0
    return ServiceTotals(
        qoe_per_user=float(np.mean(_column(runs, "qoe"))),
        gain_per_user=float(np.sum(gains) / latency.size),
        share_of_hindsight=float(np.sum(gains) / possible) if possible > 0 else None,
        mean_latency_s=float(np.mean(latency)),
        p50_latency_s=p50,
        p95_latency_s=p95,
        p99_latency_s=p99,
        mean_pai=float(np.mean(_column(runs, "pai"))),
        share_granted=float(np.mean(_column(runs, "granted"))),
        gpu_use=sum(_mean(run.edge_busy_s) for run in runs) / seconds,
        radio_use=sum(_mean(run.radio_busy_s) for run in runs) / seconds,
        share_given_up=float(np.mean(_column(runs, "given_up"))),
        gain_ci=_interval(gains / [len(run.rows["qoe"]) for run in runs]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def servers_used(fleet: Fleet, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What each of several servers did over worlds: requests, their share of all, and use of its GPUs and radio."""
    seconds, chosen = sum(run.duration_s for run in runs), np.concatenate([run.rows["server"] for run in runs])
    rows = []
    for m, server in enumerate(fleet.servers):
        requests = int(np.count_nonzero(chosen == server.name))
        rows.append({
            "server": server.name,
            "requests": requests,
            "share": requests / chosen.size,
            "gpu_use": sum(run.edge_busy_s[m] for run in runs) / seconds,
            "radio_use": sum(run.radio_busy_s[m] for run in runs) / seconds,
        })  # fmt: skip
    return rows


def _column(runs: Sequence[Run], name: str) -> Floats:
    return np.concatenate([run.rows[name] for run in runs]).astype(float)


def _gains(runs: Sequence[Run], local: Sequence[Run]) -> Floats:
    """The summed rise of the QoE over all local, of every world."""
    pairs = zip(runs, local, strict=True)
    return np.array([float(np.sum(_column([run], "qoe") - _column([own], "qoe"))) for run, own in pairs])


def _interval(means: Floats) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean of the worlds."""
    if means.size < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, means.size - 1) * np.std(means, ddof=1) / np.sqrt(means.size))
    return float(np.mean(means)) - half, float(np.mean(means)) + half


@dataclass(frozen=True)
class Goal:
    """What a service should keep, such as p95_latency_s < 20.

    Attributes:
        name: field of `ServiceTotals`.
        sign: one of `COMPARISONS`.
        bound: number to compare with.
    """

    name: str
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.bound:g}"

    def held(self, reached: ServiceTotals) -> bool:
        """Whether the totals keep the goal; a total that is not known does not."""
        value = getattr(reached, self.name)
        return value is not None and bool(COMPARISONS[self.sign](value, self.bound))

    def share(self, runs: Sequence[Run]) -> float | None:
        """Share of the requests that keep it on their own; None for totals that no request has."""
        if not self.name.endswith("latency_s") and self.name not in ROW_COLUMNS:
            return None
        return float(
            np.mean(COMPARISONS[self.sign](_column(runs, ROW_COLUMNS.get(self.name, "latency_s")), self.bound))
        )


def parse_goal(text: str) -> Goal:
    """Read a goal.

    Raises:
        InputError: for another form, or a total that is not known.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*", text)
    known = [field.name for field in fields(ServiceTotals) if field.name != "gain_ci"]
    try:
        bound = float(found[3]) if found else np.nan
    except ValueError:
        bound = np.nan
    if not found or not np.isfinite(bound):
        raise InputError(f"--goal: found {shown(text)}, accepted: such as 'p95_latency_s < 20', with <, <=, > or >=")
    if found[1] not in known:
        raise InputError(f"--goal: found {shown(found[1])}, accepted: a total of --json; {nearest(found[1], known)}")
    return Goal(found[1], found[2], bound)


def cost_per_image(runs: Sequence[Run], gpu_hour: float) -> float:
    """Cost of the GPUs while the service ran, for every image that somebody got; in the unit of `gpu_hour`."""
    images = sum(int(np.count_nonzero(~run.rows["given_up"].astype(bool))) for run in runs)
    return float(gpu_hour * sum(_gpu_seconds(run) for run in runs) / 3600 / max(images, 1))


def _gpu_seconds(run: Run) -> float:
    """GPUs times seconds, from the GPUs that the rounds saw."""
    return float(np.mean(run.rows["gpus"].astype(float)) * run.duration_s) if len(run.rows["gpus"]) else 0.0


def falls_behind(run: Run, max_batch: int) -> bool:
    """Whether images pile up at the edge: far more than B_max, and half as many again as earlier."""
    met = np.asarray(run.rows["in_flight_met"], float)
    quarter = met.size // 4
    if not quarter:
        return False
    middle, last = float(np.mean(met[quarter : 2 * quarter])), float(np.mean(met[-quarter:]))
    return last > 5 * max_batch and last > 1.5 * middle


Methods = Mapping[str, Sequence[Run]]
"""Name of a way to decide -> its run of every world."""
