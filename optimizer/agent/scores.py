"""How much of what offloading can gain a method captures, on held-out instances."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...common.arrays import Bools, Floats
from ..methods.exact import captured_share
from ..methods.registry import Method
from ..methods.scoring import Yardstick, score, yardstick
from ..model.qoe import Plan
from .decide import drl_convex, out_of_range
from .instances import Instance
from .policies import HeldOutScores, Policy
from .settings import Draw

HELD_OUT_SEED = 10**6
"""Seed of held-out instances; the seeds of training are smaller."""


@dataclass(frozen=True)
class HeldOutRounds:
    """Held-out instances of one setting.

    Attributes:
        setting: name of the setting.
        instances: the instances.
        yardsticks: yardstick of each instance, which plans for it are measured against.
    """

    setting: str
    instances: Sequence[Instance]
    yardsticks: Sequence[Yardstick]

    @classmethod
    def of(cls, setting: str, instances: Sequence[Instance]) -> "HeldOutRounds":
        """These instances with their yardsticks."""
        return cls(setting, instances, [yardstick(instance.scenario, instance.users) for instance in instances])

    @property
    def possible(self) -> Floats:
        """What the optimum of each instance is worth over all local, seconds, shape (instances,)."""
        pairs = zip(self.instances, self.yardsticks, strict=True)
        return np.array([gain(instance, against.best, against) for instance, against in pairs])


@dataclass(frozen=True)
class MethodScores:
    """A method's scores in one setting, and its time.

    Attributes:
        scores: how well it plans.
        planning_s: median planning time, seconds; None where it planned nothing.
    """

    scores: HeldOutScores
    planning_s: float | None


def held_out(draw: Draw, count: int) -> list[Instance]:
    """Instances that no policy was trained on."""
    return [draw(np.random.default_rng([HELD_OUT_SEED, number])) for number in range(count)]


def gain(instance: Instance, plan: Plan, against: Yardstick | None = None) -> float:
    """What a plan is worth over all local, seconds; `against` is the instance's yardstick, if it is known already."""
    return score(instance.scenario, instance.users, plan, against).gain


def possible_gain(instance: Instance) -> float:
    """What the optimum is worth over all local, seconds."""
    against = yardstick(instance.scenario, instance.users)
    return gain(instance, against.best, against)


def score_policy(policy: Policy, rounds: HeldOutRounds, orders: int = 1) -> MethodScores:
    """The scores of a policy that decides in so many orders of the users.

    An instance out of its range counts as all local, with nothing captured.
    """
    outside = [out_of_range(policy, i.scenario, i.users) is not None for i in rounds.instances]
    return score_method(partial(drl_convex, policy=policy, orders=orders), rounds, np.array(outside))


def score_method(method: Method, rounds: HeldOutRounds, outside: Bools | None = None) -> MethodScores:
    """The scores of any method.

    Args:
        method: the method.
        rounds: held-out instances.
        outside: whether an instance is not planned and counts as all local, shape (instances,); None for nowhere.
    """
    missed = np.zeros(len(rounds.instances), bool) if outside is None else outside
    gains, seconds = np.zeros(len(missed)), []
    for number in np.flatnonzero(~missed).tolist():
        instance, start = rounds.instances[number], time.perf_counter()
        plan = method(instance.scenario, instance.users)
        seconds.append(time.perf_counter() - start)
        gains[number] = gain(instance, plan, rounds.yardsticks[number])
    return MethodScores(
        _summary(rounds.setting, gains, rounds.possible, missed), float(np.median(seconds)) if seconds else None
    )


def _summary(setting: str, gains: Floats, possible: Floats, missed: Bools) -> HeldOutScores:
    """The scores of plans that are worth `gains` seconds over all local where `possible` seconds are possible."""
    share = np.where(missed, 0.0, captured_share(gains, np.zeros(len(gains)), possible))
    share = np.where((possible <= 1e-9) & (gains < -1e-9), 0.0, share)  # offloading where nothing can be gained
    gap = possible - gains
    gap = np.where(np.abs(gap) <= 1e-9 * np.maximum(1, possible), 0.0, gap)  # another sum of the same plan
    return HeldOutScores(
        setting=setting,
        instances=len(gains),
        captured_mean=float(share.mean()),
        captured_p5=float(np.quantile(share, 0.05)),
        captured_worst=float(share.min()),
        optimal_share=float(np.mean(~missed & (gap <= 0))),
        gap_mean_s=float(gap.mean()),
        fall_backs=int(missed.sum()),
    )


def score_all(
    methods: Mapping[str, Method], policy: Policy, count: int, settings: Mapping[str, Draw], orders: int = 1
) -> dict[str, dict[str, MethodScores]]:
    """Scores by setting and by method; the policy comes first, under its own name.

    Args:
        methods: methods to score beside the policy, by name.
        policy: the policy.
        count: number of instances in each setting.
        settings: what draws the instances of each setting.
        orders: number of orders of the users that the policy decides in as well, beside the single pass; 1 for none.
    """
    tables = {}
    for name, draw in settings.items():
        rounds = HeldOutRounds.of(name, held_out(draw, count))
        own = {policy.card.name: score_policy(policy, rounds)}
        if orders > 1:
            own[f"best of {orders} orders"] = score_policy(policy, rounds, orders)
        tables[name] = own | {key: score_method(method, rounds) for key, method in methods.items()}
    return tables


def as_rows(tables: Mapping[str, Mapping[str, MethodScores]]) -> list[dict[str, object]]:
    """One row for each setting and method, for JSON."""
    return [
        {"method": method, **of_method.scores.model_dump(), "planning_s": of_method.planning_s}
        for table in tables.values()
        for method, of_method in table.items()
    ]
