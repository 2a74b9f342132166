"""What policies are trained on: the shipped ones, and those of users for their own scenario."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ...common.errors import InputError
from ..agent.agents import AGENTS
from ..agent.instances import Instance, Range, broad_instance, default_scenario, paper_instance, shipped_instance
from ..agent.names import Scope
from ..agent.paper_agent import PLACES
from ..agent.policies import Case, RoundUsers
from ..agent.scores import possible_gain
from ..agent.settings import Draw, settings_of
from ..methods.counts import most_granted
from ..model.qoe import Scenario, Users
from .presets import PRESETS, PresetName

MOST_GRANTED = 64
"""Largest number of users that a training instance of a `set` policy grants."""
BINS, LEAST_GAIN_S = 20, 1e-6
"""Parts of `spread`, and seconds of which a round has to offer more."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to train.

    Attributes:
        name: name of the policy.
        scope: rounds that the policy is for.
        preset: a key of `PRESETS`.
        draw: draws one training instance.
        seeds: number of training instances.
        pool: number of instances that these are chosen from with `spread`; None for taking the first ones drawn.
        steps: number of learning steps.
        seed: random seed of the instances, of the network's first weights, and of exploration.
        gpus: numbers of edge GPUs of the instances; None for any number.
        case: scenario of a user's own policy, and the round of one of scope "specific"; None for the paper's rounds.
        held_out: number of instances of each setting that the policy is scored on.
    """

    name: str
    scope: Scope
    preset: PresetName
    draw: Draw
    seeds: int
    steps: int
    seed: int = 0
    gpus: list[int] | None = None
    case: Case | None = None
    held_out: int = 1000
    pool: int | None = None

    @property
    def settings(self) -> Mapping[str, Draw]:
        """The settings that the policy is scored on."""
        return settings_of(self.gpus, self.case)


def shipped_tasks() -> list[Task]:
    """The training of every policy in `data/policies`."""
    draw = mixture(default_scenario())
    mixed = Task(name="set-general", scope="general", preset="set", draw=draw, seeds=6000, steps=60_000)
    general = Task(
        name="paper-general", scope="general", preset="flat-gain", draw=paper_instance, seeds=2000, steps=80_000
    )
    of_gpus = dict.fromkeys((1, 2, 4, 8), replace(general, seeds=1000, steps=80_000))
    of_gpus[1] = replace(of_gpus[1], seeds=3000, pool=200_000)  # rounds in which little can be gained are rare
    own = {gpus: specific_task(shipped_instance(gpus), "flat-gain") for gpus in (1, 2, 4, 8)}
    specific = [replace(own[gpus], name=f"specific-{gpus}") for gpus in (1, 2, 4)]
    constrained = [for_gpus(task, gpus, f"gpu-{gpus}") for gpus, task in of_gpus.items()]
    return [mixed, general, *specific, own[8], *constrained]


def user_task(scope: Scope, preset: PresetName, scenario: Scenario, users: Users | None) -> Task:
    """The training of a user's own policy: for the paper's instances in the user's scenario, or for one round.

    Args:
        scope: "general" for any number of GPUs, "gpu" for the scenario's, "specific" for `users` alone.
        preset: a key of `PRESETS`.
        scenario: the user's system.
        users: users of the one round, all of one cell; only for "specific".
    """
    name = f"own-{scope}"
    if users is not None:
        return replace(specific_task(Instance(scenario, users), preset), name=name)
    agent = AGENTS[PRESETS[preset].network](PLACES)
    draw = partial(paper_instance, base=scenario) if agent.needs_range else mixture(scenario)
    case = Case(scenario=scenario)
    task = Task(name=name, scope="general", preset=preset, draw=draw, seeds=2000, steps=40_000, case=case)
    return for_gpus(replace(task, seeds=1000), scenario.gpus, name) if scope == "gpu" else task


def for_gpus(task: Task, gpus: int, name: str) -> Task:
    """The same training under another name, with the paper's instances of one number of GPUs."""
    base = task.case.scenario if task.case else None
    draw = partial(paper_instance, choices=Range(gpus=(gpus,)), base=base)
    return replace(task, name=name, scope="gpu", draw=draw, gpus=[gpus])


def specific_task(instance: Instance, preset: PresetName) -> Task:
    """The training of a policy for one round alone."""
    case = Case(scenario=instance.scenario, users=RoundUsers.of(instance.users))
    return Task(
        name="specific", scope="specific", preset=preset, draw=lambda _: instance, seeds=1, steps=5_000,
        gpus=[instance.scenario.gpus], case=case, held_out=1,
    )  # fmt: skip


def mixture(base: Scenario) -> Draw:
    """Draws the paper's instances in this scenario with 1 to 60 users half of the time, else any kind with up to 500.

    None of them grants more than `MOST_GRANTED` users: larger rounds look alike, and would only make every state
    larger.
    """

    def draw(rng: np.random.Generator) -> Instance:
        paper = rng.random() < 0.5
        drawn = paper_instance(rng, Range(users=(1, 60)), base) if paper else broad_instance(rng, (1, 500))
        scenario, users = drawn.scenario, drawn.users
        most = most_granted(scenario, users.step_latency_s[None], users.alpha[None])[0]
        return drawn if most <= MOST_GRANTED else Instance(replace(scenario, max_batch=MOST_GRANTED), users)

    return draw


def training_instances(task: Task) -> list[Instance]:
    """The instances that a policy learns from."""
    drawn = [task.draw(np.random.default_rng([task.seed, number])) for number in range(task.pool or task.seeds)]
    return drawn if task.pool is None else spread(drawn, task.seeds, np.random.default_rng(task.seed))


def spread(instances: Sequence[Instance], count: int, rng: np.random.Generator) -> list[Instance]:
    """So many of the instances, rounds in which little can be gained as often as those in which much can.

    The logarithm of what can be gained is cut into `BINS` equal parts, each as likely as the others. Rounds in which
    nothing can be gained are left out: there is nothing to learn from their decisions but all local, which the guard
    of a plan makes anyway.

    Raises:
        InputError: where in fewer of them something can be gained.
    """
    possible = np.array([possible_gain(instance) for instance in instances])
    gainful = np.flatnonzero(possible > LEAST_GAIN_S)
    if gainful.size < count:
        raise InputError(
            f"instances: found {gainful.size} in which something can be gained, accepted: {count}; draw more of them"
        )
    size = np.log(possible[gainful])
    part = np.digitize(size, np.linspace(size.min(), size.max(), BINS + 1)[1:-1])
    weight = 1 / np.bincount(part, minlength=BINS)[part]
    chosen = rng.choice(gainful, count, replace=False, p=weight / weight.sum())
    return [instances[place] for place in chosen.tolist()]
