"""The two kinds of scenario files: one server and one model (scenario@1), and several of both (scenario@2)."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ...common.files import Record
from ...fitting.schemas import LARGEST, SMALLEST, Count, Provenance, Seconds, Steps, Text

Bits = Annotated[float, Field(ge=0, le=LARGEST)]
Bytes = Annotated[float, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
TotalSteps = Annotated[Steps, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
"""Name of a server or a model: it stands in lists of the users file."""
NO_SERVER = "none"
"""What a user reaches who reaches no server."""
MOST_SERVERS = 1000


class Radio(Record):
    """The radio that the granted users share, and the size of what each of them sends."""

    bandwidth_hz: Positive
    spectral_efficiency: Positive
    prompt_bits: Bits
    latent_bits: Bits


class RoundFields(Record):
    """What every user's round has in common; `pai` is a name or a path of a curve."""

    interval_s: Seconds
    slots: Count
    reference_batch: Count
    total_steps: TotalSteps
    min_local_steps: Steps
    pai: Text
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _steps_in_range(self) -> Self:
        if self.min_local_steps > self.total_steps:
            raise ValueError(step_range(self.total_steps, self.min_local_steps))
        return self


class ScenarioFile(RoundFields):
    """One edge server, its radio and its rounds; `edge` and `pai` are names or paths of parameter files."""

    schema_: Literal["edgesplit/scenario@1"] = Field(default="edgesplit/scenario@1", alias="schema")
    edge: Text
    gpus: Count
    max_batch: Count
    radio: Radio


def _chosen(hosts: Any) -> Any:
    """No list where the plan chooses what a server hosts."""
    return None if hosts == "choose" else hosts


class ServerRecord(Record):
    """An edge server of several; `edge` is a name or a path, `hosts` are names of models, or None to choose them."""

    name: Name
    edge: Text
    gpus: Count
    max_batch: Count
    radio: Radio
    memory_bytes: Bytes | None = None
    hosts: Annotated[list[Name] | None, BeforeValidator(_chosen)] = None


class ModelRecord(Record):
    """A cluster-wide model; its curves are names or paths, and its clusters those of the users file."""

    name: Name
    size_bytes: Bytes
    clusters: list[Text] = Field(default_factory=list)
    pai: Text | None = None
    pai_others: Text | None = None
    adapter_of: Name | None = None


class FleetFile(RoundFields):
    """Several edge servers and cluster-wide models, and the rounds that they have in common."""

    schema_: Literal["edgesplit/scenario@2"] = Field(default="edgesplit/scenario@2", alias="schema")
    servers: Annotated[list[ServerRecord], Field(min_length=1, max_length=MOST_SERVERS)]
    models: list[ModelRecord] = Field(default_factory=list)


def step_range(total: int, least: int) -> str:
    """What is wrong with these numbers of steps."""
    return f"found min_local_steps {least}, accepted: 0 to total_steps, which is {total}"
