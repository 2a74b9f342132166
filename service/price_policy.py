"""A learnt policy at work, in NumPy: a small network prices every round, and the exact solver decides it.

It is DRL-convex over time: the network says what a second of the edge and a place on the radio are worth to those who
are there and to those who will come, and the convex part, the count decomposition with the closed form of the split,
does the rest. So every plan keeps the constraints of (P1), whatever the network says.
k: seconds that an image adds to a step on one GPU. G: GPUs now. T: seconds that one intermediate is on the radio alone.
b_0, q_0: images in flight and intermediates on the radio. docs/learning.md says what it is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from ..common.arrays import Bools, Floats, Ints
from ..common.files import Record, read_record
from ..fitting.schemas import Provenance, Text
from ..optimizer.agent.layers import Shapes, Weights, dense, layer_shapes
from ..optimizer.agent.policies import check_shapes, find_policy, read_weights
from ..optimizer.model.qoe import Plan, Scenario, Users, edge_step_latency, numbers_of, transmit_time
from ..optimizer.model.terms import Prices, Terms
from .price_file import load_prices
from .scheduler import Load, Rule, aware, charged, decide, price

DEFAULT_POLICY = "mixed"
FOLDER = "learned"
"""Folder of `data` with the policies that ship."""
REMEDY = "train it again with python -m edgesplit.service.learn.training"
"""What to do about a damaged one."""
STACK, HIDDEN, OUTPUTS = "prices", 32, 2
LEAST_COUNT = 5.0
"""Images that are counted beside those that are there, so that an idle edge can have a price as well."""
LARGEST_SUBSIDY = 0.9
"""Share of a step's latency that its price may take off at most."""


@dataclass(frozen=True)
class Sight:
    """What the policy sees of a round; numbers, or arrays of shape (worlds,).

    Attributes:
        in_flight: images in flight, b_0.
        on_radio: intermediates on the radio, q_0.
        arrivals_per_s: exponential mean of the requests per second until now.
        pending: requests of the round.
        step_latency_s: mean L_i(1) of their users.
    """

    in_flight: ArrayLike
    on_radio: ArrayLike
    arrivals_per_s: ArrayLike
    pending: ArrayLike
    step_latency_s: ArrayLike


FEATURES = 10
NOBODY_S = 1.0
"""Step latency that counts as the mean of a round without users, seconds."""
LEAST_S = 1e-6
"""Seconds below which an edge counts as no faster."""


def features(now: Scenario, sight: Sight) -> Floats:
    """The inputs of the network, numbers around 0; shape (..., features).

    Args:
        now: the system with the GPUs of now; its numbers may be arrays of shape (worlds,).
        sight: what is seen of the round.
    """
    k = np.maximum(now.edge.slope_s / np.asarray(now.gpus), LEAST_S)
    step = np.maximum(_step_now(now, sight), LEAST_S)
    columns = (
        np.log1p(sight.in_flight) - 2.5,
        np.log1p(sight.on_radio) - 1,
        np.log1p(sight.pending) - 1.5,
        np.log1p(sight.arrivals_per_s) - 1.5,
        np.log(now.gpus) - 1.5,
        np.log(1000 * k) - 1,
        np.log(100 * step),
        np.log(100 * np.maximum(transmit_time(now, 1), 1e-4)),
        np.log(np.maximum(sight.step_latency_s, 1e-3)) + 1,
        k * np.asarray(sight.in_flight) / step - 0.5,
    )
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def _step_now(now: Scenario, sight: Sight) -> Floats:
    """L_e(b_0, G), seconds."""
    return edge_step_latency(now, np.asarray(sight.in_flight))


def prices_of(now: Scenario, sight: Sight, says: Floats) -> Prices:
    """The prices that the network's outputs mean; where they are 0, those of the rule `price`.

    p = (k / G) (b_0 + (b_0 + 5) y_1) and f = T (q_0 + b_0 + (q_0 + b_0 + 5) y_2).

    A price below 0 stands for a step that will be shorter than it looks now: it takes off nine tenths of L_e at most,
    and a fee what the intermediates on the radio cost, so that no grant is worth taking for its own sake.

    Args:
        now: the system with the GPUs of now.
        sight: what is seen of the round.
        says: (y_1, y_2), shape (..., 2).
    """
    k, t = now.edge.slope_s / np.asarray(now.gpus), transmit_time(now, 1)
    b_0, waiting = np.asarray(sight.in_flight), np.asarray(sight.on_radio) + np.asarray(sight.in_flight)
    step = k * (b_0 + (b_0 + LEAST_COUNT) * says[..., 0])
    fee = t * (waiting + (waiting + LEAST_COUNT) * says[..., 1])
    least_step, least_fee = -LARGEST_SUBSIDY * _step_now(now, sight), -t * np.asarray(sight.on_radio)
    prices: dict[str, Any] = {"step_s": np.maximum(step, least_step), "grant_s": np.maximum(fee, least_fee)}
    return Prices(**prices)  # arrays where there are several worlds


