"""What policies are trained on: the shipped ones, and those of users for their own scenario."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from .instances import Instance, Range, broad_instance, default_scenario, paper_instance
from .qoe import Scenario, Users
from .scores import SETTINGS, Draw

Scope = Literal["general", "gpu", "specific"]
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
        scenario: what a flat policy cannot see; None for a `set` policy.
        settings: held-out settings to score.
        held_out: instances of each.
    """

    name: str
    scope: Scope
    preset: str
    draw: Draw
    seeds: int
    steps: int
    seed: int = 0
    gpus: list[int] | None = None
    scenario: Scenario | None = None
    settings: Mapping[str, Draw] = field(default_factory=lambda: SETTINGS)
    held_out: int = 1000


def shipped_tasks() -> list[Task]:
    """The policies of `data/policies`."""
    paper = default_scenario()
    mixed = Task(name="set-general", scope="general", preset="set", draw=mixture(paper), seeds=6000, steps=80_000)
    general = Task(
        name="paper-general", scope="general", preset="paper", draw=paper_instance, seeds=2000, steps=100_000,
        scenario=paper,
    )  # fmt: skip
    of_gpus = replace(general, name="gpu", scope="gpu", seeds=1000, steps=60_000)
    one = [replace(specific_task(shipped_instance(g), "paper"), name=f"specific-{g}", steps=40_000) for g in (1, 2, 4)]
    one.append(specific_task(shipped_instance(), "paper"))
    return [mixed, general, *one, *(for_gpus(of_gpus, g) for g in (1, 2, 4, 8))]


def user_task(scope: Scope, preset: str, scenario: Scenario, users: Users | None) -> Task:
    """A user's own: the paper's instances in the user's scenario, or one round of the user's.

    Args:
        scope: "general" for any number of GPUs, "gpu" for the scenario's, "specific" for `users` alone.
        preset: a key of `PRESETS`.
        scenario: what stays as it is.
        users: of one cell; only for "specific".
    """
    if users is not None:
        return replace(specific_task(Instance(scenario, users), preset), name=f"own-{scope}")
    own = mixture(scenario) if preset == "set" else partial(paper_instance, base=scenario)
    settings = {"own scenario, 5-30 users, G 1-16": partial(paper_instance, base=scenario)}
    task = Task(
        name=f"own-{scope}", scope="general", preset=preset, draw=own, seeds=2000, steps=40_000,
        scenario=None if preset == "set" else scenario, settings=settings,
    )  # fmt: skip
    return for_gpus(replace(task, seeds=1000), scenario.gpus, task.name) if scope == "gpu" else task


def for_gpus(task: Task, gpus: int, name: str | None = None) -> Task:
    """The same with one number of GPUs."""
    draw = partial(paper_instance, choices=Range(gpus=(gpus,)), base=task.scenario)
    settings = {f"5-30 users, G {gpus}": draw}
    name = name or f"{task.name}-{gpus}"
    return replace(task, name=name, scope="gpu", draw=draw, gpus=[gpus], settings=settings)


def specific_task(instance: Instance, preset: str) -> Task:
    """One instance alone."""
    return Task(
        name="specific", scope="specific", preset=preset, draw=lambda _: instance, seeds=1, steps=20_000,
        gpus=[instance.scenario.gpus], scenario=instance.scenario, settings={ONE: lambda _: instance}, held_out=1,
    )  # fmt: skip


def mixture(base: Scenario) -> Draw:
    """Half the paper's instances in this scenario, with 1 to 60 users; the rest of every kind, with up to 500."""

    def draw(rng: np.random.Generator) -> Instance:
        if rng.random() < 0.5:
            return paper_instance(rng, Range(users=(1, 60)), base)
        return broad_instance(rng, (1, 500))

    return draw


def shipped_instance(gpus: int = 8) -> Instance:
    """The case of the specific policies, `data/policies/specific-users.csv`, drawn at 8 GPUs and kept for other G."""
    drawn = paper_instance(np.random.default_rng(20241124), Range(users=(20, 20), gpus=(8,)))
    return Instance(replace(drawn.scenario, gpus=gpus), drawn.users)
