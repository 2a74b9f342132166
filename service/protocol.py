"""What devices and the edge server say to each other: JSON records, and problem documents (RFC 9457)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from ..common.files import Record
from ..fitting.latency import LatencyModel
from ..fitting.pai import PaiCurve
from ..fitting.schemas import LARGEST, SMALLEST
from ..optimizer.model.qoe import Scenario

MEDIA_HANDOFF = "application/vnd.edgesplit.handoff"
MEDIA_PROBLEM = "application/problem+json"
KEY_HEADER, DIGEST_HEADER = "Idempotency-Key", "Repr-Digest"
WAIT_HEADER, AGAIN_HEADER = "Prefer", "Retry-After"
"""How long a device wants to wait (RFC 7240), and after how many seconds the hand-off is expected."""
SPLIT_HEADER = "Edgesplit-Local-Steps"
"""The local steps n that a hand-off leaves to the device."""
MOST_BODY = 64 * 1024
"""Bytes of a request's body at most."""


def _whole(value: Any) -> Any:
    """An integer that is written as 50.0, which JSON's schemas take for one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
SEED_SHOWN = {"maximum": 2**63 - 1024}
"""What documents say of the largest seed: OpenAPI writes it as a float, which has no 2^63 - 1."""
Latency = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
Alpha = Annotated[float, Field(ge=0, le=LARGEST)]
Part = Annotated[float, Field(ge=0, le=1000 * LARGEST)]


class Ask(Record):
    """A device asks for the first steps of one image.

    Attributes:
        prompt_template: prompt with `{subject}` where the subject's words go.
        seed: seed of the initial noise.
        step_latency_s: L_i(1), seconds of one step on the device.
        alpha: seconds of latency that a PAI of 1 is worth to its user.
        total_steps: N.
        scheduler_hash: fingerprint of the scheduler; null where the device does not check it.
        latent_shape: channels, height and width of its latents; null where the device does not check it.
    """

    prompt_template: Annotated[str, Field(min_length=1, max_length=4000, json_schema_extra={"pattern": r"\{subject\}"})]
    seed: Annotated[int, Field(ge=0, le=2**63 - 1, json_schema_extra=SEED_SHOWN), WHOLE]
    step_latency_s: Latency
    alpha: Alpha
    total_steps: Annotated[int, Field(ge=1, le=1000), WHOLE]
    scheduler_hash: Annotated[str, Field(max_length=64)] | None = None
    latent_shape: Annotated[list[Annotated[int, WHOLE]], Field(min_length=3, max_length=3)] | None = None


class LatencyParts(Record):
    """The parts of a latency, seconds: planned, or as a device measured them."""

    wait_s: Part
    edge_s: Part
    transmit_s: Part
    local_s: Part

    @property
    def latency_s(self) -> float:
        """Their sum."""
        return self.wait_s + self.edge_s + self.transmit_s + self.local_s


class Answered(Record):
    """What a server answers: a later version may say more, which devices of this one pass over."""

    model_config = ConfigDict(extra="ignore")


class Decision(Answered):
    """What the server decided at the end of the round.

    Attributes:
        id: name of the request in later calls.
        decision: grant or deny.
        local_steps: n; N where it is denied.
        offloaded_steps: N - n.
        planned: the latency that the plan predicts, from the request on.
        reason: why a request is denied that no plan has denied; null else.
        most_offloaded_steps: steps that may run at the edge at most, where it gives images in flight new splits; null
            where N - n stays.
    """

    id: str
    decision: Literal["grant", "deny"]
    local_steps: int
    offloaded_steps: int
    planned: LatencyParts
    reason: str | None = None
    most_offloaded_steps: int | None = None


class Facts(Answered):
    """What the server serves, so that devices can check before they ask.

    Attributes:
        model: name of the cluster-wide model.
        total_steps: N.
        min_local_steps: N-hat.
        guidance_scale: scale of classifier-free guidance.
        scheduler: name of the scheduler.
        scheduler_hash: its fingerprint.
        latent_shape: channels, height and width of the latents.
        latents: what a device's model must have in common with the server's, in words: family, shape, scale and shift
            of the latents; empty where no model runs.
        interval_s: length of a round, Delta.
        version: version of edgesplit.
    """

    model: str
    total_steps: int
    min_local_steps: int
    guidance_scale: float
    scheduler: str
    scheduler_hash: str
    latent_shape: list[int]
    latents: dict[str, str] = Field(default_factory=dict)
    interval_s: float
    version: str


def scenario_of(numbers: Mapping[str, Any]) -> Scenario:
    """A scenario from its numbers as JSON has them."""
    return Scenario(**{**numbers, "edge": LatencyModel(**numbers["edge"]), "pai": PaiCurve(**numbers["pai"])})


class ProblemError(Exception):
    """An answer that is a problem document.

    Attributes:
        status: HTTP status.
        kind: last part of the document's `type`.
        detail: sentence that says what was found and what helps.
        headers: further headers, such as Retry-After.
    """

    def __init__(self, status: int, kind: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, headers or {}

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        title = self.kind.replace("-", " ")
        return {
            "type": f"urn:edgesplit:problem:{self.kind}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
        }
