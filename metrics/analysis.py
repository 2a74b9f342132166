"""From measurements to a PAI curve: points with intervals, N-hat, and the fitted sigmoid. Paper section 3.4.2, Fig. 4.

A *group* is one prompt with one seed: its pictures all begin with the same noise, so that they are not independent of
each other. Intervals are therefore bootstrapped over groups, never over single pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError, shown
from ..fitting.pai import LEVEL, THRESHOLD, PaiCurve, PaiFit, fit_draws, fit_pai
from ..fitting.schemas import PaiFitRecord, PaiPoint
from .pai import PaiConstants, kappa_of, lpips_bar, pai

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 500
"""Bootstrap draws."""


@dataclass(frozen=True)
class GroupScores:
    """What the metrics say of every group at every split.

    Attributes:
        local_steps: n of every split, ascending, shape (splits,).
        clip: mean CLIP similarity over the users, shape (groups, splits).
        lpips: LPIPS-bar, shape (groups, splits).
        users: number of users.
    """

    local_steps: Ints
    clip: Floats
    lpips: Floats
    users: int


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What follows from the scores.

    Attributes:
        local_steps: n of every split, shape (splits,).
        means: "clip", "lpips" and "pai" -> mean over the groups at each n, shape (splits,).
        intervals: the same names -> 95 % interval at each n, shape (2, splits); empty for a single group, which does
            not show how groups vary.
        constants: constants of eq. (1), with the kappa that was used.
        fit: sigmoid fitted to PAI against n.
        draws: curves fitted to the bootstrap draws; empty for a single group.
        min_local_steps: N-hat.
        images: number of pictures per n.
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
        """The points as the curve's file keeps them."""
        return [self._point(i) for i in range(len(self.local_steps))]

    def _point(self, i: int) -> PaiPoint:
        return PaiPoint(
            local_steps=int(self.local_steps[i]),
            clip=float(self.means["clip"][i]),
            lpips=float(self.means["lpips"][i]),
            pai=float(self.means["pai"][i]),
            clip_ci=self._interval("clip", i),
            lpips_ci=self._interval("lpips", i),
            pai_ci=self._interval("pai", i),
            images=self.images,
        )

    def _interval(self, name: str, i: int) -> list[float] | None:
        ends: list[float] | None = self.intervals[name][:, i].tolist() if self.intervals else None
        return ends

    def fit_record(self) -> PaiFitRecord:
        """The fit as the curve's file keeps it."""
        curve = self.fit.curve
        drawn = [[one.steepness, one.midpoint, one.amplitude, one.offset] for one in self.draws]
        ends: list[Any] = np.quantile(drawn, LEVEL, axis=0).T.tolist()[: self.fit.parameters] if drawn else []
        steepness_ci, midpoint_ci, amplitude_ci, offset_ci = ends + [None] * (4 - len(ends))
        return PaiFitRecord(
            steepness=curve.steepness,
            midpoint=curve.midpoint,
            amplitude=curve.amplitude,
            offset=curve.offset,
            steepness_ci=steepness_ci,
            midpoint_ci=midpoint_ci,
            amplitude_ci=amplitude_ci,
            offset_ci=offset_ci,
            r2=self.fit.r2,
            draws=drawn or None,
        )

    def warnings(self) -> Iterator[str]:
        """What the user of the curve should know, one sentence each."""
        curve = self.fit.curve
        if not self.draws:
            yield "one prompt and seed alone tell nothing of how others vary: no intervals, no draws for plan"
        share = float(curve.sigmoid(self.min_local_steps))
        if share < 0.5 and curve.steepness > 0:
            yield (
                f"F(N-hat) = {share:.2f} < 1/2: left of the midpoint {curve.midpoint:.1f} the split objective is not "
                "concave (Proposition 2 does not hold there); plan compares the ends as well"
            )
        if self.fit.r2 is None or self.fit.r2 < 0.9:
            yield f"the sigmoid describes the points poorly: R2 = {self.fit.r2 or 0:.2f}"
        if curve.steepness <= 0:
            yield "PAI does not rise with local steps: plan refuses this curve"


