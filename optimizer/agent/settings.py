"""Where policies are scored: the settings that held-out instances are drawn from."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from .instances import Instance, Range, broad_instance, grouped_instance, paper_instance
from .policies import Case

Draw = Callable[[np.random.Generator], Instance]
"""Draws one random instance."""
SETTINGS: dict[str, Draw] = {
    "paper, 5-30 users, G 1-16": paper_instance,
    "paper, 100 users, G 1-16": lambda rng: paper_instance(rng, Range(users=(100, 100))),
    "paper's scenario, clustered, 1-60 users": grouped_instance,
    "every kind, 1-500 users": lambda rng: broad_instance(rng, (1, 500)),
}
"""The settings of general policies, under the names that cards have."""
ONE = "its own instance"
"""The setting of a policy for one round."""


def settings_of(gpus: list[int] | None, case: Case | None) -> Mapping[str, Draw]:
    """The held-out settings of a policy, by name.

    Args:
        gpus: numbers of edge GPUs that it is for; None for any number.
        case: its own scenario and round; None for the paper's rounds in the shipped scenario.
    """
    if case and case.users:
        own = Instance(case.scenario, case.users.users())
        return {ONE: lambda _: own}
    base = case.scenario if case else None
    if gpus is None and base is None:
        return SETTINGS
    whose = "own scenario, " if base else ""
    return {whose + name: partial(paper_instance, choices=choices, base=base) for name, choices in ranges(gpus).items()}


def ranges(gpus: list[int] | None) -> dict[str, Range]:
    """The paper's instances by name: those of 1 to 16 GPUs for None, else those of each of these numbers of GPUs."""
    choices = {"1-16": Range()} if gpus is None else {str(g): Range(gpus=(g,)) for g in gpus}
    return {f"5-30 users, G {name}": choice for name, choice in choices.items()}
