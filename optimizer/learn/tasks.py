"""What policies are trained on: the shipped ones, and those of users for their own scenario."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..agent.agents import AGENTS
from ..agent.instances import Instance, Range, broad_instance, default_scenario, paper_instance, shipped_instance
from ..agent.names import Scope
from ..agent.paper_agent import PLACES
from ..agent.policies import Case, RoundUsers
from ..agent.settings import Draw, settings_of
from ..methods.counts import most_granted
from ..model.qoe import Scenario, Users
from .presets import PRESETS, PresetName

MOST_GRANTED = 64
"""Largest number of users that a training instance of a `set` policy grants."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to train.

    Attributes:
        name: name of the policy.
        scope: rounds that the policy is for.
        preset: a key of `PRESETS`.
        draw: draws one training instance.
        seeds: number of training instances.
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
    of_gpus = replace(general, seeds=1000, steps=80_000)
    own = {gpus: specific_task(shipped_instance(gpus), "flat-gain") for gpus in (1, 2, 4, 8)}
    specific = [replace(own[gpus], name=f"specific-{gpus}") for gpus in (1, 2, 4)]
    return [mixed, general, *specific, own[8], *(for_gpus(of_gpus, gpus, f"gpu-{gpus}") for gpus in (1, 2, 4, 8))]


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
    return [task.draw(np.random.default_rng([task.seed, number])) for number in range(task.seeds)]
