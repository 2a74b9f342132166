"""The one scorer: checks a plan, evaluates it, and measures it against all local and the proven optimum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...common.arrays import Floats, Ints
from ...common.errors import InputError, shown
from ..model.qoe import Evaluation, Plan, Scenario, Users, all_local, batch_of, edge_step_latency, objective
from ..model.servers import Fleet, FleetPlan, constraints, evaluate
from .assignment.search import assign
from .exact import captured_share, optimum


class OptimumBeatenError(AssertionError):
    """A plan scored above the exact optimum: a defect in this package, never to be hidden."""


@dataclass(frozen=True)
class Yardstick:
    """What every plan for the same users is measured against.

    Attributes:
        local: evaluation of the plan that denies every request.
        best: an optimal plan; with several servers, the one whose bound is known.
        optimum: evaluation of that plan.
        bound: with several servers, what no plan's objective exceeds, shape (cells,), seconds; None for the optimum's.
    """

    local: Evaluation
    best: Plan
    optimum: Evaluation
    bound: Floats | None = None

    def most(self, users: Users) -> Floats:
        """What no plan's objective exceeds in every cell, shape (cells,), seconds."""
        return objective(users, self.optimum) if self.bound is None else self.bound


@dataclass(frozen=True)
class Totals:
    """The totals of one plan over one cell or several; the keys of `--json`.

    Attributes:
        objective: value of (P1), seconds, waiting included.
        all_local_objective: value of (P1) with every request denied, seconds.
        optimum_objective: largest possible value of (P1); with several servers a proven bound of it; seconds.
        gap: optimum_objective - objective, proven to within gap_rounding_s; seconds.
        captured_share: share of the possible gain over all local that the plan captures.
        granted: number of users who offload.
        edge_step_latency_s: seconds of one edge step at that batch; None where none is granted, for a sum over several
            cells, and for several servers.
        mean_latency_s: mean over the users of the time from request to image, seconds.
        p95_latency_s: 95th percentile of that time, seconds.
        mean_pai: mean over the users of the expected PAI.
        all_local_mean_latency_s: mean latency with every request denied, seconds.
        all_local_p95_latency_s: 95th percentile of latency with every request denied, seconds.
        all_local_mean_pai: mean PAI with every request denied.
        gap_rounding_s: what rounding may hide of the gap, seconds; far below a nanosecond but for huge numbers.
    """

    objective: float
    all_local_objective: float
    optimum_objective: float
    gap: float
    captured_share: float
    granted: int
    edge_step_latency_s: float | None
    mean_latency_s: float
    p95_latency_s: float
    mean_pai: float
    all_local_mean_latency_s: float
    all_local_p95_latency_s: float
    all_local_mean_pai: float
    gap_rounding_s: float