class PricePolicyCard(Record):
    """What is known of a policy that prices rounds.

    Attributes:
        name: name of the policy.
        trained_on: kinds of worlds that it learned from, in words.
        not_for: where it must not be used, in words.
        revises: whether it has learned to give images in flight new splits at the end of every round.
        familiar: up to which `in_flight`, `on_radio`, `pending` and `arrivals_per_s` it decides.
        steps: number of learning steps.
        minutes: duration of the training.
        scores: mean gain of the policy in held-out worlds of each random kind as a share of that of the rule `price`.
        provenance: date, versions and hyper-parameters.
    """

    schema_: Literal["edgesplit/price-policy-card@1"] = Field(default="edgesplit/price-policy-card@1", alias="schema")
    name: Text
    trained_on: list[Text]
    not_for: Text
    revises: bool = False
    familiar: dict[str, float]
    steps: Annotated[int, Field(ge=1)]
    minutes: Annotated[float, Field(ge=0)]
    scores: dict[str, float]
    provenance: Provenance


@dataclass(frozen=True)
class PricePolicy:
    """A trained network that prices rounds.

    Attributes:
        weights: arrays of its network, by name.
        card: what is known of it; None in training.
        familiar: the largest numbers of a sight, by name, up to which it decides; beyond, the prices are those of the
            rule `price`. None for no bound.
        fall_back: rule for what it cannot see: batches that queue.
    """

    weights: Weights
    card: PricePolicyCard | None = None
    familiar: Mapping[str, float] | None = None
    fall_back: Rule = price

    @property
    def revises(self) -> bool:
        """Whether images in flight get new splits at its prices at the end of every round."""
        return self.card is not None and self.card.revises

    @property
    def digest(self) -> str:
        """What tells its decisions from those of another: weights, the rule to fall back on, whether it revises."""
        weights = sha256(b"".join(self.weights[name].tobytes() for name in sorted(self.weights))).hexdigest()
        return f"{weights} {self.familiar} {self.fall_back} {self.revises}"

    def prices(self, now: Scenario, sight: Sight) -> Prices:
        """The prices of a round, or of one round of many worlds."""
        says = outputs(self.weights, features(now, sight))
        return prices_of(now, sight, says * self._is_familiar(sight)[..., None])

    def _is_familiar(self, sight: Sight) -> Bools:
        """Whether a round is like those of training; a network says anything about others."""
        within = [np.asarray(getattr(sight, name)) <= most for name, most in (self.familiar or {}).items()]
        everywhere = np.ones(np.shape(sight.pending), bool)
        familiar: Bools = np.all(np.broadcast_arrays(everywhere, *within), axis=0)
        return familiar

    def terms(self, now: Scenario, load: Load, users: Users) -> Terms:
        """The terms of a round; where its batch has to wait for others, those of the rule to fall back on."""
        if load.queue_s:
            return self.fall_back(now, load)
        mean_s = users.step_latency_s.mean() if len(users) else NOBODY_S
        sight = Sight(load.in_flight, load.on_radio, load.arrivals_per_s, len(users), mean_s)
        return charged(aware(now, load), _as_numbers(self.prices(now, sight)))

    def plan(
        self,
        scenario: Scenario,
        load: Load,
        users: Users,
        own_steps: Ints | None = None,
        images_each: int | None = None,
    ) -> Plan:
        """The exact plan of one round at the policy's prices; arguments as of `scheduler.decide`."""

        def rule(now: Scenario, load: Load) -> Terms:
            return self.terms(now, load, users)

        return decide(scenario, load, users, rule, own_steps, images_each)


def _as_numbers(prices: Prices) -> Prices:
    """The prices of one round, as plain numbers."""
    return Prices(step_s=float(prices.step_s), grant_s=float(prices.grant_s))


def outputs(weights: Weights, x: Floats) -> Floats:
    """What the network says: layers with tanh between them."""
    return dense(weights, STACK, x, np.tanh)


def shapes() -> Shapes:
    """The shapes of the network's arrays."""
    return layer_shapes(STACK, (FEATURES, HIDDEN, HIDDEN, OUTPUTS))


def load_price_policy(reference: str = DEFAULT_POLICY) -> PricePolicy:
    """Read a policy that prices rounds, by name or path.

    Raises:
        InputError: for a file that is missing, cut short, no safetensors, or of another network or kind of policy.
    """
    path = find_policy(reference, FOLDER, "--policy")
    weights = read_weights(path, REMEDY)
    card = read_record(path.with_suffix(".json"), PricePolicyCard)
    check_shapes(path, weights, shapes(), "the network of --method learned", REMEDY)
    return PricePolicy(weights, card, card.familiar, load_prices().rule())


@cache
def default_price_policy() -> PricePolicy:
    """The policy that ships, read once."""
    return load_price_policy()


def priced(scenario: Scenario, users: Users, policy: PricePolicy | None = None) -> Plan:
    """Plan every cell at a policy's prices, as if as many requests had come in every round of late; `plan`'s method.

    Args:
        scenario: the system, with the load of its edge.
        users: users of one or more cells.
        policy: the policy; None for `default_price_policy`.
    """
    own, granted = policy or default_price_policy(), np.zeros(len(users), bool)
    idle, local_steps = Scenario(**numbers_of(scenario)), np.full(len(users), scenario.total_steps)
    for cell in np.unique(users.cell):
        here = np.flatnonzero(users.cell == cell)
        load = Load(scenario.in_flight, scenario.on_radio, scenario.gpus, here.size / scenario.interval_s)
        plan = own.plan(idle, load, users.take(here))
        granted[here], local_steps[here] = plan.granted, plan.local_steps
    return Plan(granted, local_steps, note="priced for requests of later rounds, which this round's optimum ignores")
