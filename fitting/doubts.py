"""What is implausible in a profile or a curve though its file is in order: sentences for whoever uses it."""

from collections.abc import Iterator

from .schemas import LatencyProfile, PaiCurveFile

SLOWEST_S, FASTEST_S = 60.0, 2e-5
"""Seconds of a step of one image beyond which they are probably of another unit."""
HIGHEST_PAI = 1.5
"""PAI above which CLIP or kappa is probably of another scale; the paper's ends near 1."""
HIGHEST_LPIPS, LOWEST_LPIPS = 1.5, -0.05
"""Mean distances beyond which they are probably none of LPIPS."""


def profile_doubts(profile: LatencyProfile) -> Iterator[str]:
    """What is implausible in a latency profile, one sentence each."""
    model, sizes = profile.fit.model(), len(profile.samples)
    step_s = float(model.step_latency(1))
    if not FASTEST_S <= step_s <= SLOWEST_S:
        yield (
            f"one step of one image takes {step_s:.3g} s by this profile, which is implausible; are the measurements "
            "in seconds?"
        )
    if profile.one_size:
        yield (
            "measured at one batch size alone, so that k and h are unknown: every further image counts as taking as "
            "long as the first"
        )
    elif sizes == 2:
        yield "a line goes through two batch sizes whatever was measured, so R2 tells nothing; measure three or more"
    elif sizes and not model.slope_s:
        yield "by these measurements further images in a batch take no time (k = 0); measure larger batches"


def curve_doubts(curve: PaiCurveFile) -> Iterator[str]:
    """What is implausible in a PAI curve, one sentence each."""
    if curve.points and curve.aggregation == "mean-then-pai":
        yield (
            "its PAI is eq. (1) of mean scores, as older versions computed it; eq. (1) holds for every prompt and "
            "seed, and the curve is then less steep: fit it again with pai-sweep fit"
        )
    clip = max((point.clip for point in curve.points), default=0.0)
    highest = max([float(curve.fit.curve().value(curve.total_steps)), *(point.pai for point in curve.points)])
    if clip > 1:
        yield (
            f"CLIP is up to {clip:.3g} and PAI up to {highest:.3g}, but a cosine is 1 at most; is this CLIP on a "
            "scale of 0 to 100? Divide it by 100 and fit again"
        )
    elif highest > HIGHEST_PAI:
        yield (
            f"PAI is up to {highest:.3g}, and the paper's about 1: every alpha counts {highest:.3g} times as much with "
            "this curve; check CLIP and kappa"
        )
    for point in curve.points:
        if not LOWEST_LPIPS <= point.lpips <= HIGHEST_LPIPS:
            yield f"LPIPS-bar is {point.lpips:.3g} at n = {point.local_steps}, which LPIPS hardly gives; check it"
            break
    parameters = 2 if (curve.fit.amplitude, curve.fit.offset) == (1, 0) else 4
    if 0 < len(curve.points) < parameters + 2:
        yield (
            f"the {parameters} parameters of the sigmoid follow from {len(curve.points)} splits, so R2 tells little; "
            "measure more"
        )
