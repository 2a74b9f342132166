"""How much of what offloading can gain a method captures, on held-out instances."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.arrays import Floats
from .drl import drl_convex, out_of_range
from .exact import captured_share, optimum
from .instances import Instance, Range, broad_instance, paper_instance
from .policies import Policy, Scores
from .qoe import Plan, Scenario, Users, all_local, evaluate, objective

HELD_OUT_SEED = 10**6
"""Apart from all training seeds."""
Draw = Callable[[np.random.Generator], Instance]
SETTINGS: dict[str, Draw] = {
    "paper, 5-30 users, G 1-16": paper_instance,
    "paper, 100 users, G 1-16": lambda rng: paper_instance(rng, Range(users=(100, 100))),
    "broad, 1-500 users": lambda rng: broad_instance(rng, (1, 500)),
}


@dataclass(frozen=True)
class Result:
    """Scores of a method, and its median planning time in seconds."""

    scores: Scores
    planning_s: float


def held_out(draw: Draw, count: int) -> list[Instance]:
    """Instances that no policy was trained on."""
    return [draw(np.random.default_rng([HELD_OUT_SEED, number])) for number in range(count)]


def gain_possible(instance: Instance) -> float:
    """The optimum less the value of all denied, seconds."""
    return value_of(instance, optimum(instance.scenario, instance.users))


def value_of(instance: Instance, plan: Plan) -> float:
    """A plan's objective less that of all denied, seconds."""
    scenario, users = instance.scenario, instance.users
    values = [objective(users, evaluate(scenario, users, p))[0] for p in (plan, all_local(scenario, users))]
    return float(values[0] - values[1])


def score_policy(policy: Policy, name: str, instances: Sequence[Instance], possible: Floats) -> Result:
    """Of a policy; an instance out of its range counts as nothing captured.

    Args:
        policy: to score.
        name: of the setting.
        instances: held-out.
        possible: `gain_possible` of each, shape (instances,).
    """
    outside = [out_of_range(policy, instance.scenario, instance.users) is not None for instance in instances]

    def plan(scenario: Scenario, users: Users) -> Plan:
        return drl_convex(scenario, users, policy)

    return score_method(plan, name, instances, possible, np.array(outside))


def score_method(
    method: Callable[[Scenario, Users], Plan],
    name: str,
    instances: Sequence[Instance],
    possible: Floats,
    outside: np.ndarray | None = None,
) -> Result:
    """Of any method with the planner's signature."""
    values, seconds = np.zeros(len(instances)), np.zeros(len(instances))
    for number, instance in enumerate(instances):
        start = time.perf_counter()
        plan = method(instance.scenario, instance.users)
        seconds[number] = time.perf_counter() - start
        values[number] = value_of(instance, plan)
    missed = np.zeros(len(instances), bool) if outside is None else outside
    share = np.where(missed, 0.0, captured_share(values, np.zeros(len(values)), possible))
    share = np.where((possible <= 1e-9) & (values < -1e-9), 0.0, share)  # offloading where nothing can be gained
    scores = Scores(
        setting=name,
        instances=len(instances),
        captured_mean=float(share.mean()),
        captured_p5=float(np.quantile(share, 0.05)),
        captured_worst=float(share.min()),
        optimal_share=float(np.mean(~missed & (possible - values <= 1e-9 * np.maximum(1, np.abs(possible))))),
        gap_mean_s=float(np.mean(possible - values)),
        fall_backs=int(missed.sum()),
    )
    return Result(scores, float(np.median(seconds)))


def score_all(
    methods: Mapping[str, Callable[[Scenario, Users], Plan]], policy: Policy, count: int, settings: Mapping[str, Draw]
) -> dict[str, dict[str, Result]]:
    """Every setting: method -> result, the policy's under its own name and first."""
    found = {}
    for name, draw in settings.items():
        instances = held_out(draw, count)
        possible = np.array([gain_possible(instance) for instance in instances])
        results = {policy.card.name: score_policy(policy, name, instances, possible)}
        results |= {key: score_method(method, name, instances, possible) for key, method in methods.items()}
        found[name] = results
    return found


def as_rows(found: Mapping[str, Mapping[str, Result]]) -> list[dict[str, object]]:
    """One row per setting and method, for JSON."""
    return [
        {"method": method, **result.scores.model_dump(), "planning_s": result.planning_s}
        for results in found.values()
        for method, result in results.items()
    ]
