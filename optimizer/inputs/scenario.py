"""The scenario file, and its resolution with the command line's options into the numbers of the system model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ... import data
from ...common.errors import InputError, nearest, shown
from ...common.files import Record, accepted_words, read_record
from ...fitting.doubts import curve_doubts, profile_doubts
from ...fitting.library import load_curve, load_profile
from ...fitting.pai import PaiCurve
from ...fitting.schemas import SMALLEST, Count, LatencyProfile, PaiCurveFile, Steps, Text
from ..model.qoe import Scenario
from .notices import curve_notices, memory_notice, shadow_notices
from .records import Bits, FleetFile, Positive, Radio, RoundFields, ScenarioFile, TotalSteps, step_range


class Overrides(Record):
    """The options that replace fields of the scenario file; None leaves a field as it is."""

    edge: Text | None = None
    pai: Text | None = None
    gpus: Count | None = None
    max_batch: Count | None = None
    bandwidth_mhz: Positive | None = None
    latent_bits: Bits | None = None
    total_steps: TotalSteps | None = None
    min_local_steps: Steps | None = None


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A scenario ready to plan with, and the files that it was made from.

    Attributes:
        scenario: system with the options applied; B_max is no more than the edge GPUs' memory holds.
        for_alpha: the same system with the scenario file's own G, whatever the memory: `--gpus` does not move alpha.
        edge: latency profile of the edge GPU.
        curve: file of the PAI curve.
        notices: sentences that the user should know about the numbers.
        more_edges: latency profiles of further servers.
    """

    scenario: Scenario
    for_alpha: Scenario
    edge: LatencyProfile
    curve: PaiCurveFile
    notices: list[str]
    more_edges: tuple[LatencyProfile, ...] = ()

    @property
    def edge_name(self) -> str:
        """The edge GPU's name for people."""
        return self.edge.device_name

    @property
    def drawn_curves(self) -> list[PaiCurve]:
        """The bootstrap draws of the PAI curve; empty for a curve without."""
        return self.curve.fit.drawn_curves()


NO_OVERRIDES = Overrides()


def overrides(**options: Any) -> Overrides:
    """Check the values of options that replace fields of a scenario.

    Raises:
        InputError: one line naming the option, what was found and what is accepted.
    """
    try:
        return Overrides(**options)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{name}: unknown option; {nearest(name, Overrides.model_fields)}") from error
        option = "--" + name.replace("_", "-")
        raise InputError(f"{option}: found {shown(problem['input'])}, accepted: {accepted_words(problem)}") from error


def load_scenario(reference: "str | Path" = "default", **options: Any) -> Scenario:
    """The numbers of a scenario, by a shipped name or a file.

    Args:
        reference: "default", or the path of a JSON file.
        options: edge, pai, gpus, max_batch, bandwidth_mhz, latent_bits, total_steps or min_local_steps, each in
            place of the scenario's own.

    Raises:
        InputError: one line naming the file or option, what was found and what is accepted.
    """
    return resolve_scenario(str(reference), overrides(**options)).scenario


def resolve_scenario(reference: str, options: Overrides = NO_OVERRIDES) -> Resolved:
    """A scenario with everything that a command says about it; arguments and errors as in `load_scenario`."""
    path = find_scenario(reference)
    file = read_record(path, ScenarioFile, FleetFile)
    if isinstance(file, FleetFile):
        raise InputError(
            f"{path}: found several servers (scenario@2), accepted: scenario@1; only `plan` and `simulate` take several"
        )
    return resolve_file(path, file, options)


def resolve_file(path: Path, file: ScenarioFile, options: Overrides) -> Resolved:
    """A scenario file that was read, with everything that a command says about it."""
    edge = load_profile(options.edge) if options.edge else load_profile(file.edge, path.parent)
    curve = load_curve(options.pai) if options.pai else load_curve(file.pai, path.parent)
    check_curve(options.pai or file.pai, curve)
    own = one_server(Place(file.gpus, file.max_batch, file.radio, edge), file, curve, options)
    scenario = own.with_gpus(options.gpus or file.gpus, edge.max_batch)
    notices = [
        *memory_notice(own, scenario, edge),
        *curve_notices(own, curve),
        *(f"PAI curve {options.pai or file.pai}: {doubt}" for doubt in curve_doubts(curve)),
        *(f"edge profile {edge.name}: {doubt}" for doubt in profile_doubts(edge)),
        *shadow_notices("profiles", [(options.edge, None) if options.edge else (file.edge, path.parent)]),
        *shadow_notices("pai", [(options.pai, None) if options.pai else (file.pai, path.parent)]),
    ]
    return Resolved(scenario=scenario, for_alpha=own, edge=edge, curve=curve, notices=notices)


@dataclass(frozen=True)
class Place:
    """What a file says of one server, with its latency profile."""

    gpus: int
    max_batch: int
    radio: Radio
    edge: LatencyProfile


def one_server(place: Place, rounds: RoundFields, curve: PaiCurveFile, options: Overrides) -> Scenario:
    """The numbers of a server and its rounds with the options applied, except for the number of GPUs."""
    total, least = _steps(rounds, curve, options)
    radio = place.radio
    return Scenario(
        edge=place.edge.fit.model(),
        gpus=place.gpus,
        max_batch=options.max_batch or place.max_batch,
        bandwidth_hz=1e6 * options.bandwidth_mhz if options.bandwidth_mhz else radio.bandwidth_hz,
        spectral_efficiency=radio.spectral_efficiency,
        prompt_bits=radio.prompt_bits,
        latent_bits=radio.latent_bits if options.latent_bits is None else options.latent_bits,
        interval_s=rounds.interval_s,
        slots=rounds.slots,
        reference_batch=rounds.reference_batch,
        total_steps=total,
        min_local_steps=least,
        pai=curve.fit.curve(),
    )


def find_scenario(reference: str) -> Path:
    """The file of a scenario, by a shipped name or a path.

    Raises:
        InputError: for an unknown name.
    """
    known = data.shipped("scenarios")
    path = known.get(reference, Path(reference))
    if path.suffix != ".json" and not path.exists():
        hint = nearest(reference, known)
        raise InputError(f"--scenario: found {shown(reference)}, accepted: a name or a file; {hint}")
    return path


def _steps(rounds: RoundFields, curve: PaiCurveFile, options: Overrides) -> tuple[int, int]:
    """N and N-hat: from the options, else from the curve that an option names, else from the scenario."""
    source = curve if options.pai else rounds
    total = options.total_steps or source.total_steps
    least = source.min_local_steps if options.min_local_steps is None else options.min_local_steps
    if least > total:
        raise InputError(f"--total-steps, --min-local-steps: {step_range(total, least)}")
    return total, least


def check_curve(name: str, curve: PaiCurveFile) -> None:
    """Refuse what the split point's closed form does not hold for.

    Raises:
        InputError: naming the curve, the field and its value.
    """
    for field, value, least in (
        ("steepness", curve.fit.steepness, SMALLEST),
        ("amplitude", curve.fit.amplitude, 0),
    ):
        if value < least:
            raise InputError(
                f"PAI curve {name}: field 'fit.{field}': found {value}, accepted: a curve that rises with local "
                f"steps ({field} {'above 0' if least else '0 or more'}); measure or fit it again"
            )
