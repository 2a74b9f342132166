"""The two parameter files: latency profiles with k and h of a GPU, PAI curves with a_F and b_F of several models."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..common.files import Record
from .latency import LatencyFit, LatencyModel
from .pai import GAIN, THRESHOLD, PaiCurve
from .resolution import Resolution, check_resolution

# No real value comes near these bounds; they keep sums and products of valid numbers finite.
LARGEST = 1e12
SMALLEST = 1e-12
Seconds = Annotated[float, Field(ge=0, le=LARGEST)]
PositiveSeconds = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Steps = Annotated[int, Field(ge=0, le=100_000)]
Interval = Annotated[list[Number], Field(min_length=2, max_length=2)]
Draw = Annotated[list[Number], Field(min_length=4, max_length=4)]
Text = Annotated[str, Field(min_length=1)]
Dtype = Literal["fp16", "bf16", "fp32", "int16"]


class Provenance(Record):
    """Where the numbers of a file come from."""

    kind: Literal["measured", "published", "estimated"]
    source: Text
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d\d(-\d\d)?)?$")]
    versions: dict[str, str] | None = None
    notes: list[str] = Field(default_factory=list)


def of_today(
    kind: Literal["measured", "published", "estimated"], source: str, packages: Iterable[str], notes: Sequence[str] = ()
) -> Provenance:
    """The provenance of numbers that are made now, with the versions of the packages that they hang on."""
    return Provenance(
        kind=kind,
        source=source,
        date=datetime.now(UTC).date().isoformat(),
        versions={name: version(name) for name in packages},
        notes=list(notes),
    )


class LatencySample(Record):
    """The measurements at one batch size: seconds of one denoising step of the whole batch."""

    batch: Count
    median_s: PositiveSeconds
    ci_low_s: Seconds | None
    ci_high_s: Seconds | None
    n: Count
    durations_s: list[Seconds] | None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        low, high = self.ci_low_s, self.ci_high_s
        if low is not None and high is not None and not low <= self.median_s <= high:
            raise ValueError(f"ci_low_s <= median_s <= ci_high_s, not {low:g}, {self.median_s:g}, {high:g}")
        if self.durations_s is not None and len(self.durations_s) != self.n:
            raise ValueError(f"n durations_s, not {len(self.durations_s)} with n = {self.n}")
        return self


class LatencyFitRecord(Record):
    """A fitted L(b) = max(floor, k b + h); a field is null where the points do not allow it."""

    slope_s: Seconds
    intercept_s: Seconds
    floor_s: PositiveSeconds | None
    slope_ci_s: Interval | None
    intercept_ci_s: Interval | None
    floor_ci_s: Interval | None
    r2: Annotated[float, Field(le=1)] | None
    max_relative_residual: Seconds | None
    held_out_error: Seconds | None

    @classmethod
    def of(cls, fit: LatencyFit) -> Self:
        """The record of a fit."""
        return cls(
            slope_s=fit.model.slope_s,
            intercept_s=fit.model.intercept_s,
            floor_s=fit.model.floor_s or None,
            slope_ci_s=fit.slope_ci_s and list(fit.slope_ci_s),
            intercept_ci_s=fit.intercept_ci_s and list(fit.intercept_ci_s),
            floor_ci_s=fit.floor_ci_s and list(fit.floor_ci_s),
            r2=fit.r2,
            max_relative_residual=fit.max_relative_residual,
            held_out_error=fit.held_out_error,
        )

    def model(self) -> LatencyModel:
        """The latency model itself."""
        return LatencyModel(self.slope_s, self.intercept_s, self.floor_s or 0.0)

    @model_validator(mode="after")
    def _takes_time(self) -> Self:
        if self.model().step_latency(1) < SMALLEST:
            raise ValueError("a step that takes time: slope_s, intercept_s or floor_s above 0")
        return self


class HeldOut(Record):
    """A measurement of the same card by others, which the fit has not seen.

    Attributes:
        device: the card as its source names it, which may leave open what kind of the card it was.
        step_s: seconds of one denoising step of the whole batch.
    """

    device: Text
    model: Text
    backend: Text
    batch: Count
    step_s: PositiveSeconds
    source: Text


UNKNOWN_DEVICE = "unknown"
"""What a profile has for a device that nobody named."""


class LatencyProfile(Record):
    """A device's step latency against batch size, for one model, resolution, dtype and guidance.

    Attributes:
        dtype: number format of the activations.
        quantization: number format of quantised weights, such as "int8"; None where they have the dtype's.
        attention: kernel that computed the attention, such as "flash"; None where it is not known.
        decode_s: seconds in which the VAE decodes one picture; never part of the fit.
        encode_s: seconds in which the text encoders encode one prompt; never part of the fit.
        held_out: what others measured on the same card.
    """

    schema_: Literal["edgesplit/latency-profile@1"] = Field(default="edgesplit/latency-profile@1", alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    device: Text
    model: Text
    resolution: Annotated[Resolution, BeforeValidator(check_resolution)]
    dtype: Dtype
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")] | None = None
    attention: Text | None = None
    guidance: bool
    samples: list[LatencySample]
    fit: LatencyFitRecord
    max_batch: Count | None
    decode_s: PositiveSeconds | None = None
    encode_s: PositiveSeconds | None = None
    held_out: list[HeldOut] = Field(default_factory=list)
    telemetry: dict[str, Any] | None
    provenance: Provenance

    @property
    def one_size(self) -> bool:
        """Whether one batch size alone was measured, which leaves k and h unknown."""
        return len(self.samples) == 1

    @property
    def number_format(self) -> str:
        """The format of the weights: that of quantised ones, or the dtype."""
        return self.quantization or self.dtype

    @property
    def device_name(self) -> str:
        """The device for people; the profile's own name where `hwprof fit` was not told of one."""
        return self.name if self.device == UNKNOWN_DEVICE else self.device

    @model_validator(mode="after")
    def _batches_differ(self) -> Self:
        batches = [sample.batch for sample in self.samples]
        if len(set(batches)) < len(batches):
            raise ValueError(f"samples of different batches, not {batches}")
        return self