@dataclass(frozen=True)
class Score:
    """What a plan is worth.

    Attributes:
        evaluation: what each user gets.
        yardstick: what the plan is measured against.
        cell: number of each user's cell, shape (users,).
        objective: value of (P1) in every cell, shape (cells,), seconds.
        all_local: value of (P1) with every request denied, shape (cells,), seconds.
        optimum: largest possible value of (P1), or a proven bound of it, shape (cells,), seconds.
        granted: number of granted users, shape (cells,).
        step_latency_s: seconds of one edge step at that batch, shape (cells,); None for several servers.
        rounding: what rounding may hide of the gap, shape (cells,), seconds.
    """

    evaluation: Evaluation
    yardstick: Yardstick
    cell: Ints
    objective: Floats
    all_local: Floats
    optimum: Floats
    granted: Ints
    step_latency_s: Floats | None
    rounding: Floats

    @property
    def gain(self) -> float:
        """The rise of the objective over all local, seconds; by user, so that a denied user's huge alpha cancels."""
        return float((self.evaluation.qoe - self.yardstick.local.qoe).sum())

    @property
    def totals(self) -> Totals:
        """The totals over all cells."""
        granted, one_cell = int(self.granted.sum()), self.granted.size == 1
        step = self._steps()[0] if granted and one_cell else None
        return _totals(self, slice(None), granted, step, self._means())

    @property
    def cells(self) -> list[Totals]:
        """The totals of every cell, by its number."""
        means = {name: values.tolist() for name, values in self._means_by_cell().items()}
        return [
            _totals(self, slice(i, i + 1), int(b), step, {name: values[i] for name, values in means.items()})
            for i, (b, step) in enumerate(zip(self.granted, self._steps(), strict=True))
        ]

    def _steps(self) -> list[float | None]:
        """Seconds of one edge step in every cell; None where nobody is granted, and for several servers."""
        if self.step_latency_s is None:
            return [None] * self.granted.size
        return [float(step) if b else None for b, step in zip(self.granted, self.step_latency_s, strict=True)]

    def _means(self) -> dict[str, float]:
        """Mean and 95th percentile over all users."""
        own, local, one_cell = self.evaluation, self.yardstick.local, np.zeros_like(self.cell)
        return {
            "mean_latency_s": float(np.mean(own.latency_s)),
            "p95_latency_s": float(quantile_by_cell(one_cell, own.latency_s, 0.95)[0]),
            "mean_pai": float(np.mean(own.pai)),
            "all_local_mean_latency_s": float(np.mean(local.latency_s)),
            "all_local_p95_latency_s": float(quantile_by_cell(one_cell, local.latency_s, 0.95)[0]),
            "all_local_mean_pai": float(np.mean(local.pai)),
        }

    def _means_by_cell(self) -> dict[str, Floats]:
        """The same for every cell, shape (cells,)."""
        own, local, cell = self.evaluation, self.yardstick.local, self.cell
        return {
            "mean_latency_s": mean_by_cell(cell, own.latency_s),
            "p95_latency_s": quantile_by_cell(cell, own.latency_s, 0.95),
            "mean_pai": mean_by_cell(cell, own.pai),
            "all_local_mean_latency_s": mean_by_cell(cell, local.latency_s),
            "all_local_p95_latency_s": quantile_by_cell(cell, local.latency_s, 0.95),
            "all_local_mean_pai": mean_by_cell(cell, local.pai),
        }


def yardstick(scenario: Scenario, users: Users, best: Plan | None = None) -> Yardstick:
    """All local and the optimum for these users.

    Args:
        scenario: the system.
        users: users of one or more cells.
        best: an optimal plan, or with several servers one whose bound is known, if there is one already.
    """
    local = evaluate(scenario, users, all_local(scenario, users))
    if isinstance(scenario, Fleet):
        known = best if isinstance(best, FleetPlan) and best.bound_s is not None else assign(scenario, users)
        return Yardstick(local, known, evaluate(scenario, users, known), objective(users, local) + known.bounds)
    best = best or optimum(scenario, users)
    return Yardstick(local, best, evaluate(scenario, users, best))


def score(
    scenario: Scenario, users: Users, plan: Plan, against: Yardstick | None = None, names: Sequence[str] = ()
) -> Score:
    """Check a plan, evaluate it and prove its gap, whichever method made it.

    Args:
        scenario: the system.
        users: users of one or more cells.
        plan: the decisions.
        against: yardstick of these users, if it is known already.
        names: name of every user for messages; none for their numbers.

    Raises:
        InputError: for a plan that breaks a constraint of (P1), naming the user, the value and the bound.
        OptimumBeatenError: for a plan that scores above the optimum.
    """
    check_plan(scenario, users, plan, names)
    against = against or yardstick(scenario, users)
    evaluation, b = evaluate(scenario, users, plan), batch_of(plan, users)
    scored = Score(
        evaluation=evaluation,
        yardstick=against,
        cell=users.cell,
        objective=objective(users, evaluation),
        all_local=objective(users, against.local),
        optimum=against.most(users),
        granted=b,
        step_latency_s=None if isinstance(scenario, Fleet) else edge_step_latency(scenario, b),
        rounding=rounding(scenario, users, evaluation, against),
    )
    _check_optimum(scored)
    return scored


def check_plan(scenario: Scenario, users: Users, plan: Plan, names: Sequence[str] = ()) -> None:
    """Refuse a plan that is none, or that breaks a constraint of (P1); arguments as in `score`.

    Raises:
        InputError: naming the user, the value and the bound.
    """
    _check_arrays(plan, len(users))
    for name, kept in constraints(scenario, users, plan).items():
        if not kept.all():
            user = int(np.argmin(kept))
            who = f"user {shown(names[user])}" if names else f"user number {user}"
            raise InputError(f"{who}: {_violation(name, scenario, users, plan, user)}{_source(name)}")


