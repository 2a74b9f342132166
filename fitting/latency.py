"""The latency of one denoising step against the batch size, and its fit to measurements.

k: slope, s/image. h: intercept, s. b: batch size, images. L(b): seconds for one step of the whole batch.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ..common.arrays import Bools, Floats


@dataclass(frozen=True)
class LatencyModel:
    """L(b) = max(floor, k b + h), paper section 3.3; the floor describes GPUs that are flat at small b.

    Attributes:
        slope_s: k, seconds per image, >= 0.
        intercept_s: h, seconds, >= 0.
        floor_s: the least latency of a step, seconds; 0 for the paper's straight line.
    """

    slope_s: float
    intercept_s: float
    floor_s: float = 0.0

    def step_latency(self, batch: ArrayLike) -> Floats:
        """L(b) for batch sizes of any shape, fractions allowed; seconds."""
        k, b, h = self.slope_s, np.asarray(batch, float), self.intercept_s
        return np.maximum(self.floor_s, k * b + h)


@dataclass(frozen=True)
class LatencyFit:
    """A latency model and how well it describes the points that it was fitted to.

    Attributes:
        model: the fitted model.
        r2: share of the variance of the latencies explained; None where they do not vary.
        max_relative_residual: largest |L(b) - measured| / measured.
        held_out_error: mean |L(b) - measured| / measured at a batch size left out of the fit;
            None below three batch sizes.
    """

    model: LatencyModel
    r2: float | None
    max_relative_residual: float
    held_out_error: float | None


def fit_latency(batches: ArrayLike, latencies_s: ArrayLike, weights: ArrayLike | None = None) -> LatencyFit:
    """Fit L(b) by weighted relative least squares with k, h >= 0.

    The floor model is taken where it has the lower Akaike information criterion (`choose_model`).

    Args:
        batches: batch sizes, images, shape (points,), at least two different ones.
        latencies_s: seconds for one step of the whole batch, shape (points,), > 0.
        weights: of each point, shape (points,), > 0; None for equal weights.

    Raises:
        ValueError: for fewer than two batch sizes, other shapes, or values that are not finite and > 0.
    """
    b, y = np.asarray(batches, float), np.asarray(latencies_s, float)
    w = np.ones_like(y) if weights is None else np.asarray(weights, float)
    _check_points(b, y, w)
    order = np.argsort(b, kind="stable")
    b, y, w = b[order], y[order], w[order]
    model = choose_model(b, y, w)
    residual = model.step_latency(b) - y
    spread = float(np.sum((y - y.mean()) ** 2))
    return LatencyFit(
        model=model,
        r2=1 - float(np.sum(residual**2)) / spread if spread > 0 else None,
        max_relative_residual=float(np.max(np.abs(residual) / y)),
        held_out_error=_held_out_error(b, y, w),
    )


def choose_model(b: Floats, y: Floats, w: Floats) -> LatencyModel:
    """The straight line, or the floor model where that lowers AIC.

    The floor model is considered from four batch sizes on, and must have a flat part of two or more.
    """
    line = fit_line(b, y, w)
    best, lowest = line, _aic(line, b, y, w, parameters=2)
    for model in _floor_models(b, y, w):
        criterion = _aic(model, b, y, w, parameters=3)
        if criterion < lowest:
            best, lowest = model, criterion
    return best


def fit_line(b: Floats, y: Floats, w: Floats) -> LatencyModel:
    """Minimise sum w ((k b + h - y) / y)^2 over k, h >= 0."""
    from scipy.optimize import nnls  # costs 0.2 s, and planning does not fit

    root = np.sqrt(w)
    design = np.column_stack([b / y, 1 / y]) * root[:, None]
    (k, h), _ = nnls(design, root)
    return LatencyModel(slope_s=float(k), intercept_s=float(h))


def fit_floor(y: Floats, w: Floats) -> float:
    """Minimise sum w ((floor - y) / y)^2."""
    return float(np.sum(w / y) / np.sum(w / y**2))


def _floor_models(b: Floats, y: Floats, w: Floats) -> list[LatencyModel]:
    """One candidate per place where the flat part can end: two batch sizes before it, two behind."""
    sizes = np.unique(b)
    models = []
    for last_flat, first_steep in pairwise(sizes[1:-1]):
        flat, steep = b <= last_flat, b >= first_steep
        line = fit_line(b[steep], y[steep], w[steep])
        model = replace(line, floor_s=fit_floor(y[flat], w[flat]))
        if np.unique(b[_is_flat(model, b)]).size >= 2:
            models.append(model)
    return models


def _is_flat(model: LatencyModel, b: Floats) -> Bools:
    return model.slope_s * b + model.intercept_s <= model.floor_s


def _aic(model: LatencyModel, b: Floats, y: Floats, w: Floats, parameters: int) -> float:
    relative = model.step_latency(b) / y - 1
    mean_square = float(np.sum(w * relative**2) / np.sum(w))
    return b.size * float(np.log(max(mean_square, 1e-24))) + 2 * parameters


def _held_out_error(b: Floats, y: Floats, w: Floats) -> float | None:
    sizes = np.unique(b)
    if sizes.size < 3:
        return None
    errors = []
    for size in sizes:
        kept = b != size
        model = choose_model(b[kept], y[kept], w[kept])
        errors.append(np.mean(np.abs(model.step_latency(b[~kept]) / y[~kept] - 1)))
    return float(np.mean(errors))


def _check_points(b: Floats, y: Floats, w: Floats) -> None:
    if not b.ndim == 1 or not b.shape == y.shape == w.shape:
        raise ValueError(f"one latency and one weight per batch size needed, got {b.shape}, {y.shape}, {w.shape}")
    for name, values in (("batch sizes", b), ("latencies", y), ("weights", w)):
        if not np.all(np.isfinite(values) & (values > 0)):
            raise ValueError(f"{name} must be finite and > 0")
    if np.unique(b).size < 2:
        raise ValueError("a line needs at least two different batch sizes")
