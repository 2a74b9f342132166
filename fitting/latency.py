"""The latency of one denoising step against the batch size, and its fit to measurements.

k: slope, s/image. h: intercept, s. b: batch size, images. L(b): seconds for one step of the whole batch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..common.arrays import Bools, Floats

BOOTSTRAP_DRAWS = 1000
MODEL_ERROR = 0.005
"""Relative error of the model itself; each median's own is added to it, so that no single point dominates the line."""
STRETCHES = 4
"""Stretches that the bootstrap cuts a run into. They are few and long, because a shared machine's speed wanders over
tens of seconds, so that shorter stretches would not be independent."""
WIDENING = 3.182 / 1.960 * math.sqrt(STRETCHES / (STRETCHES - 1))
"""Factor by which the spread of the bootstrap draws is too small: the ratio of the 97.5 % quantiles of Student's t with
STRETCHES - 1 degrees of freedom and of the normal distribution, times a root that corrects the bias of the standard
deviation."""
LEAST_VISITS = 8
"""Fewest visits from which a bootstrap interval is wide enough to be called one."""
POOR_RESIDUAL = 0.05
"""Relative residual above which a fit is worth a warning."""


@dataclass(frozen=True)
class LatencyModel:
    """L(b) = max(floor, k b + h), paper section 3.3; the floor describes GPUs on which small batches take equally long.

    Attributes:
        slope_s: k, seconds per image, >= 0.
        intercept_s: h, seconds, >= 0.
        floor_s: least latency of a step, seconds; 0 for the paper's straight line.
    """

    slope_s: float
    intercept_s: float
    floor_s: float = 0.0

    def step_latency(self, batch: ArrayLike) -> Floats:
        """L(b) for batch sizes of any shape, fractions allowed; seconds."""
        k, b, h = self.slope_s, np.asarray(batch, float), self.intercept_s
        return np.maximum(self.floor_s, k * b + h)


Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LatencyFit:
    """A latency model and how well it describes the points that it was fitted to.

    Attributes:
        model: fitted model.
        slope_ci_s: 95 % interval of k, seconds per image; None where only medians or few visits are known.
        intercept_ci_s: 95 % interval of h, seconds; None where only medians or few visits are known.
        floor_ci_s: 95 % interval of the floor, seconds; None where only medians or few visits are known, and for a
            model without a floor.
        r2: share of the variance of the latencies that the model explains; None where they do not vary.
        max_relative_residual: largest |L(b) - measured| / measured.
        worst_batch: batch size with the largest relative residual.
        held_out_error: mean |L(b) - measured| / measured at batch sizes that were left out of the fit one at a time;
            None below three batch sizes.
    """

    model: LatencyModel
    slope_ci_s: Interval | None = None
    intercept_ci_s: Interval | None = None
    floor_ci_s: Interval | None = None
    r2: float | None
    max_relative_residual: float
    worst_batch: float
    held_out_error: float | None

    def warning(self) -> str | None:
        """A sentence about a poor fit, naming the batch size where it fails; None for a good fit."""
        if self.max_relative_residual <= POOR_RESIDUAL:
            return None
        return (
            f"the fit is poor: at batch {self.worst_batch:g} it is {self.max_relative_residual:.1%} off the measured "
            "latency; measure fewer or other batch sizes, or plan with the sizes that you will use"
        )


def fit_latency(batches: ArrayLike, latencies_s: ArrayLike, weights: ArrayLike | None = None) -> LatencyFit:
    """Fit L(b) to medians by weighted relative least squares with k, h >= 0.

    The model with a floor is taken where Akaike's information criterion is lower for it. The criterion is not corrected
    for few points: with five medians the corrected one would never take a floor.

    Args:
        batches: batch sizes, images, shape (points,), at least two different ones.
        latencies_s: duration of one step of the whole batch, seconds, shape (points,), > 0.
        weights: weight of each point, shape (points,), > 0; None for equal weights.

    Raises:
        ValueError: for fewer than two batch sizes, other shapes, or values that are not finite and > 0.
    """
    b, y = np.asarray(batches, float), np.asarray(latencies_s, float)
    w = np.ones_like(y) if weights is None else np.asarray(weights, float)
    _check_points(b, y, w)
    order = np.argsort(b, kind="stable")
    b, y, w = b[order], y[order], w[order]

    def choose(kept: Bools) -> LatencyModel:
        points = b[kept], y[kept], w[kept]
        return choose_model(*points, lambda model, parameters: aic(model, *points, parameters))

    return _describe(choose, b, y)


