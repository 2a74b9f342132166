"""From measurements to a PAI curve: points with intervals, N-hat, and the fitted sigmoid. Paper section 3.4.2, Fig. 4.

A *group* is one prompt with one seed: its pictures all begin with the same noise. Eq. (1) holds for a group. Of its PAI
the mean over the seeds is a point of Fig. 4b, one for each prompt and split, and the mean over the prompts is a point
of the curve.

The pictures of a group are not independent of each other, and neither are those of a prompt: what one prompt gives
differs from what another gives by more than seeds explain. Intervals are therefore bootstrapped over whole prompts; of
a single prompt they are bootstrapped over its seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.arrays import Floats, Ints
from ..common.errors import InputError, shown
from ..fitting.pai import LEVEL, THRESHOLD, PaiCurve, PaiFit, fit_draws, fit_pai, r_squared
from ..fitting.schemas import PaiFitRecord, PaiPoint
from .pai import PaiConstants, kappa_of, lpips_bar, pai

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 500
"""Bootstrap draws."""
FEW_PROMPTS = 5
"""With fewer prompts than these a bootstrap over them is far too narrow."""


@dataclass(frozen=True)
class GroupScores:
    """What the metrics say of every group at every split.

    Attributes:
        local_steps: n of every split, ascending, shape (splits,).
        clip: mean CLIP similarity over the users, shape (groups, splits).
        lpips: LPIPS-bar, shape (groups, splits).
        prompt: number of every group's prompt, from 0, shape (groups,).
        users: number of users.
    """

    local_steps: Ints
    clip: Floats
    lpips: Floats
    prompt: Ints
    users: int


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What follows from the scores.

    Attributes:
        local_steps: n of every split, shape (splits,).
        prompts: "clip", "lpips" and "pai" -> mean over the seeds of each prompt, shape (prompts, splits): the points of
            Fig. 4.
        means: the same names -> mean over the prompts, shape (splits,).
        intervals: the same names -> 95 % interval of the mean, shape (2, splits); empty for a single group, which does
            not show how groups vary.
        constants: constants of eq. (1), with the kappa that was used.
        fit: sigmoid fitted to the means of PAI against n. Every prompt has one point at each n, so that it is the least
            squares fit to the prompts' points as well.
        draws: curves fitted to the bootstrap draws; empty for a single group.
        min_local_steps: N-hat.
        images: number of pictures per n.
    """

    local_steps: Ints
    prompts: Mapping[str, Floats]
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
            prompt_pai=self.prompts["pai"][:, i].tolist(),
        )

    @property
    def prompt_r2(self) -> float | None:
        """Share of the variance of the prompts' points that the curve explains; None where they do not vary."""
        return r_squared(self.prompts["pai"], self.fit.curve.value(self.local_steps))

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
            prompt_r2=self.prompt_r2,
            draws=drawn or None,
        )

    def warnings(self) -> Iterator[str]:
        """What the user of the curve should know, one sentence each."""
        curve, prompts = self.fit.curve, len(self.prompts["pai"])
        if not self.draws:
            yield "one prompt and seed alone tell nothing of how others vary: no intervals, no draws for plan"
        elif prompts == 1:
            yield "one prompt alone tells nothing of how others vary: its intervals are over its seeds"
        elif prompts < FEW_PROMPTS:
            yield f"{prompts} prompts show little of how prompts vary: the intervals are narrower than 95 % takes"
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
    frame["prompt"] = pd.factorize(frame["prompt"])[0]  # in the table's order
    pictures = frame.groupby(["prompt", "seed", "local_steps"], sort=True)
    clip, lpips = pictures["clip"].mean().unstack(), pictures["lpips"].agg(lpips_bar).unstack()
    return GroupScores(
        local_steps=np.array(clip.columns, np.int64),
        clip=clip.to_numpy(float),
        lpips=lpips.to_numpy(float),
        prompt=clip.index.get_level_values("prompt").to_numpy(np.int64),
        users=int(frame["user"].nunique()),
    )


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
    """Points, intervals, fit and N-hat: eq. (1) for every group first, means after.

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
    if own_kappa:
        constants = replace(constants, kappa=kappa_of(float(over_seeds(scores, scores.clip)[:, -1].mean())))
    groups = {"clip": scores.clip, "lpips": scores.lpips, "pai": pai(scores.clip, scores.lpips, constants)}
    prompts = {name: over_seeds(scores, values) for name, values in groups.items()}
    means = {name: values.mean(axis=0) for name, values in prompts.items()}
    drawn = bootstrap(prompts if len(prompts["pai"]) > 1 else groups, draws, seed)
    intervals = {name: np.quantile(values, LEVEL, axis=0) for name, values in drawn.items()}
    fit = fit_pai(scores.local_steps, means["pai"], two_parameter=two_parameter)
    lpips_low = intervals["lpips"][0] if intervals else means["lpips"]
    return Analysis(
        local_steps=scores.local_steps,
        prompts=prompts,
        means=means,
        intervals=intervals,
        constants=constants,
        fit=fit,
        draws=fit_draws(scores.local_steps, drawn["pai"], fit) if drawn else [],
        min_local_steps=min_local_steps(scores.local_steps, lpips_low, personal, total_steps),
        images=scores.users * len(scores.clip),
    )


def over_seeds(scores: GroupScores, values: Floats) -> Floats:
    """The mean over the seeds of every prompt.

    Args:
        scores: scores whose groups the values belong to.
        values: a value of every group at every split, shape (groups, splits).

    Returns:
        shape (prompts, splits).
    """
    member = scores.prompt == np.arange(scores.prompt.max() + 1)[:, None]  # (prompts, groups)
    means: Floats = member @ values / member.sum(axis=1, keepdims=True)
    return means


def bootstrap(units: Mapping[str, Floats], draws: int, seed: int) -> dict[str, Floats]:
    """Means over units drawn with replacement; empty for a single unit.

    Args:
        units: name -> value of every independent unit at every split, shape (units, splits).
        draws: number of draws.
        seed: random seed; all names share the draws.

    Returns:
        name -> shape (draws, splits).
    """
    (count,) = {len(values) for values in units.values()}
    if count == 1:
        return {}
    weights = draw_weights(count, draws, seed)
    return {name: weights @ values for name, values in units.items()}


def draw_weights(units: int, draws: int, seed: int) -> Floats:
    """The weights of means over units drawn with replacement, shape (draws, units); each row sums to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(units, np.full(units, 1 / units), draws) / units


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