def _violation(constraint: str, scenario: Scenario, users: Users, plan: Plan, user: int) -> str:
    """What was found at the first user who breaks a constraint, and the bound."""
    n, total = int(plan.local_steps[user]), scenario.total_steps
    if isinstance(scenario, Fleet) and constraint in PLACES:
        return PLACES[constraint]
    if constraint == "C2":
        b = int(batch_of(plan, users)[users.cell[user]])
        return f"found granted as one of {b} in the cell, accepted: max_batch = {scenario.max_batch} at most"
    if constraint == "C3":
        return f"found local_steps {n}, accepted: min_local_steps = {scenario.min_local_steps} to total_steps = {total}"
    return f"found denied with local_steps {n}, accepted: total_steps = {total} for a denied user"


def _source(constraint: str) -> str:
    """Where a constraint stands that is the paper's."""
    return f" ({constraint} of the paper's P1)" if constraint.startswith("C") else ""


PLACES = {
    "reach": "found granted at no server that its link reaches, accepted: one that it reaches, and a model",
    "hosts": "found a model that its server does not host, accepted: one of the server's hosts",
    "C2": "found more users at its server than max_batch, accepted: max_batch at most",
    "memory": "found more models at its server than fit into its memory, accepted: memory_bytes at most",
}
"""What was found where a plan breaks a constraint of several servers."""


def _check_arrays(plan: Plan, users: int) -> None:
    if not isinstance(plan, Plan):
        raise InputError(f"found {shown(plan)}, accepted: a Plan with the arrays granted and local_steps")
    if not isinstance(plan.note, str):
        raise InputError(f"found note {shown(plan.note)}, accepted: text")
    arrays = [("granted", plan.granted, "b"), ("local_steps", plan.local_steps, "iu")]
    if isinstance(plan, FleetPlan):
        arrays += [("server", plan.server, "iu"), ("model", plan.model, "iu")]
    for name, array, kinds in arrays:
        words = "booleans" if kinds == "b" else "whole numbers"
        if not isinstance(array, np.ndarray) or array.shape != (users,) or array.dtype.kind not in kinds:
            kind = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else shown(array)
            raise InputError(f"{name}: found {kind}, accepted: a NumPy array of {words}, one for each of {users} users")


def mean_by_cell(cell: Ints, values: Floats) -> Floats:
    """The mean of users' values in every cell; cell and values (users,), result (cells,)."""
    return np.bincount(cell, weights=values) / np.bincount(cell)


def quantile_by_cell(cell: Ints, values: Floats, share: float) -> Floats:
    """A quantile of users' values in every cell, between two values linearly as `numpy.quantile`; (cells,)."""
    ordered, sizes = values[np.lexsort((values, cell))], np.bincount(cell)
    place = share * (sizes - 1)
    low = np.cumsum(sizes) - sizes + np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.cumsum(sizes) - 1)
    quantile: Floats = ordered[low] + (place % 1) * (ordered[high] - ordered[low])
    return quantile


def rounding(scenario: Scenario, users: Users, evaluation: Evaluation, against: Yardstick) -> Floats:
    """What rounding may hide of the difference between two plans' objectives, shape (cells,), seconds.

    A sum of n numbers is off by n times half a unit in the last place of the sum of their sizes, at most; every user
    brings a few numbers, and the optimum was found by comparing such sums.
    """
    worth = np.abs(users.alpha) * (abs(scenario.pai.offset) + abs(scenario.pai.amplitude))
    longest = np.maximum.reduce([part.latency_s for part in (evaluation, against.local, against.optimum)])
    size = np.bincount(users.cell, weights=worth + longest, minlength=users.cells)
    terms = 16 + 4 * np.bincount(users.cell, minlength=users.cells)
    bound: Floats = np.finfo(float).eps * terms * size + np.finfo(float).tiny
    return bound


def _check_optimum(scored: Score) -> None:
    excess = np.max(scored.objective - scored.optimum - scored.rounding, initial=-np.inf)
    if excess > 0:
        raise OptimumBeatenError(f"a plan beats the exact optimum by {excess:g} s")


def _totals(score: Score, cells: slice, granted: int, step_s: float | None, means: Mapping[str, float]) -> Totals:
    value, local, best = (float(sums[cells].sum()) for sums in (score.objective, score.all_local, score.optimum))
    gap, hidden = best - value, float(score.rounding[cells].sum())
    if -hidden <= gap < 0:  # another plan of the same value, summed in another order
        gap = 0.0
    share = float(captured_share(np.array(best - gap), np.array(local), np.array(best)))
    return Totals(value, local, best, gap, share, granted, step_s, gap_rounding_s=hidden, **means)