def fit_samples(visits_s: Mapping[int, Sequence[Sequence[float]]], seed: int = 0) -> LatencyFit:
    """Fit L(b) to the medians of repeated measurements, with 95 % intervals by bootstrap over stretches of the run.

    The model with a floor is taken where Akaike's corrected criterion over all samples is lower for it. A single sample
    per batch size counts as a median from elsewhere, as in `fit_latency`.

    Args:
        visits_s: batch size -> visits in order of time -> seconds of each step, for at least two batch sizes. Where
            nothing is known of visits, each sample is one.
        seed: seed of the bootstrap.

    Raises:
        ValueError: for a batch size without samples, and as in `fit_latency`.
    """
    sizes = sorted(visits_s)
    groups = [_flat(visits_s[size]) for size in sizes]
    if not all(group.size for group in groups):
        raise ValueError("every batch size needs a sample")
    b, y = np.array(sizes, float), np.array([np.median(group) for group in groups])
    if all(group.size == 1 for group in groups):
        return fit_latency(b, y)
    draws = _bootstrap(visits_s, seed)
    w = 1 / (np.var(draws / y, axis=0) + MODEL_ERROR**2)
    _check_points(b, y, w)
    each_b, each_y = np.repeat(b, [group.size for group in groups]), np.concatenate(groups)

    def choose(kept: Bools) -> LatencyModel:
        among = np.isin(each_b, b[kept])
        samples = each_b[among], each_y[among], np.ones(np.count_nonzero(among))
        return choose_model(
            b[kept], y[kept], w[kept], lambda model, parameters: aic(model, *samples, parameters, corrected=True)
        )

    described = _describe(choose, b, y)
    if min(len(visits_s[size]) for size in sizes) < LEAST_VISITS:
        return described
    slope, intercept, floor = _intervals(described.model, b, draws, w)
    return replace(described, slope_ci_s=slope, intercept_ci_s=intercept, floor_ci_s=floor)


def bootstrap_lines(
    visits_s: Mapping[int, Sequence[Sequence[float]]], model: LatencyModel, at: Floats, seed: int = 0
) -> Floats:
    """L(b) refitted to bootstrap draws, for the band around a fitted line.

    Args:
        visits_s: measurements, as in `fit_samples`.
        model: fitted model; the draws keep its flat part.
        at: batch sizes at which L(b) is wanted, shape (points,).
        seed: seed of the bootstrap.

    Returns:
        the latencies in seconds, shape (draws, points).
    """
    sizes = sorted(visits_s)
    k, h, floor = _refitted(model, np.array(sizes, float), _bootstrap(visits_s, seed), np.ones(len(sizes)))
    return np.maximum(floor[:, None], k[:, None] * at + h[:, None])


def choose_model(b: Floats, y: Floats, w: Floats, criterion: Callable[[LatencyModel, int], float]) -> LatencyModel:
    """The straight line, or the model with a floor where the criterion is lower for it.

    A floor is considered from four batch sizes on, and two of them or more must lie on it.

    Args:
        b: batch sizes, shape (points,).
        y: latencies, seconds, shape (points,).
        w: weights, shape (points,).
        criterion: function of a model and its number of parameters; lower is better.
    """
    candidates = [(fit_line(b, y, w), 2), *((model, 3) for model in _floor_models(b, y, w))]
    return min(candidates, key=lambda candidate: criterion(*candidate))[0]  # of equals the first: the line


