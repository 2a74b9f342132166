"""Trained policies, and planning with them: NumPy alone, no torch.

A policy is a safetensors file of weights and, beside it, a JSON card that says what it was trained for.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from ... import data
from ...common.arrays import Floats, Ints
from ...common.errors import InputError, nearest, shown
from ...common.files import Record, read_record
from ...fitting.latency import LatencyModel
from ...fitting.pai import PaiCurve
from ...fitting.schemas import Count, Interval, Provenance, Text
from ..model.qoe import Scenario, Users
from .state import KNOTS, SET_GLOBALS

DEFAULT = "set-general"
EMBEDDING = (4, 3)
"""Indicators and the width they are embedded in, section 6.1.2."""
Weights = Mapping[str, Floats]


class Scores(Record):
    """On held-out instances.

    Attributes:
        setting: what they were.
        instances: how many.
        captured_mean: share of the possible gain, mean.
        captured_p5: its 5th percentile.
        captured_worst: its least.
        optimal_share: share of instances planned optimally.
        gap_mean_s: mean of optimum - objective, seconds.
        fall_backs: instances out of the policy's range, which count as all local: 0 captured.
    """

    setting: Text
    instances: Count
    captured_mean: float
    captured_p5: float
    captured_worst: float
    optimal_share: float
    gap_mean_s: float
    fall_backs: Annotated[int, Field(ge=0)]


class EdgeNumbers(Record):
    """A `LatencyModel`."""

    slope_s: float
    intercept_s: float
    floor_s: float


class CurveNumbers(Record):
    """A `PaiCurve`."""

    steepness: float
    midpoint: float
    amplitude: float
    offset: float


class ScenarioNumbers(Record):
    """A `Scenario`."""

    edge: EdgeNumbers
    gpus: Count
    max_batch: Count
    bandwidth_hz: float
    spectral_efficiency: float
    prompt_bits: float
    latent_bits: float
    interval_s: float
    slots: Count
    reference_batch: Count
    total_steps: Count
    min_local_steps: Annotated[int, Field(ge=0)]
    pai: CurveNumbers

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        """Those of a scenario."""
        return cls.model_validate(asdict(scenario))

    def scenario(self) -> Scenario:
        """The scenario."""
        parts = {"edge": LatencyModel(**dict(self.edge)), "pai": PaiCurve(**dict(self.pai))}
        return Scenario(**dict(self) | parts)


class RoundUsers(Record):
    """The users of one round, in order."""

    step_latency_s: list[float]
    alpha: list[float]
    request_slot: list[int]

    @classmethod
    def of(cls, users: Users) -> Self:
        """Those of a round."""
        columns = users.step_latency_s, users.alpha, users.request_slot
        return cls(**{name: column.tolist() for name, column in zip(cls.model_fields, columns, strict=True)})

    def users(self) -> Users:
        """The users, all of one cell."""
        latency, alpha, slot = (np.array(column) for column in (self.step_latency_s, self.alpha, self.request_slot))
        return Users(latency, alpha, slot, np.zeros(len(self.alpha), np.int64))


class Case(Record):
    """What a policy was trained for that is not the paper's.

    Attributes:
        scenario: the user's own.
        users: for scope "specific", its round; else null.
    """

    scenario: ScenarioNumbers
    users: RoundUsers | None = None


RangeName = Literal[
    "users", "gpus", "max_batch", "slots", "step_latency_s", "alpha_s", "request_slot", "total_steps",
    "min_local_steps", "steepness", "midpoint", "amplitude", "slope_s", "intercept_s", "floor_s", "transmit_bits",
    "bandwidth_hz", "spectral_efficiency",
]  # fmt: skip
"""What `drl.trained_range` says of training instances."""


class PolicyCard(Record):
    """What is known of a policy.

    Attributes:
        network: "flat" for the paper's, with a fixed number of places; "set" for any number of users.
        scope: of the paper: one instance, one number of GPUs, or any.
        places: users that a flat network has room for; null for "set".
        gpus: numbers of edge GPUs in training; null for any.
        range: least and most of every number of the training instances. Outside, a flat policy does not plan; a "set"
            policy does, because only ratios of gains matter to it.
        case: of a user's own policy, or of scope "specific"; else null.
        seeds: training instances.
        steps: learning steps.
        minutes: of training.
        scores: on held-out instances.
    """

    schema_: Literal["edgesplit/policy-card@1"] = Field(default="edgesplit/policy-card@1", alias="schema")
    name: Text
    network: Literal["flat", "set"]
    scope: Literal["general", "gpu", "specific"]
    preset: Text
    places: Annotated[int, Field(ge=1, le=10_000)] | None
    gpus: list[Count] | None
    range: dict[RangeName, Interval]
    case: Case | None = None
    seeds: Count
    steps: Count
    minutes: Annotated[float, Field(ge=0)]
    scores: list[Scores]
    provenance: Provenance

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in get_args(RangeName) if name not in self.range]
        if self.network == "flat" and (self.places is None or missing):
            raise ValueError(f"with a flat network also {'places' if self.places is None else f'range.{missing[0]}'}")
        if self.scope == "specific" and not (self.case and self.case.users):
            raise ValueError("with scope specific also case.users")
        return self


@dataclass(frozen=True)
class Policy:
    """A card and its weights."""

    card: PolicyCard
    weights: Weights


def find_policy(reference: str) -> Path:
    """The weights of a shipped policy, or of a file.

    Raises:
        InputError: for neither.
    """
    known = {path.stem: path for path in sorted((data.FOLDER / "policies").glob("*.safetensors"))}
    path = known.get(reference, Path(reference))
    if path.suffix != ".safetensors":
        raise InputError(
            f"policy: found {shown(reference)}, accepted: a name or a .safetensors file; " + nearest(reference, known)
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
    found = {name: list(value.shape) for name, value in weights.items()}
    expected = shapes(card.network, card.places)
    if found != expected:
        wrong = next(name for name in expected | found if found.get(name) != expected.get(name))
        raise InputError(
            f"{path}: field {wrong!r}: found shape {found.get(wrong)}, accepted: {expected.get(wrong)}, of the "
            f"{card.network!r} network that its card names; train it again with plan train"
        )
    return Policy(card, weights)


def read_weights(path: Path) -> Weights:
    """The weights of a file, finite, as float64.

    Raises:
        InputError: for a file that is missing, cut short, no safetensors, or holds other numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        # the last three for numbers that NumPy does not have, such as bfloat16
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{path}: no policy's weights ({reason}); train it again with plan train") from error
    for name, value in weights.items():
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            found = value.dtype if value.dtype.kind != "f" else "a number that is not finite"
            raise InputError(f"{path}: field {shown(name)}: found {found}, accepted: finite float16, 32 or 64")
    return {name: value.astype(np.float64) for name, value in weights.items()}


