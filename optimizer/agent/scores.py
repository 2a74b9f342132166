"""How much of what offloading can gain a method captures, on held-out instances."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...common.arrays import Bools, Floats
from ..methods.exact import captured_share, optimum
from ..model.qoe import Plan, Scenario, Users, all_local, evaluate
from .decide import drl_convex, out_of_range
from .instances import Instance, Range, broad_instance, clustered_instance, paper_instance
from .policies import Policy, Scores

HELD_OUT_SEED = 10**6
"""Apart from all training seeds, which are less."""
Draw = Callable[[np.random.Generator], Instance]
SETTINGS: dict[str, Draw] = {
    "paper, 5-30 users, G 1-16": paper_instance,
    "paper, 100 users, G 1-16": lambda rng: paper_instance(rng, Range(users=(100, 100))),
    "paper's scenario, clustered, 1-60 users": clustered_instance,
    "every kind, 1-500 users": lambda rng: broad_instance(rng, (1, 500)),
}


@dataclass(frozen=True)
class Result:
    """Scores of a method, and its median planning time in seconds; None where it planned nothing."""

    scores: Scores
    planning_s: float | None


def held_out(draw: Draw, count: int) -> list[Instance]:
    """Instances that no policy was trained on."""
    return [draw(np.random.default_rng([HELD_OUT_SEED, number])) for number in range(count)]


def gain_possible(instance: Instance) -> float:
    """The optimum less the value of all denied, seconds."""
    return value_of(instance, optimum(instance.scenario, instance.users))


def value_of(instance: Instance, plan: Plan) -> float:
    """A plan's objective less that of all denied, seconds."""
    scenario, users = instance.scenario, instance.users
    planned, local = (evaluate(scenario, users, p).qoe for p in (plan, all_local(scenario, users)))
    return float((planned - local).sum())  # user by user: a huge alpha of those denied cancels


def score_policy(policy: Policy, name: str, instances: Sequence[Instance], possible: Floats) -> Result:
    """Of a policy; an instance out of its range counts as all local, nothing captured.

    Args:
        policy: to score.
        name: of the setting.
        instances: held-out.
        possible: `gain_possible` of each, shape (instances,).
    """
    outside = [out_of_range(policy, instance.scenario, instance.users) is not None for instance in instances]
    return score_method(partial(drl_convex, policy=policy), name, instances, possible, np.array(outside))


def score_method(
    method: Callable[[Scenario, Users], Plan],
    name: str,
    instances: Sequence[Instance],
    possible: Floats,
    outside: Bools | None = None,
) -> Result:
    """Of any method with the planner's signature, which is not asked where it is outside its range."""
    missed = np.zeros(len(instances), bool) if outside is None else outside
    values, seconds = np.zeros(len(instances)), []
    for number in np.flatnonzero(~missed).tolist():
        instance, start = instances[number], time.perf_counter()
        plan = method(instance.scenario, instance.users)
        seconds.append(time.perf_counter() - start)
        values[number] = value_of(instance, plan)
    share = np.where(missed, 0.0, captured_share(values, np.zeros(len(values)), possible))
    share = np.where((possible <= 1e-9) & (values < -1e-9), 0.0, share)  # offloading where nothing can be gained
    gap = possible - values
    gap = np.where(np.abs(gap) <= 1e-9 * np.maximum(1, possible), 0.0, gap)  # another sum of the same plan
    scores = Scores(
        setting=name,
        instances=len(instances),
        captured_mean=float(share.mean()),
        captured_p5=float(np.quantile(share, 0.05)),
        captured_worst=float(share.min()),
        optimal_share=float(np.mean(~missed & (gap <= 0))),
        gap_mean_s=float(gap.mean()),
        fall_backs=int(missed.sum()),
    )
    return Result(scores, float(np.median(seconds)) if seconds else None)


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
