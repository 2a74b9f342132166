"""Trained policies as files: the weights of a network (safetensors) and, beside them, a JSON card about them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, Json, model_validator

from ... import data
from ...common.errors import InputError, nearest, reason_of, shown
from ...common.files import Record, read_record
from ...fitting.schemas import Count, Interval, Provenance, Text
from ..model.qoe import Scenario, Users
from .agents import AGENTS, Agent
from .layers import Shapes, Weights
from .names import NetworkName, Scope
from .ranges import RangeName

DEFAULT = "set-general"
"""Name of the policy that `plan` decides with by default; its network is ours, not the paper's."""
REMEDY = "train it again with plan train"
"""What to do about a damaged policy of `drl`."""


class HeldOutScores(Record):
    """How well a method plans instances that no policy was trained on.

    Attributes:
        setting: name of the kind of instances.
        instances: number of instances.
        captured_mean: share of the possible gain that is captured, mean over the instances.
        captured_p5: 5th percentile of that share.
        captured_worst: smallest of those shares.
        optimal_share: share of the instances that are planned optimally.
        gap_mean_s: mean of optimum - objective, seconds.
        fall_backs: number of instances out of the policy's range, which count as all local: 0 captured.
    """

    setting: Text
    instances: Count
    captured_mean: float
    captured_p5: float
    captured_worst: float
    optimal_share: float
    gap_mean_s: float
    fall_backs: Annotated[int, Field(ge=0)]


def _as_json(value: Any) -> str:
    """A scenario, or its object in a file, as JSON text: in JSON an object may stand for a dataclass, strictly."""
    return json.dumps(asdict(value) if isinstance(value, Scenario) else value)


def _countable(scenario: Scenario) -> Scenario:
    counts = {
        "gpus": scenario.gpus, "max_batch": scenario.max_batch, "slots": scenario.slots,
        "reference_batch": scenario.reference_batch, "total_steps": scenario.total_steps,
    }  # fmt: skip
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} of 1 or more, not {count}")
    if not 0 <= scenario.min_local_steps <= scenario.total_steps:
        raise ValueError(f"min_local_steps from 0 to total_steps, not {scenario.min_local_steps}")
    return scenario


ScenarioField = Annotated[Json[Scenario], BeforeValidator(_as_json), AfterValidator(_countable)]
"""A scenario within a record: its object has the fields of `Scenario`, and nothing else."""


class RoundUsers(Record):
    """The users of one round, in file order.

    Attributes:
        step_latency_s: seconds of one step on each user's own device, L_i(1).
        alpha: seconds of latency that a PAI of 1 is worth to each user.
        request_slot: slot of each user's request, k_i.
    """

    step_latency_s: list[float]
    alpha: list[float]
    request_slot: list[int]

    @classmethod
    def of(cls, users: Users) -> Self:
        """The record of users in memory, which are all of one cell."""
        return cls(
            step_latency_s=users.step_latency_s.tolist(),
            alpha=users.alpha.tolist(),
            request_slot=users.request_slot.tolist(),
        )

    def users(self) -> Users:
        """The users in memory."""
        latency, alpha, slot = np.array(self.step_latency_s), np.array(self.alpha), np.array(self.request_slot)
        return Users(latency, alpha, slot, np.zeros(len(self.alpha), np.int64))


class Case(Record):
    """What a policy was trained for, where that is not the paper's rounds in the shipped scenario.

    Attributes:
        scenario: the system of its training.
        users: users of the one round that a policy of scope "specific" is for; null for the other scopes.
    """

    scenario: ScenarioField
    users: RoundUsers | None = None


