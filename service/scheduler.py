"""Who offloads how many steps in a round of an edge that is still at work: pure functions, no clock, no files.

The server calls `decide` on the real clock and the simulator on a virtual one; equal arrivals give equal decisions.
With several servers each has a load and prices of its own: `decide_several`. Images in flight may get other splits
at the end of every round: `revise`.
b_0: images in flight. q_0: intermediates on the radio. b: newly granted users. k: seconds that an image adds to a step
on one GPU. G: GPUs now. T: seconds that one intermediate is on the radio alone. p: price of an offloaded step. f: fee
of a grant. docs/time.md derives the prices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..common.arrays import Floats, Ints
from ..optimizer.methods.assignment.search import assign
from ..optimizer.methods.counts import Group
from ..optimizer.methods.exact import best_decision
from ..optimizer.methods.registry import Method
from ..optimizer.model.qoe import Plan, Scenario, Users, transmit_time, with_load
from ..optimizer.model.servers import Fleet, FleetServer
from ..optimizer.model.terms import Prices, Terms


@dataclass(frozen=True)
class Load:
    """What the edge and the radio are at work on when a round is decided.

    Attributes:
        in_flight: images in flight, b_0.
        on_radio: intermediates on the radio, q_0.
        gpus: edge GPUs now, G; 0 where none is there.
        arrivals_per_s: exponential mean of the requests per second until now; of several servers an equal share.
        queue_s: seconds until a new batch may start, where a round's batch waits for those before; 0 where new images
            join the ones in flight.
        steps_left: steps that are left of every image in flight, m_j, for `aware_delay`; else it may be empty.
        models: numbers of the models without common weights that the images in flight need; empty where all need one.
    """

    in_flight: int = 0
    on_radio: int = 0
    gpus: int = 1
    arrivals_per_s: float = 0.0
    queue_s: float = 0.0
    steps_left: Sequence[int] = ()
    models: tuple[int, ...] = ()


@dataclass(frozen=True)
class Images:
    """Images in flight, whose splits may still change; arrays of shape (images,).

    Attributes:
        step_latency_s: seconds of one step on the user's own device, L_i(1).
        alpha: seconds that a PAI of 1 is worth to the user.
        local_steps: their splits n so far.
        steps_left: steps until they leave the edge at these splits, the one under way included; at least 1.
        own_steps: steps N of every image; None where all have the scenario's.
    """

    step_latency_s: Floats
    alpha: Floats
    local_steps: Ints
    steps_left: Ints
    own_steps: Ints | None = None


Rate = TypeVar("Rate", float, Floats)
Rule = Callable[[Scenario, Load], Terms]
"""A way of pricing: a scenario with the GPUs of now, and a load -> what the exact solver plans under."""
TermsOf = Callable[[Scenario, Load, Users], Terms]
"""The same where it looks at the users of the round as well."""


def blind(scenario: Scenario, load: Load) -> Terms:  # noqa: ARG001 - it does not look
    """The paper: every round finds an empty edge."""
    return Terms(scenario)


def aware(scenario: Scenario, load: Load) -> Terms:
    """The round's own optimum beside what is in flight: p = f = 0. Where batches queue, a grant waits for them."""
    beside = 0 if load.queue_s else load.in_flight
    return Terms(with_load(scenario, beside, load.on_radio), Prices(grant_s=load.queue_s))


def aware_delay(scenario: Scenario, load: Load) -> Terms:
    """As `aware`, less what the images in flight lose: (k / G) sum_j min(N - n, m_j) for every new image."""
    most = max(scenario.total_steps, *load.steps_left, 0)
    shared = np.minimum(np.arange(most + 1)[:, None], np.asarray(load.steps_left, np.int64)).sum(axis=1)
    return charged(aware(scenario, load), Prices(delay_s=added_step(scenario) * shared))


def price(scenario: Scenario, load: Load) -> Terms:
    """Every step and every grant pays the seconds that it costs the others: p = (k / G) b_0, f = T (q_0 + b_0)."""
    return charged(aware(scenario, load), formula(scenario, load.in_flight, load.on_radio))


def formula(scenario: Scenario, in_flight: Any, on_radio: Any) -> Prices:
    """The prices of the rule `price`; numbers, or arrays of shape (worlds,) as the scenario's may be."""
    b_0, q_0 = in_flight, on_radio
    return Prices(step_s=added_step(scenario) * b_0, grant_s=sending(scenario) * (q_0 + b_0))


