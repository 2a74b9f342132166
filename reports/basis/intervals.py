"""Intervals of measured parameters: 95 % intervals where the files have them, assumed ones elsewhere."""

from typing import NamedTuple

from ...fitting.schemas import LatencyProfile, PaiCurveFile

ASSUMED = 0.1
"""Half width of an assumed interval, as a share of the value."""
FROM_FILE, NOT_IN_FILE = "95 % interval", f"assumed, {100 * ASSUMED:g} %"
"""Where the ends of an interval come from."""


class ParameterInterval(NamedTuple):
    """Both ends of a parameter's interval, and where they come from."""

    low: float
    high: float
    source: str


def parameter_intervals(edge: LatencyProfile, curve: PaiCurveFile) -> dict[str, ParameterInterval]:
    """The intervals of a_F, b_F, k_e and h_e."""
    return {
        "steepness": _interval(curve.fit.steepness, curve.fit.steepness_ci),
        "midpoint": _interval(curve.fit.midpoint, curve.fit.midpoint_ci),
        "slope_s": _interval(edge.fit.slope_s, edge.fit.slope_ci_s),
        "intercept_s": _interval(edge.fit.intercept_s, edge.fit.intercept_ci_s),
    }


def device_interval(profile: LatencyProfile) -> ParameterInterval:
    """The interval of L_i(1): k and h are both at an end of their intervals, where the file has them."""
    fit = profile.fit
    if fit.slope_ci_s is None or fit.intercept_ci_s is None:
        return _interval(own_latency(profile), None)
    ends = [max(fit.floor_s or 0.0, k + h) for k, h in zip(fit.slope_ci_s, fit.intercept_ci_s, strict=True)]
    return _interval(own_latency(profile), ends)


def own_latency(profile: LatencyProfile) -> float:
    """L_i(1): seconds of one step of one image on a device."""
    return float(profile.fit.model().step_latency(1))


def _interval(value: float, ends: list[float] | None) -> ParameterInterval:
    if ends is not None:
        return ParameterInterval(ends[0], ends[1], FROM_FILE)
    return ParameterInterval((1 - ASSUMED) * value, (1 + ASSUMED) * value, NOT_IN_FILE)
