"""From measurements to a PAI curve: points with intervals, N-hat, the fitted sigmoid. Paper section 3.4.2, Fig. 4.

Intervals are bootstrapped over clusters, the (prompt, seed) pairs: the pictures of one are not independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError
from ..fitting.pai import LEVEL, THRESHOLD, PaiCurve, PaiFit, fit_draws, fit_pai
from ..fitting.schemas import PaiFitRecord, PaiPoint
from .pai import PaiConstants, kappa_of, pai

DRAWS = 500


@dataclass(frozen=True)
class Scores:
    """Means over the users.

    Attributes:
        local_steps: n, ascending, shape (splits,).
        clip: shape (clusters, splits).
        lpips: LPIPS-bar, shape (clusters, splits).
        users: how many.
    """

    local_steps: Ints
    clip: Floats
    lpips: Floats
    users: int


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What the scores say.

    Attributes:
        local_steps: n, shape (splits,).
        means: clip, lpips and pai -> value at each n, shape (splits,).
        intervals: the same -> 95 % interval, shape (2, splits); empty for one cluster, which says nothing of others.
        constants: of eq. (1), kappa included.
        fit: of PAI against n.
        draws: the curve fitted to each bootstrap draw; empty for one cluster.
        min_local_steps: N-hat.
        images: pictures per n.
    """

    local_steps: Ints
    means: Mapping[str, Floats]
    intervals: Mapping[str, Floats]
    constants: PaiConstants
    fit: PaiFit
    draws: Sequence[PaiCurve]
    min_local_steps: int
    images: int

    def points(self) -> list[PaiPoint]:
        """For the curve's file."""
        splits = enumerate(self.local_steps)
        return [PaiPoint(local_steps=int(n), images=self.images, **self._row(i)) for i, n in splits]

    def _row(self, i: int) -> dict[str, Any]:
        """Means and intervals of point i, under the names of `PaiPoint`."""
        means = {name: float(value[i]) for name, value in self.means.items()}
        without: dict[str, Any] = {f"{name}_ci": None for name in means}
        return means | without | {f"{name}_ci": ends[:, i].tolist() for name, ends in self.intervals.items()}

    def fit_record(self) -> PaiFitRecord:
        """For the curve's file."""
        names = ("steepness", "midpoint", "amplitude", "offset")
        drawn = [[getattr(curve, name) for name in names] for curve in self.draws]
        ends = np.quantile(drawn, LEVEL, axis=0).T.tolist()[: self.fit.parameters] if drawn else []
        record: dict[str, Any] = {name: getattr(self.fit.curve, name) for name in names}
        record |= dict(zip((f"{name}_ci" for name in names), [*ends, *[None] * (4 - len(ends))], strict=True))
        return PaiFitRecord(**record, r2=self.fit.r2, draws=drawn or None)

    def warnings(self) -> list[str]:
        """What the user of the curve should know."""
        found, curve = [], self.fit.curve
        if not self.draws:
            found.append("one prompt and seed alone tell nothing of how others vary: no intervals, no draws for plan")
        at = float(curve.sigmoid(self.min_local_steps))
        if at < 0.5 and curve.steepness > 0:
            found.append(
                f"F(N-hat) = {at:.2f} < 1/2: left of the midpoint {curve.midpoint:.1f} the split objective is not "
                "concave (Proposition 2 does not hold there); plan compares the ends as well"
            )
        if self.fit.r2 is None or self.fit.r2 < 0.9:
            found.append(f"the sigmoid describes the points poorly: R2 = {self.fit.r2 or 0:.2f}")
        if curve.steepness <= 0:
            found.append("PAI does not rise with local steps: plan refuses this curve")
        return found


def scores_of(table: Mapping[str, Sequence[Any]]) -> Scores:
    """Means over the users of a table with columns prompt, seed, local_steps, user, clip, lpips.

    Raises:
        InputError: where a column or a picture is missing.
    """
    import pandas as pd

    frame = pd.DataFrame({name: table[name] for name in ("prompt", "seed", "local_steps", "user", "clip", "lpips")})
    users = int(frame["user"].nunique())
    cells = frame.groupby(["prompt", "seed", "local_steps"], sort=True)[["clip", "lpips"]]
    means, sizes = cells.mean().unstack(), cells.size().unstack()
    if means.isna().to_numpy().any() or not (sizes == users).to_numpy().all():
        raise InputError("found prompts and seeds without some of the splits or users, accepted: all of them for each")
    local_steps = np.array(sizes.columns, np.int64)
    return Scores(local_steps, means["clip"].to_numpy(float), means["lpips"].to_numpy(float), users)


def analyse(
    scores: Scores,
    total_steps: int,
    constants: PaiConstants = PaiConstants(),  # noqa: B008 - frozen
    *,
    own_kappa: bool = False,
    personal: float = THRESHOLD,
    two_parameter: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Analysis:
    """Points, intervals, fit and N-hat.

    Args:
        scores: of a sweep with three splits or more.
        total_steps: N.
        constants: of eq. (1).
        own_kappa: take kappa = 1 / CLIP(N) instead of the constants' own.
        personal: LPIPS-bar that N-hat's interval must lie above.
        two_parameter: keep to the paper's form.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        InputError: for an own kappa where CLIP(N) is not above 0.
    """
    clip, lpips = scores.clip.mean(axis=0), scores.lpips.mean(axis=0)  # (splits,)
    if own_kappa:
        constants = replace(constants, kappa=kappa_of(float(clip[-1])))
    drawn = bootstrap(scores, constants, draws, seed) if len(scores.clip) > 1 else {}
    intervals = {name: np.quantile(values, LEVEL, axis=0) for name, values in drawn.items()}
    means = {"clip": clip, "lpips": lpips, "pai": pai(clip, lpips, constants)}
    fit = fit_pai(scores.local_steps, means["pai"], two_parameter=two_parameter)
    return Analysis(
        local_steps=scores.local_steps,
        means=means,
        intervals=intervals,
        constants=constants,
        fit=fit,
        draws=fit_draws(scores.local_steps, drawn["pai"], fit) if drawn else [],
        min_local_steps=min_local_steps(
            scores.local_steps, intervals["lpips"][0] if intervals else lpips, personal, total_steps
        ),
        images=scores.users * len(scores.clip),
    )


def bootstrap(scores: Scores, constants: PaiConstants, draws: int, seed: int) -> dict[str, Floats]:
    """Means over clusters drawn with replacement: clip, lpips and pai -> shape (draws, splits)."""
    weights = cluster_weights(len(scores.clip), draws, seed)
    clip, lpips = weights @ scores.clip, weights @ scores.lpips
    return {"clip": clip, "lpips": lpips, "pai": pai(clip, lpips, constants)}


def cluster_weights(clusters: int, draws: int, seed: int) -> Floats:
    """Weights of a mean over clusters drawn with replacement, shape (draws, clusters); each row sums to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), draws) / clusters


def min_local_steps(local_steps: Ints, lpips_low: Floats, personal: float, total_steps: int) -> int:
    """N-hat: the smallest n whose LPIPS-bar interval lies above a threshold, else N.

    Args:
        local_steps: n, ascending, shape (splits,).
        lpips_low: lower end of each interval, shape (splits,).
        personal: the threshold.
        total_steps: N.
    """
    above = local_steps[lpips_low > personal]
    return int(above[0]) if above.size else total_steps
