"""Beyond the paper: value against each server's memory for models, the trade-off of storage and personalisation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ...common.errors import counted
from ...optimizer.methods.ilp import OPTIMAL
from ...optimizer.model.qoe import Scenario
from ...optimizer.model.servers import SharedModel
from ...optimizer.planner import MEMORY, PlacementPoint, knee, sweep_memory
from ..basis.checks import FINDING, TINY, Check, judged
from ..basis.definitions import Exhibit, Experiment, rows_as_they_are
from ..basis.fleets import WIDE_HZ, draw_fleet, draw_users, later
from ..basis.look import asides, framed, from_zero, legend_below, line_looks, mean_line
from ..basis.scoring import Row
from ..basis.setup import ROUND_USERS, Setup

CLUSTERS = 6
"""Clusters of users, each with a cluster-wide model that was trained for it."""
MODEL_GB, ADAPTER_GB = 4, 1
"""Size of a whole model, and of an adapter of one, as in the example of `plan init`."""
ADAPTERS, OWN = "adapters of one base", "models of their own"
MEMORY_GB = {
    ADAPTERS: (0, *range(MODEL_GB, MODEL_GB + CLUSTERS * ADAPTER_GB + 1, ADAPTER_GB)),
    OWN: tuple(range(0, CLUSTERS * MODEL_GB + 1, MODEL_GB)),
}
"""No memory, and the memories at which one more model fits."""
METHOD = "assign-exact"


def rows_of(setup: Setup, servers: int, number: int) -> Iterator[Row]:
    """One case at this number of servers: the optimal plan at every memory, for both kinds of models."""
    size = ROUND_USERS, servers
    users = draw_users(setup, CLUSTERS, size, number)
    for kind, models in model_kinds(setup.scenario).items():
        fleet = draw_fleet(setup, models, size, number, bandwidth_hz=WIDE_HZ)
        points = sweep_memory(fleet, users, MEMORY_GB[kind], METHOD, **setup.choices.options_of(METHOD))
        bend, facts = knee(points, MEMORY), {"servers": servers, "case": number, "models": kind}
        yield from (facts | _row(point, points[0].objective) | {"knee": point is bend} for point in points)


def _row(point: PlacementPoint, local: float) -> Row:
    """A memory with the gain over all local, which is what no memory gives."""
    facts = {"memory_gb": point.memory_gb, "gain_per_user": (point.objective - local) / ROUND_USERS}
    means = {"mean_latency_s": point.mean_latency_s, "mean_pai": point.mean_pai}
    return {**facts, "hosted": point.hosted, "granted": point.granted, **means, "note": point.note}


def model_kinds(scenario: Scenario) -> dict[str, list[SharedModel]]:
    """A model for each cluster: an adapter of a base that was trained for nobody, or a model of its own."""
    shared: dict[str, Any] = {"pai": scenario.pai, "pai_others": later(scenario)}
    base = SharedModel(
        name="base", size_bytes=1e9 * MODEL_GB, clusters=(), pai=shared["pai_others"], pai_others=shared["pai_others"],
        base=CLUSTERS,
    )  # fmt: skip
    names = [(f"cluster-{c}", c) for c in range(CLUSTERS)]
    adapters = [
        SharedModel(name=name, size_bytes=1e9 * ADAPTER_GB, clusters=(c,), base=CLUSTERS, **shared) for name, c in names
    ]
    own = [SharedModel(name=name, size_bytes=1e9 * MODEL_GB, clusters=(c,), base=c, **shared) for name, c in names]
    return {ADAPTERS: [*adapters, base], OWN: own}


def draw(table: pd.DataFrame) -> Any:
    """The mean gain per user against memory, a line for each number of servers, with the knees of these lines."""
    with framed(rows=2, height=6.4) as (figure, axes):
        for axis, kind in zip(axes, (ADAPTERS, OWN), strict=True):
            rows = table[table["models"] == kind]
            counts = sorted(rows["servers"].unique())
            places = asides(rows["memory_gb"], len(counts))
            for count, look, aside in zip(counts, line_looks(), places, strict=False):
                label = f"{counted(int(count), 'server')} (dotted: its knee)"
                mean_line(
                    axis, rows[rows["servers"] == count], "memory_gb", "gain_per_user", aside, label=label, **look
                )
                bend = knee_of_means(rows[rows["servers"] == count])
                if bend is not None:
                    axis.axvline(bend + aside, color=look["color"], linestyle=":", linewidth=1.2)
            axis.set(title=kind, xlabel="memory of every server, GB", ylabel="gain over all local\nper user, s")
            axis.set_xticks(sorted(rows["memory_gb"].unique()))
            from_zero(axis, 1e-2)
    return legend_below(figure, columns=1)


def knee_of_means(rows: pd.DataFrame) -> int | None:
    """The memory at the knee of the mean gain, GB; None where it bends nowhere."""
    mean = rows.groupby("memory_gb")["gain_per_user"].mean()
    points = [
        PlacementPoint(gb, gain, 1.0, 0, 0, 0.0, 0.0)
        for gb, gain in zip(mean.index.tolist(), mean.tolist(), strict=True)
    ]
    bend = knee(points, MEMORY)
    return None if bend is None else bend.memory_gb


def judge(table: pd.DataFrame) -> list[Check]:
    """Whether more memory is worth more, with falling returns, for both kinds of models; and where the knees are."""
    kinds = [(kind, table[table["models"] == kind]) for kind in (ADAPTERS, OWN)]
    return [
        _never_less(table),
        *(_falling(rows, kind) for kind, rows in kinds),
        *(_knees(rows, kind) for kind, rows in kinds),
    ]


def returns(rows: pd.DataFrame) -> pd.DataFrame:
    """What a further GB pays per user from each memory to the next; a line for each case, a column for each step."""
    gain = rows.pivot_table(index=["servers", "case"], columns="memory_gb", values="gain_per_user")
    return gain.diff(axis=1).iloc[:, 1:].div(np.diff(gain.columns), axis="columns")


def _never_less(table: pd.DataFrame) -> Check:
    steps = np.concatenate([returns(rows).to_numpy().ravel() for _, rows in table.groupby("models")])
    proven = int(table["note"].str.startswith(OPTIMAL).sum())
    return Check(
        "More memory is never worth less.",
        judged([bool((steps >= -TINY).all())]),
        f"the optimum rises at {(steps > TINY).mean():.1%} of {len(steps)} steps of memory and falls at "
        f"{(steps < -TINY).mean():.1%}; {METHOD} proves {proven} of {len(table)} plans",
    )


def _falling(rows: pd.DataFrame, kind: str) -> Check:
    """Whether a further GB never pays more than the one before: in single cases, and on average."""
    steps = returns(rows)
    fall = (steps.diff(axis=1).iloc[:, 1:] <= TINY).all(axis=1)
    later_on = (steps.iloc[:, 1:].diff(axis=1).iloc[:, 1:] <= TINY).all(axis=1)
    mean = steps.mean()
    pays = ", ".join(f"up to {gb} GB {seconds:.3g}" for gb, seconds in mean.items())
    return Check(
        f"Value rises with falling returns, {kind}.",
        judged([bool(fall.all()), bool((mean.diff().iloc[1:] <= TINY).all())]),
        f"no GB pays more than one before it in {fall.mean():.1%} of {len(fall)} cases, and beyond the first "
        f"{MODEL_GB} GB in {later_on.mean():.1%}; seconds per user and GB, on average: {pays}",
    )


def _knees(rows: pd.DataFrame, kind: str) -> Check:
    """Where the knee of single cases is, and what is gained there."""
    bends = rows[rows["knee"]]
    most = rows.groupby(["servers", "case"])["gain_per_user"].max()
    at = bends.set_index(["servers", "case"])["gain_per_user"]
    claim = f"The knee, {kind}."
    if at.empty:
        return Check(claim, FINDING, "memory brings nothing in any of these cases")
    places = bends["memory_gb"].value_counts(normalize=True).sort_index()
    where = ", ".join(f"{gb} GB in {share:.0%}" for gb, share in places.items())
    reached = (at / most.loc[at.index]).mean()
    pai = bends["mean_pai"].mean()
    full = rows[rows["memory_gb"] == rows["memory_gb"].max()]
    return Check(
        claim,
        FINDING,
        f"{where} of cases; {reached:.1%} of what all models bring is gained there; mean PAI there {pai:.3f}, with all "
        f"models {full['mean_pai'].mean():.3f}; models held with memory for all: {full['hosted'].mean():.1f}",
    )


MEMORY_SWEEP = Experiment(
    name="memory", points=lambda size: size.memory_servers, cases=lambda size: size.cases, rows=rows_of
)
BEYOND_MEMORY = Exhibit(
    name="beyond_memory",
    title="Beyond: value against memory",
    experiment=MEMORY_SWEEP,
    table=rows_as_they_are,
    draw=draw,
    judge=judge,
)