def fit_line(b: Floats, y: Floats, w: Floats) -> LatencyModel:
    """The line that minimises sum w ((k b + h - y) / y)^2 over k, h >= 0."""
    k, h = fit_lines(b, y[None], w)
    return LatencyModel(slope_s=float(k[0]), intercept_s=float(h[0]))


def fit_lines(b: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """What `fit_line` does, for many sets of latencies at once, by the normal equations.

    As the latencies are positive, at most one of k and h can come out negative; the least squares under the bounds then
    lie on that bound. Where latencies are so unlike that one alone decides, the line is flat.

    Args:
        b: batch sizes, shape (points,).
        y: latencies, seconds, shape (sets, points).
        w: weights, shape (points,).

    Returns:
        (k, h), both of shape (sets,).
    """
    bb, b1, one = ((w * power / y**2).sum(axis=-1) for power in (b * b, b, np.ones_like(b)))
    yb, y1 = (w * b / y).sum(axis=-1), (w / y).sum(axis=-1)
    determinant = bb * one - b1 * b1
    with np.errstate(divide="ignore", invalid="ignore"):
        k, h = (yb * one - y1 * b1) / determinant, (bb * y1 - b1 * yb) / determinant
    solved = np.isfinite(k) & np.isfinite(h)
    k, h = np.where(solved, k, 0), np.where(solved, h, y1 / one)
    slope = np.where(h < 0, yb / bb, np.maximum(k, 0))
    intercept = np.where(k < 0, y1 / one, np.maximum(h, 0))
    return slope, intercept


def fit_floor(y: Floats, w: Floats) -> Floats:
    """The floor that minimises sum w ((floor - y) / y)^2, the sum being over the last axis."""
    floor: Floats = np.sum(w / y, axis=-1) / np.sum(w / y**2, axis=-1)
    return floor


Choose = Callable[[Bools], LatencyModel]
"""A function that fits a model to the points that a mask keeps."""


def _describe(choose: Choose, b: Floats, y: Floats) -> LatencyFit:
    """The model of all points, and how well it describes them."""
    model = choose(np.ones(b.size, bool))
    residual = model.step_latency(b) - y
    relative = np.abs(residual) / y
    spread = float(np.sum((y - y.mean()) ** 2))
    return LatencyFit(
        model=model,
        r2=1 - float(np.sum(residual**2)) / spread if spread > 0 else None,
        max_relative_residual=float(relative.max()),
        worst_batch=float(b[np.argmax(relative)]),
        held_out_error=_held_out_error(choose, b, y),
    )


def _flat(visits: Sequence[Sequence[float]]) -> Floats:
    return np.array([seconds for visit in visits for seconds in visit], float)


def _bootstrap(visits_s: Mapping[int, Sequence[Sequence[float]]], seed: int) -> Floats:
    """Medians of bootstrap draws, batch sizes ascending; shape (draws, points).

    A machine's speed wanders over seconds, for all batch sizes alike. A run is therefore cut into a few long stretches,
    and each draw takes the same stretches for all sizes. As the stretches are few, the draws are then moved away from
    the median by the factor `WIDENING`.
    """
    sizes = sorted(visits_s)
    chosen = np.random.default_rng(seed).integers(STRETCHES, size=(BOOTSTRAP_DRAWS, STRETCHES))
    y = np.array([np.median(_flat(visits_s[size])) for size in sizes])
    draws = np.column_stack([_medians_of(visits_s[size], chosen) for size in sizes])
    widened: Floats = np.maximum(y + WIDENING * (draws - y), y / 100)
    return widened


def _medians_of(visits: Sequence[Sequence[float]], chosen: NDArray[np.int64]) -> Floats:
    """Medians over the chosen stretches, shape (draws,); of each visit as many steps count as the shortest one has."""
    steps = min(len(visit) for visit in visits)
    table = np.array([list(visit)[:steps] for visit in visits], float)
    length = math.ceil(len(table) / STRETCHES)
    within = (np.arange(length) + 0.5) / length
    rows = ((chosen[:, :, None] + within) / STRETCHES * len(table)).astype(int)  # (draws, stretches, length)
    medians: Floats = np.median(table[rows].reshape(len(chosen), -1), axis=1)
    return medians


def _intervals(model: LatencyModel, b: Floats, draws: Floats, w: Floats) -> tuple[Interval, Interval, Interval | None]:
    """95 % intervals of k, h and the floor; all draws keep the model's flat part."""
    k, h, floor = _refitted(model, b, draws, w)
    return _middle(k), _middle(h), _middle(floor) if model.floor_s else None


def _refitted(model: LatencyModel, b: Floats, draws: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """k, h and the floor of each draw, three arrays of shape (draws,); the floor is 0 for a model without one."""
    flat = _is_flat(model, b) if model.floor_s else np.zeros(b.size, bool)
    flat[-2:] = False  # a line needs two points, as it had when it was chosen
    k, h = fit_lines(b[~flat], draws[:, ~flat], w[~flat])
    floor = fit_floor(draws[:, flat], w[flat]) if model.floor_s else np.zeros(len(draws))
    return k, h, floor


def _middle(draws: Floats) -> Interval:
    """The interval that holds the middle 95 % of the draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _floor_models(b: Floats, y: Floats, w: Floats) -> list[LatencyModel]:
    """One candidate per place where the flat part can end, with at least two batch sizes on either side of it."""
    sizes = np.unique(b)
    models = []
    for last_flat, first_steep in pairwise(sizes[1:-1]):
        flat, steep = b <= last_flat, b >= first_steep
        line = fit_line(b[steep], y[steep], w[steep])
        model = replace(line, floor_s=float(fit_floor(y[flat], w[flat])))
        if np.unique(b[_is_flat(model, b)]).size >= 2:
            models.append(model)
    return models


def _is_flat(model: LatencyModel, b: Floats) -> Bools:
    """Which batch sizes lie on the model's floor."""
    return model.slope_s * b + model.intercept_s <= model.floor_s


def aic(model: LatencyModel, b: Floats, y: Floats, w: Floats, parameters: int, corrected: bool = False) -> float:
    """Akaike's information criterion of the relative residuals; lower is better.

    Args:
        model: fitted model.
        b: batch sizes, shape (points,).
        y: latencies, seconds, shape (points,).
        w: weights, shape (points,).
        parameters: number of the model's parameters.
        corrected: whether to correct it for few points; it is then infinite where there are hardly more points than
            parameters.
    """
    relative = model.step_latency(b) / y - 1
    mean_square = float(np.sum(w * relative**2) / np.sum(w))
    plain = b.size * float(np.log(max(mean_square, 1e-24))) + 2 * parameters
    free = b.size - parameters - 1
    if not corrected:
        return plain
    return plain + 2 * parameters * (parameters + 1) / free if free > 0 else math.inf


def _held_out_error(choose: Choose, b: Floats, y: Floats) -> float | None:
    sizes = np.unique(b)
    if sizes.size < 3:
        return None
    errors = []
    for size in sizes:
        kept = b != size
        errors.append(np.mean(np.abs(choose(kept).step_latency(b[~kept]) / y[~kept] - 1)))
    return float(np.mean(errors))


def _check_points(b: Floats, y: Floats, w: Floats) -> None:
    if not b.ndim == 1 or not b.shape == y.shape == w.shape:
        raise ValueError(f"one latency and one weight per batch size needed, got {b.shape}, {y.shape}, {w.shape}")
    for name, values in (("batch sizes", b), ("latencies", y), ("weights", w)):
        if not np.all(np.isfinite(values) & (values > 0)):
            raise ValueError(f"{name} must be finite and > 0")
    if np.unique(b).size < 2:
        raise ValueError("a line needs at least two different batch sizes")