@dataclass(frozen=True)
class Slopes:
    """One price as a function of the load: unit x (load x own + new x b + arrivals x rate) + base.

    Attributes:
        base_s: price of an empty edge, seconds.
        load: share of the images that are there: b_0 for a step, q_0 + b_0 for a grant.
        new: share of the users that are granted in the same round.
        arrivals: seconds by which the requests of a second are counted as load.
    """

    base_s: float
    load: float
    new: float
    arrivals: float


@dataclass(frozen=True)
class TrainedPrices:
    """The rule `trained`: p = (k / G)(t_1 b_0 + t_4 b + t_5 rate) + t_0 and f likewise, with T and q_0 + b_0.

    Attributes:
        step: numbers of p.
        grant: numbers of f.
    """

    step: Slopes
    grant: Slopes

    def __call__(self, scenario: Scenario, load: Load) -> Terms:
        """The terms of a round."""
        return charged(aware(scenario, load), self.prices(scenario, load.in_flight, load.on_radio, load.arrivals_per_s))

    def prices(self, scenario: Scenario, in_flight: Any, on_radio: Any, arrivals_per_s: Any) -> Prices:
        """The prices; numbers, or arrays of shape (worlds,) as the scenario's may be."""
        b_0, q_0, rate = in_flight, on_radio, arrivals_per_s
        k, t, p, f = added_step(scenario), sending(scenario), self.step, self.grant
        return Prices(
            step_s=k * (p.load * b_0 + p.arrivals * rate) + p.base_s,
            step_rise_s=k * p.new,
            grant_s=t * (f.load * (q_0 + b_0) + f.arrivals * rate) + f.base_s,
            grant_rise_s=t * f.new,
        )


def charged(terms: Terms, prices: Prices) -> Terms:
    """Terms with these prices beside what a grant waits for."""
    return Terms(terms.scenario, replace(prices, grant_s=terms.prices.grant_s + prices.grant_s))


def by_load(rule: Rule) -> TermsOf:
    """A price rule, which looks at the load alone."""
    return lambda scenario, load, users: rule(scenario, load)  # noqa: ARG005 - whoever asks


RULES: Mapping[str, Rule] = {"blind": blind, "aware": aware, "aware-delay": aware_delay, "price": price}
"""The price rules by name; `trained` has a file of numbers."""


def added_step(scenario: Scenario) -> float:
    """k / G: seconds by which an image more makes a step longer."""
    return scenario.edge.slope_s / scenario.gpus


def sending(scenario: Scenario) -> Any:
    """T: seconds that one prompt and one intermediate are on the radio alone; an array if the scenario has arrays."""
    alone = transmit_time(scenario, 1)
    return alone if np.ndim(alone) else float(alone)


def decide(
    scenario: Scenario,
    load: Load,
    users: Users,
    rule: Rule = price,
    own_steps: Ints | None = None,
    images_each: int | None = None,
) -> Plan:
    """The exact plan of one round under a price rule.

    Args:
        scenario: the system, without its load.
        load: what it is at work on.
        users: users of the round, one cell.
        rule: how steps and grants are priced.
        own_steps: steps N of every user's image, shape (users,); None where all have the scenario's.
        images_each: images that the memory of one GPU holds, which bounds b_0 + b; None if that is not known.
    """
    now = scenario_now(scenario, load, images_each)
    if now is None:
        return _all_local(scenario, users, own_steps)
    group = Group(users.step_latency_s[None], users.alpha[None], None if own_steps is None else own_steps[None])
    granted, local_steps = best_decision(rule(now, load), group)
    return Plan(granted[0], local_steps[0])


def revise(scenario: Scenario, load: Load, users: Users, newly: int, images: Images, terms_of: TermsOf) -> Ints:
    """The splits of images in flight at the end of a round, at its prices.

    Args:
        scenario: the system, without its load.
        load: what it is at work on.
        users: users of the round; there may be none.
        newly: how many of them are granted, b.
        images: the images in flight.
        terms_of: how steps are priced; of a price rule `by_load(rule)`.

    Returns:
        n of every image, shape (images,); none leaves before its step under way ends.
    """
    if load.gpus < 1:
        return images.local_steps
    now = replace(scenario, gpus=load.gpus)
    return revised_split(now, images, revision_cost(terms_of(now, load, users), newly))


