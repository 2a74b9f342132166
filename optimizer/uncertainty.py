"""What the uncertainty of a measured PAI curve makes of a plan: the plan re-scored, and made again, on drawn curves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..common.arrays import Floats
from ..fitting.pai import LEVEL, PaiCurve
from .methods.scoring import score
from .model.qoe import Plan, Scenario, Users


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """95 % intervals over bootstrap draws of the PAI curve; the keys of `--uncertainty --json`.

    Attributes:
        draws: number of drawn curves that rise.
        left_out: number of drawn curves that do not rise, for which nothing can be planned.
        objective_ci: interval of this plan's objective, seconds.
        optimum_ci: interval of the optimum for the drawn curve, seconds.
        regret_s: mean of optimum - objective over the draws, which knowing the curve would gain; seconds.
        regret_high_s: 97.5 % quantile of optimum - objective, seconds.
        granted_ci: interval of the number of users that the optimum grants.
    """

    draws: int
    left_out: int
    objective_ci: tuple[float, float]
    optimum_ci: tuple[float, float]
    regret_s: float
    regret_high_s: float
    granted_ci: tuple[float, float]


def uncertainty(scenario: Scenario, users: Users, plan: Plan, curves: Sequence[PaiCurve]) -> Uncertainty | None:
    """Re-score a plan on every drawn curve, and plan again for it; alpha stays.

    Args:
        scenario: system that the plan was made for.
        users: users of one or more cells, whose objectives are summed.
        plan: the decisions.
        curves: bootstrap draws of the scenario's PAI curve.

    Returns:
        None where none of the curves rises.
    """
    rising = [curve for curve in curves if curve.steepness > 0 and curve.amplitude >= 0]
    if not rising:
        return None
    rows = np.array([_on(replace(scenario, pai=curve), users, plan) for curve in rising])  # (draws, 3)
    value, best, granted = rows.T
    return Uncertainty(
        draws=len(rising),
        left_out=len(curves) - len(rising),
        objective_ci=_interval(value),
        optimum_ci=_interval(best),
        regret_s=float(np.mean(best - value)),
        regret_high_s=float(np.quantile(best - value, LEVEL[1])),
        granted_ci=_interval(granted),
    )


def _on(scenario: Scenario, users: Users, plan: Plan) -> tuple[float, float, int]:
    """The plan's objective, the optimum, and the number of users that the optimum grants."""
    scored = score(scenario, users, plan)
    totals = scored.totals
    return totals.objective, totals.optimum_objective, int(scored.yardstick.best.granted.sum())


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, LEVEL)
    return float(low), float(high)
