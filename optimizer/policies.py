"""Trained policies, and planning with them: NumPy alone, no torch.

A policy is a safetensors file of weights and, beside it, a JSON card that says what it was trained for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from .. import data
from ..common.arrays import Floats, Ints
from ..common.errors import InputError, nearest, shown
from ..common.files import Record, read_record
from ..fitting.schemas import Count, Provenance, Text
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
        fall_backs: instances out of the policy's range, which count as 0 captured.
    """

    setting: Text
    instances: Count
    captured_mean: float
    captured_p5: float
    captured_worst: float
    optimal_share: float
    gap_mean_s: float
    fall_backs: Annotated[int, Field(ge=0)]


class PolicyCard(Record):
    """What is known of a policy.

    Attributes:
        network: "flat" for the paper's, with a fixed number of places; "set" for any number of users.
        scope: of the paper: one instance, one number of GPUs, or any.
        places: users that a flat network has room for; null for "set".
        gpus: numbers of edge GPUs in training; null for any.
        scenario: for a flat network, what must be as in training, by name; else null.
        instance: for scope "specific", `drl.instance_key` of its users; else null.
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
    places: Count | None
    gpus: list[Count] | None
    scenario: dict[str, float] | None
    instance: Text | None = None
    seeds: Count
    steps: Count
    minutes: Annotated[float, Field(ge=0)]
    scores: list[Scores]
    provenance: Provenance


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
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = find_policy(reference)
    card = read_record(path.with_suffix(".json"), PolicyCard)
    try:
        weights = {name: value.astype(np.float64) for name, value in load_file(path).items()}
    except (OSError, SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{path}: no policy's weights ({reason}); train it again with plan train") from error
    found = {name: list(value.shape) for name, value in weights.items()}
    expected = shapes(card)
    if found != expected:
        wrong = next(name for name in expected | found if found.get(name) != expected.get(name))
        raise InputError(
            f"{path}: field {wrong!r}: found shape {found.get(wrong)}, accepted: {expected.get(wrong)}, of the "
            f"{card.network!r} network that its card names"
        )
    return Policy(card, weights)


def shapes(card: PolicyCard) -> dict[str, list[int]]:
    """The shapes of a network's weights, by name."""
    flat = card.network == "flat"
    found = {"embedding.weight": [*EMBEDDING]} if flat else {}
    for name, widths in layer_widths(card.network, card.places).items():
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
    return {"encoder": [user, 32, encoded], "head": [user + pools + SET_GLOBALS, 128, 128, 2]}


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


def set_q(weights: Weights, current: Floats, pending: Floats, granted: Floats, fixed: Floats) -> Floats:
    """Q of deny and grant of the `set` network, (M, 2), from the pooled encodings (M, width)."""
    return dense(weights, "head", np.concatenate([current, pending, granted, fixed], axis=1))