def shapes(network: str, places: int | None) -> dict[str, list[int]]:
    """The shapes of a network's weights, by name."""
    found = {"embedding.weight": [*EMBEDDING]} if network == "flat" else {}
    for name, widths in layer_widths(network, places).items():
        for number, (a, b) in enumerate(pairwise(widths)):
            found |= {f"{name}.{number}.weight": [b, a], f"{name}.{number}.bias": [b]}
    return found


def layer_widths(network: str, places: int | None) -> dict[str, list[int]]:
    """Inputs, hidden layers and outputs of each stack of linear layers of a network.

    "flat" is the paper's, section 6.1.2 and Fig. 6: embedded indicators, three layers of 256, two outputs.
    """
    if network == "flat":
        return {"layers": [(places or 0) * (3 + EMBEDDING[1]) + 6, 256, 256, 256, 2]}
    user, encoded = len(KNOTS), 16
    pools = 2 * (user + encoded)
    return {"encoder": [user, 32, encoded], "head": [user + 1 + pools + SET_GLOBALS, 128, 128, 2]}


def dense(weights: Weights, name: str, x: Floats) -> Floats:
    """Linear layers with ReLU between them; x (..., width)."""
    number = 0
    while f"{name}.{number}.weight" in weights:
        if number:
            x = np.maximum(x, 0)
        x = x @ weights[f"{name}.{number}.weight"].T + weights[f"{name}.{number}.bias"]
        number += 1
    return x


def flat_q(weights: Weights, local: Floats, status: Ints, fixed: Floats) -> Floats:
    """Q of deny and grant of the flat network, (M, 2)."""
    seen = np.concatenate([local, weights["embedding.weight"][status]], axis=2)
    return dense(weights, "layers", np.concatenate([seen.reshape(len(seen), -1), fixed], axis=1))


def set_encoding(weights: Weights, gains: Floats) -> Floats:
    """What the `set` network pools of each user, (users, width)."""
    return np.concatenate([gains, np.maximum(dense(weights, "encoder", gains), 0)], axis=-1)


def set_q(weights: Weights, current: Floats, rise: Floats, pending: Floats, granted: Floats, fixed: Floats) -> Floats:
    """Q of deny and grant of the `set` network, (M, 2).

    Granting pays its reward at once, and that is known: `rise`, (M,). The network adds what follows.

    Args:
        weights: of the network.
        current: features of the current user, (M, knots).
        rise: of the value if that user is granted, over the round's scale, (M,).
        pending: mean encoding of the users still pending, (M, width).
        granted: of those granted.
        fixed: `set_globals`, (M, globals).
    """
    seen = np.concatenate([current, np.arcsinh(rise)[:, None], pending, granted, fixed], axis=1)
    value, more = dense(weights, "head", seen).T
    return np.stack([value, value + more + rise], axis=1)
