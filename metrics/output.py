"""What `pai-sweep` prints: the curve's points, its fit and N-hat."""

from collections.abc import Iterator, Sequence

from ..common.errors import printable
from ..common.files import record_json
from ..common.tables import plain_table, print_table
from ..fitting.schemas import Aggregation, PaiCurveFile
from .analysis import Analysis

AGGREGATIONS: dict[Aggregation, str] = {
    "pai-then-mean": "PAI: eq. (1) of every prompt and seed, then the means",
    "mean-then-pai": "PAI: eq. (1) of the mean scores",
}
"""How the PAI of the points was computed."""


def print_curve(curve: PaiCurveFile, analysis: Analysis, as_json: bool) -> None:
    """Print a curve: its points and its fit, or its file."""
    if as_json:
        print(record_json(curve), end="")
        return
    table = plain_table("n", "CLIP", "95 %", "LPIPS-bar", "95 %", "PAI", "95 %", right_from=0)
    for point in curve.points:
        cells = [(point.clip, point.clip_ci), (point.lpips, point.lpips_ci), (point.pai, point.pai_ci)]
        texts = [text for value, ends in cells for text in (f"{value:.3f}", _interval(ends, 3))]
        table.add_row(str(point.local_steps), *texts)
    print_table(table)
    for line in _fit_lines(curve, paper_form=analysis.fit.parameters == 2):
        print(printable(line))


def _fit_lines(curve: PaiCurveFile, paper_form: bool) -> Iterator[str]:
    fit = curve.fit
    form = "F(n)" if paper_form else f"{fit.offset:.4f} + {fit.amplitude:.4f} F(n)"
    quality = "" if fit.r2 is None else f", R2 = {fit.r2:.4f}"
    yield ""
    yield AGGREGATIONS[curve.aggregation]
    yield f"PAI(n) = {form}, F(n) = 1 / (1 + exp(-a_F (n - b_F))){quality}"
    yield (
        f"a_F = {_estimate(fit.steepness, fit.steepness_ci, 5)}, b_F = {_estimate(fit.midpoint, fit.midpoint_ci, 2)}; "
        f"kappa = {curve.kappa:.4f}"
    )
    if fit.prompt_r2 is not None and len(curve.points[0].prompt_pai) > 1:
        yield f"R2 of the prompts' own points, each a mean over its seeds: {fit.prompt_r2:.4f}"
    yield curve.provenance.notes[-1]  # how N-hat was chosen


def _estimate(value: float, ends: Sequence[float] | None, digits: int) -> str:
    return f"{value:.{digits}f} {_interval(ends, digits)}".rstrip()


def _interval(ends: Sequence[float] | None, digits: int) -> str:
    return "" if ends is None else f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"
