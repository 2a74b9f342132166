"""What policies are trained on: the shipped ones, and those of users for their own scenario."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from ..methods.counts import most_granted
from ..model.qoe import Scenario, Users
from .instances import Instance, Range, broad_instance, default_scenario, paper_instance
from .policies import Case, RoundUsers, ScenarioNumbers
from .scores import SETTINGS, Draw

Scope = Literal["general", "gpu", "specific"]
MOST_GRANTED = 64
"""Users that any training instance of a `set` policy grants at most."""
ONE = "its own instance"
"""The setting that a specific policy is scored on."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to train.

    Attributes:
        name: of the policy.
        scope: of the paper.
        preset: a key of `PRESETS`.
        draw: makes an instance.
        seeds: instances to train on.
        steps: learning steps.
        seed: of everything random.
        gpus: that the instances have; None for any.
        case: what is not the paper's: the user's scenario, and for "specific" its round.
        held_out: instances of each setting that the policy is scored on.
    """

    name: str
    scope: Scope
    preset: str
    draw: Draw
    seeds: int
    steps: int
    seed: int = 0
    gpus: list[int] | None = None
    case: Case | None = None
    held_out: int = 1000

    @property
    def settings(self) -> Mapping[str, Draw]:
        """What the policy is scored on."""
        return settings_of(self.gpus, self.case)


def settings_of(gpus: list[int] | None, case: Case | None) -> Mapping[str, Draw]:
    """The held-out settings of a policy for these numbers of GPUs (None: any) and this case (None: the paper's)."""
    if case and case.users:
        own = Instance(case.scenario.scenario(), case.users.users())
        return {ONE: lambda _: own}
    base = case.scenario.scenario() if case else None
    if gpus is None and base is None:
        return SETTINGS
    whose = "own scenario, " if base else ""
    return {whose + name: partial(paper_instance, choices=choices, base=base) for name, choices in ranges(gpus).items()}


def ranges(gpus: list[int] | None) -> dict[str, Range]:
    """The paper's instances, all or for each of these numbers of GPUs, by name."""
    choices = {"1-16": Range()} if gpus is None else {str(g): Range(gpus=(g,)) for g in gpus}
    return {f"5-30 users, G {name}": choice for name, choice in choices.items()}


def shipped_tasks() -> list[Task]:
    """The policies of `data/policies`."""
    draw = mixture(default_scenario())
    mixed = Task(name="set-general", scope="general", preset="set", draw=draw, seeds=6000, steps=60_000)
    general = Task(
        name="paper-general", scope="general", preset="paper", draw=paper_instance, seeds=2000, steps=100_000
    )
    of_gpus = replace(general, seeds=1000, steps=60_000)
    one = [replace(specific_task(shipped_instance(g), "paper"), name=f"specific-{g}", steps=40_000) for g in (1, 2, 4)]
    one.append(specific_task(shipped_instance(), "paper"))
    return [mixed, general, *one, *(for_gpus(of_gpus, g, f"gpu-{g}") for g in (1, 2, 4, 8))]


def user_task(scope: Scope, preset: str, scenario: Scenario, users: Users | None) -> Task:
    """A user's own: the paper's instances in the user's scenario, or one round of the user's.

    Args:
        scope: "general" for any number of GPUs, "gpu" for the scenario's, "specific" for `users` alone.
        preset: a key of `PRESETS`.
        scenario: what stays as it is.
        users: of one cell; only for "specific".
    """
    name = f"own-{scope}"
    if users is not None:
        return replace(specific_task(Instance(scenario, users), preset), name=name)
    own = mixture(scenario) if preset == "set" else partial(paper_instance, base=scenario)
    case = Case(scenario=ScenarioNumbers.of(scenario))
    task = Task(name=name, scope="general", preset=preset, draw=own, seeds=2000, steps=40_000, case=case)
    return for_gpus(replace(task, seeds=1000), scenario.gpus, name) if scope == "gpu" else task


def for_gpus(task: Task, gpus: int, name: str) -> Task:
    """The same with one number of GPUs."""
    base = task.case.scenario.scenario() if task.case else None
    draw = partial(paper_instance, choices=Range(gpus=(gpus,)), base=base)
    return replace(task, name=name, scope="gpu", draw=draw, gpus=[gpus])


def specific_task(instance: Instance, preset: str) -> Task:
    """One instance alone."""
    case = Case(scenario=ScenarioNumbers.of(instance.scenario), users=RoundUsers.of(instance.users))
    return Task(
        name="specific", scope="specific", preset=preset, draw=lambda _: instance, seeds=1, steps=20_000,
        gpus=[instance.scenario.gpus], case=case, held_out=1,
    )  # fmt: skip


def mixture(base: Scenario) -> Draw:
    """Half the paper's instances in this scenario, with 1 to 60 users; the rest of every kind, with up to 500.

    None of them grants more than `MOST_GRANTED`: larger rounds look alike, and would only make every state larger.
    """

    def draw(rng: np.random.Generator) -> Instance:
        paper = rng.random() < 0.5
        drawn = paper_instance(rng, Range(users=(1, 60)), base) if paper else broad_instance(rng, (1, 500))
        scenario, users = drawn.scenario, drawn.users
        most = most_granted(scenario, users.step_latency_s[None], users.alpha[None])[0]
        return drawn if most <= MOST_GRANTED else Instance(replace(scenario, max_batch=MOST_GRANTED), users)

    return draw


def shipped_instance(gpus: int = 8) -> Instance:
    """The case of the specific policies, `data/policies/specific-users.csv`, drawn at 8 GPUs and kept for other G."""
    drawn = paper_instance(np.random.default_rng(20241124), Range(users=(20, 20), gpus=(8,)))
    return Instance(replace(drawn.scenario, gpus=gpus), drawn.users)
