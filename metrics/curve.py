"""The curve's file: a table of measurements, analysed."""

from ..common.tables import Columns
from ..fitting.schemas import PaiCurveFile
from .analysis import Analysis, analyse, scores_of
from .measurements import TableFacts
from .options import CurveOptions


def analysed(columns: Columns, facts: TableFacts, total_steps: int, options: CurveOptions) -> Analysis:
    """The analysis of a table.

    Args:
        columns: table of measurements.
        facts: what is known of the table.
        total_steps: N.
        options: how measurements become a curve.

    Raises:
        InputError: for a table without some of its pictures, or whose CLIP does not allow an own kappa.
    """
    return analyse(
        scores_of(columns),
        total_steps,
        options.constants,
        own_kappa=facts.toy and options.kappa is None,
        personal=options.personal,
        two_parameter=options.two_parameter,
    )


def curve_file(analysis: Analysis, facts: TableFacts, total_steps: int, personal: float) -> PaiCurveFile:
    """The curve as its file keeps it; the last of its notes says how N-hat was chosen.

    Args:
        analysis: analysis of the table.
        facts: what is known of the table.
        total_steps: N.
        personal: LPIPS-bar that N-hat's interval had to lie above.
    """
    notes = [*facts.provenance.notes, n_hat_rule(analysis, total_steps, personal)]
    return PaiCurveFile(
        total_steps=total_steps,
        scheduler=facts.scheduler,
        models=list(facts.models),
        kappa=analysis.constants.kappa,
        gain=analysis.constants.gain,
        threshold=analysis.constants.threshold,
        aggregation="pai-then-mean",
        points=analysis.points(),
        fit=analysis.fit_record(),
        min_local_steps=analysis.min_local_steps,
        provenance=facts.provenance.model_copy(update={"notes": notes}),
    )


def n_hat_rule(analysis: Analysis, total_steps: int, personal: float) -> str:
    """The sentence that says what N-hat is and why; arguments as in `curve_file`."""
    judged = "95 % interval of LPIPS-bar" if analysis.intervals else "LPIPS-bar"
    low = analysis.intervals["lpips"][0] if analysis.intervals else analysis.means["lpips"]
    wanted = f"n whose {judged} lies above {personal:g}"
    if (low > personal).any():
        return f"N-hat = {analysis.min_local_steps}: the smallest {wanted}"
    return f"N-hat = {total_steps}, all steps: there is no {wanted}"