class PolicyCard(Record):
    """What is known of a policy.

    Attributes:
        name: name of the policy.
        network: "flat" for the paper's network, which has a fixed number of places for users; "set" for ours.
        scope: rounds that the policy is for: any number of GPUs, one number of GPUs, or one round.
        preset: name of the preset; the hyper-parameters themselves stand in the provenance's notes.
        places: number of users that a flat network has room for; null for "set".
        order: order in which a flat network takes the users of a round.
        gpus: numbers of edge GPUs in training; null for any number.
        range: smallest and largest value of every number in training. Outside, a flat policy does not plan; a "set"
            policy does, because only ratios of gains matter to it.
        case: scenario of a user's own policy, and the round of one of scope "specific"; null for the paper's rounds.
        seeds: number of training instances.
        steps: number of learning steps.
        minutes: duration of the training.
        scores: scores on held-out instances, one entry for each setting.
        provenance: date, versions and hyper-parameters of the training.
    """

    schema_: Literal["edgesplit/policy-card@1"] = Field(default="edgesplit/policy-card@1", alias="schema")
    name: Text
    network: NetworkName
    scope: Scope
    preset: Text
    places: Annotated[int, Field(ge=1, le=10_000)] | None
    order: Literal["file", "slowest"] = "file"
    gpus: list[Count] | None
    range: dict[RangeName, Interval]
    case: Case | None = None
    seeds: Count
    steps: Count
    minutes: Annotated[float, Field(ge=0)]
    scores: list[HeldOutScores]
    provenance: Provenance

    @property
    def agent(self) -> Agent:
        """The agent whose network this is."""
        return AGENTS[self.network](self.places)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in get_args(RangeName) if name not in self.range]
        if self.agent.needs_range and missing:
            raise ValueError(f"with a {self.network} network also range.{missing[0]}")
        if self.scope == "specific" and not (self.case and self.case.users):
            raise ValueError("with scope specific also case.users")
        return self


@dataclass(frozen=True)
class Policy:
    """A trained network, ready to decide.

    Attributes:
        card: what is known of it.
        weights: arrays of its network, by name.
    """

    card: PolicyCard
    weights: Weights


def find_policy(reference: str, folder: str = "policies", option: str = "policy") -> Path:
    """The file of weights of a shipped policy, by its name, or of one's own, by its path.

    Args:
        reference: name or path.
        folder: folder of `data` with the shipped ones.
        option: what named it, for the message.

    Raises:
        InputError: for neither.
    """
    known = {path.stem: path for path in sorted((data.FOLDER / folder).glob("*.safetensors"))}
    path = known.get(reference, Path(reference))
    if path.suffix != ".safetensors":
        raise InputError(
            f"{option}: found {shown(reference)}, accepted: a name or a .safetensors file; " + nearest(reference, known)
        )
    return path


def load_policy(reference: str = DEFAULT) -> Policy:
    """Read a policy by name or path.

    Raises:
        InputError: for a file that is missing, cut short, no safetensors, or of another architecture than its card's.
    """
    path = find_policy(reference)
    card = read_record(path.with_suffix(".json"), PolicyCard)
    weights = read_weights(path)
    check_shapes(path, weights, card.agent.shapes(), f"the {card.network!r} network that its card names")
    return Policy(card, weights)


def check_orders(policy: Policy, orders: int) -> None:
    """Refuse to decide in many orders with an agent that has an order of its own.

    Raises:
        InputError: for such a policy.
    """
    if orders > 1 and policy.card.agent.own_order:
        raise InputError(
            f"--orders: found policy {policy.card.name!r}, which has an order of its own, accepted: one of the paper's "
            "network, such as --policy paper-general"
        )


def check_shapes(path: Path, weights: Weights, accepted: Shapes, network: str, remedy: str = REMEDY) -> None:
    """Refuse weights of another network.

    Raises:
        InputError: naming the first array whose shape is another, and what trains the policy again.
    """
    own = {name: list(value.shape) for name, value in weights.items()}
    for name in accepted | own:
        if own.get(name) != accepted.get(name):
            raise InputError(
                f"{path}: field {name!r}: found shape {own.get(name)}, accepted: {accepted.get(name)}, of {network}; "
                f"{remedy}"
            )


def read_weights(path: Path, remedy: str = REMEDY) -> Weights:
    """The weights of a file, finite, as float64.

    Args:
        path: the file.
        remedy: what to do about a damaged one, for the message.

    Raises:
        InputError: for a file that is missing, cut short, no safetensors, or holds other numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        # the last three for numbers that NumPy does not have, such as bfloat16
        raise InputError(f"{path}: no policy's weights ({reason_of(error, 80)}); {remedy}") from error
    for name, value in weights.items():
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            problem = value.dtype if value.dtype.kind != "f" else "a number that is not finite"
            raise InputError(f"{path}: field {shown(name)}: found {problem}, accepted: finite float16, 32 or 64")
    return {name: value.astype(np.float64) for name, value in weights.items()}