def scores_of(table: Mapping[str, Sequence[Any]]) -> GroupScores:
    """The scores of a table of measurements, one row per picture.

    Args:
        table: columns prompt, seed, local_steps, user, clip, and lpips: the picture's mean LPIPS to those of the other
            users.

    Raises:
        InputError: where a picture is missing, naming it.
    """
    import pandas as pd

    frame = pd.DataFrame({name: table[name] for name in ("prompt", "seed", "local_steps", "user", "clip", "lpips")})
    _check_whole(frame)
    pictures = frame.groupby(["prompt", "seed", "local_steps"], sort=True)
    clip, lpips = pictures["clip"].mean().unstack(), pictures["lpips"].agg(lpips_bar).unstack()
    users = int(frame["user"].nunique())
    return GroupScores(np.array(clip.columns, np.int64), clip.to_numpy(float), lpips.to_numpy(float), users)


def _check_whole(frame: "pd.DataFrame") -> None:
    """Refuse a table in which a group lacks a split or a user, naming the first one that is missing."""
    groups = frame[["prompt", "seed"]].drop_duplicates().itertuples(index=False)
    splits, users = sorted(frame["local_steps"].unique()), list(frame["user"].unique())
    there = set(zip(frame["prompt"], frame["seed"], frame["local_steps"], frame["user"], strict=True))
    for (prompt, seed), n, user in product(groups, splits, users):
        if (prompt, seed, n, user) not in there:
            raise InputError(
                f"prompt {shown(prompt)}, seed {seed}: found no row for local_steps {n} and user {shown(user)}, "
                "accepted: one row for each split and user; add it, or leave out this prompt and seed"
            )


def analyse(
    scores: GroupScores,
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
        scores: scores at three splits or more.
        total_steps: N.
        constants: constants of eq. (1).
        own_kappa: whether kappa is 1 / CLIP(N) instead of the one in `constants`.
        personal: LPIPS-bar that N-hat's interval must lie above.
        two_parameter: whether only the paper's form is fitted, without amplitude and offset.
        draws: number of bootstrap draws.
        seed: seed of the bootstrap.

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
    lpips_low = intervals["lpips"][0] if intervals else lpips
    return Analysis(
        local_steps=scores.local_steps,
        means=means,
        intervals=intervals,
        constants=constants,
        fit=fit,
        draws=fit_draws(scores.local_steps, drawn["pai"], fit) if drawn else [],
        min_local_steps=min_local_steps(scores.local_steps, lpips_low, personal, total_steps),
        images=scores.users * len(scores.clip),
    )


def bootstrap(scores: GroupScores, constants: PaiConstants, draws: int, seed: int) -> dict[str, Floats]:
    """Means over groups drawn with replacement: "clip", "lpips" and "pai" -> shape (draws, splits)."""
    weights = group_weights(len(scores.clip), draws, seed)
    clip, lpips = weights @ scores.clip, weights @ scores.lpips
    return {"clip": clip, "lpips": lpips, "pai": pai(clip, lpips, constants)}


def group_weights(groups: int, draws: int, seed: int) -> Floats:
    """The weights of means over groups drawn with replacement, shape (draws, groups); each row sums to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), draws) / groups


def min_local_steps(local_steps: Ints, lpips_low: Floats, personal: float, total_steps: int) -> int:
    """N-hat: the smallest n whose LPIPS-bar interval lies above a threshold; N where there is none.

    Args:
        local_steps: n of every split, ascending, shape (splits,).
        lpips_low: lower end of the interval at each n, shape (splits,).
        personal: threshold.
        total_steps: N.
    """
    above = local_steps[lpips_low > personal]
    return int(above[0]) if above.size else total_steps