def revision_cost(terms: Terms, newly: Any) -> Floats:
    """L_e(b_0 + b) + p(b) + (k / G) (b - 1): what a step of an image in flight costs, seconds; of the shape of `newly`.

    It delays the b new images as well, and pays nothing for itself, whom the b_0 in the price count.
    """
    cost: Floats = terms.step_cost(newly) + added_step(terms.scenario) * (np.asarray(newly) - 1)
    return cost


def revised_split(scenario: Scenario, images: Images, step_cost_s: Floats) -> Ints:
    """(P2) again where a step costs so much, for images that have come some way; n, of their shape."""
    best, _ = Terms(scenario).best_split(images.alpha, images.step_latency_s - step_cost_s, images.own_steps)
    latest: Ints = np.minimum(best, images.local_steps + images.steps_left - 1)
    return latest


def decide_several(
    fleet: Fleet,
    loads: Sequence[Load],
    users: Users,
    rule: Rule = price,
    images_each: Sequence[int | None] | None = None,
    method: Method = assign,
) -> Plan:
    """The plan of one round of several servers under a price rule: who goes where, to which model, and the splits.

    Args:
        fleet: the servers, without their load.
        loads: what each is at work on.
        users: users of the round, one cell.
        rule: how each server prices its steps and grants, by its own load.
        images_each: images that the memory of one GPU of each server holds; None where that is not known.
        method: a method for several servers, which plans under these prices.
    """
    each = images_each or [None] * len(loads)
    servers = (_server_now(*one, rule) for one in zip(fleet.servers, loads, each, strict=True))
    return method(replace(fleet, servers=tuple(servers)), users)


def _server_now(server: FleetServer, load: Load, images_each: int | None, rule: Rule) -> FleetServer:
    """A server with its load and prices; one without a GPU or without room grants nobody."""
    now = scenario_now(server.scenario, load, images_each)
    if now is None:
        return replace(server, scenario=replace(server.scenario, max_batch=0))
    terms = rule(now, load)
    in_turn = load.models if terms.scenario.in_flight else ()  # an edge that counts as empty has nobody's models
    return replace(server, scenario=terms.scenario, prices=terms.prices, in_turn=in_turn)


def by_method(method: Method) -> Callable[..., Plan]:
    """A method of the registry as a way to decide rounds: it sees L_e(b_0 + b) and T (q_0 + b), and no prices."""

    def decide_by_method(
        scenario: Scenario, load: Load, users: Users, own_steps: Ints | None = None, images_each: int | None = None
    ) -> Plan:
        now = scenario_now(scenario, load, images_each)
        if now is None:
            return _all_local(scenario, users, own_steps)
        return method(with_load(now, load.in_flight, load.on_radio), users)

    return decide_by_method


def scenario_now(scenario: Scenario, load: Load, images_each: int | None = None) -> Scenario | None:
    """The scenario with the GPUs of now and room for new images; None where there is no GPU or no room."""
    if load.gpus < 1:
        return None
    room = scenario.max_batch
    if images_each is not None:
        room = min(room, load.gpus * images_each - load.in_flight)
    return replace(scenario, gpus=load.gpus, max_batch=room) if room > 0 else None


def _all_local(scenario: Scenario, users: Users, own_steps: Ints | None) -> Plan:
    steps = np.full(len(users), scenario.total_steps) if own_steps is None else np.asarray(own_steps)
    return Plan(np.zeros(len(users), bool), steps)


def added_arrivals(before: float, requests: int, rounds: int, interval_s: float) -> float:
    """The exponential mean of requests per second after a round that ends so many rounds after the last one."""
    if rounds > 1:
        before = recent_rate(before, 0, (rounds - 1) * interval_s)
    return recent_rate(before, requests, interval_s)


def recent_rate(before: Rate, requests: Rate, interval_s: float, memory_s: float = 10.0) -> Rate:
    """The exponential mean of requests per second after one more round.

    Args:
        before: mean before the round, 1/s; a number, or an array.
        requests: requests of the round, likewise.
        interval_s: length of the round, seconds.
        memory_s: seconds after which a request counts 1/e.
    """
    kept = float(np.exp(-interval_s / memory_s))
    return kept * before + (1 - kept) * requests / interval_s