Aggregation = Literal["pai-then-mean", "mean-then-pai"]
"""How the PAI of a curve's points was computed: eq. (1) of every prompt and seed and then the means, as the paper does,
or eq. (1) of the mean scores."""


class PaiPoint(Record):
    """CLIP, LPIPS-bar and PAI of the pictures finished from one split point, means over the prompts.

    Attributes:
        prompt_pai: PAI of every prompt, mean over its seeds, in the order of the measurements; empty where not known.
    """

    local_steps: Steps
    clip: Number
    lpips: Number
    pai: Number
    clip_ci: Interval | None
    lpips_ci: Interval | None
    pai_ci: Interval | None
    images: Count
    prompt_pai: list[Number] = Field(default_factory=list)


class PaiFitRecord(Record):
    """A fitted c + A F(n); a field is null where the points do not allow it.

    Attributes:
        r2: share of the variance of the points that the curve explains.
        prompt_r2: the same of the prompts' points, `PaiPoint.prompt_pai`; null where they are not known.
        draws: for each bootstrap draw of the measurements, the fitted steepness, midpoint, amplitude and offset.
    """

    steepness: Number
    midpoint: Number
    amplitude: Number = 1.0
    offset: Number = 0.0
    steepness_ci: Interval | None
    midpoint_ci: Interval | None
    amplitude_ci: Interval | None
    offset_ci: Interval | None
    r2: Annotated[float, Field(le=1)] | None
    prompt_r2: Annotated[float, Field(le=1)] | None = None
    draws: list[Draw] | None = None

    def curve(self) -> PaiCurve:
        """The curve itself."""
        return PaiCurve(self.steepness, self.midpoint, self.amplitude, self.offset)

    def drawn_curves(self) -> list[PaiCurve]:
        """The curves fitted to the bootstrap draws; empty where the file holds none."""
        return [PaiCurve(*draw) for draw in self.draws or []]


class PaiCurveFile(Record):
    """The PAI of a cluster-wide model and its users' models against the split point.

    Attributes:
        kappa: kappa of eq. (1), with which the points were computed.
        gain: gain of sigma_P in eq. (1), with which the points were computed.
        threshold: threshold of sigma_P in eq. (1), with which the points were computed.
        aggregation: whether eq. (1) or the mean came first; files that do not say it are of the old way.
    """

    schema_: Literal["edgesplit/pai-curve@1"] = Field(default="edgesplit/pai-curve@1", alias="schema")
    total_steps: Annotated[Steps, Field(ge=1)]
    scheduler: Text
    models: list[Text]
    kappa: Number
    gain: Number = GAIN
    threshold: Number = THRESHOLD
    aggregation: Aggregation = "mean-then-pai"
    points: list[PaiPoint]
    fit: PaiFitRecord
    min_local_steps: Steps
    provenance: Provenance

    @model_validator(mode="after")
    def _steps_in_range(self) -> Self:
        last = max([self.min_local_steps, *(point.local_steps for point in self.points)])
        if last > self.total_steps:
            raise ValueError(f"local steps up to total_steps = {self.total_steps}, not {last}")
        return self
