"""What each switch of the preset `flat-gain` is worth: `python benchmarks/switches.py [SWITCH]...`, a table of shares.

The preset, and the preset with one switch changed, are trained for a few learning steps on the same instances, from
several seeds each. The share that a single pass captures is scored on validation rounds, which are neither those of
training nor the held-out ones. The paper's preset stands beside.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from rich.console import Console

from edgesplit.common.console import say
from edgesplit.common.tables import plain_table
from edgesplit.optimizer.agent.instances import Instance, paper_instance
from edgesplit.optimizer.agent.scores import possible_gain
from edgesplit.optimizer.learn.dqn import Learner, roll_out
from edgesplit.optimizer.learn.paper_tables import PaperTables, paper_tables
from edgesplit.optimizer.learn.presets import PRESETS, Preset
from edgesplit.optimizer.learn.tasks import spread

STEPS, SEEDS = 5000, (0, 1, 2)
SPREAD, POOL = "instances spread over the gain", 20_000
"""The switch that is no part of a preset: the training instances are chosen from so many, as those of `gpu-1`."""
TRAINING, VALIDATION, VALIDATION_SEED = 2000, 500, 900_001
OURS = PRESETS["flat-gain"]
PAPER_STEPS = 20_000
"""Learning steps of the paper's preset, whose mini-batches are a quarter of ours."""
SWITCHES: dict[str, Preset] = {
    "flat-gain": OURS,
    "one reward, then the target network": replace(OURS, n_step=1),
    "five rewards": replace(OURS, n_step=5),
    "one reward, double DQN": replace(OURS, n_step=1, double=True),
    "the paper's reward, (21)": replace(OURS, reward="paper"),
    "order of the file": replace(OURS, order="file", deciding="file"),
    "random orders alone": replace(OURS, order="random"),
    "slowest first alone": replace(OURS, order="slowest"),
    "last weights, no mean": replace(OURS, averaging=0.0),
    "constant learning rate": replace(OURS, last_learning_rate=OURS.learning_rate),
    "uniform replay": replace(OURS, exponent=0.0),
    "squared loss": replace(OURS, robust=False),
    "batch of 128": replace(OURS, batch=128),
    SPREAD: OURS,
    "paper": PRESETS["paper"],
}


def drawn(seed: int, count: int) -> list[Instance]:
    """Instances of the paper's kind."""
    return [paper_instance(np.random.default_rng([seed, number])) for number in range(count)]


@cache
def training_tables(spread_out: bool) -> PaperTables:
    """What the switches train on; instances as they come, or spread over what can be gained."""
    instances = spread(drawn(0, POOL), TRAINING, np.random.default_rng(0)) if spread_out else drawn(0, TRAINING)
    return paper_tables(instances)


def trained(name: str, tables: PaperTables, seed: int) -> torch.nn.Module:
    """The network of a switch after its training."""
    steps = PAPER_STEPS if name == "paper" else STEPS
    learner = Learner(tables, SWITCHES[name], steps, seed)
    while learner.done < steps:
        learner.turn()
    return learner.policy


def main(names: Sequence[str]) -> None:
    """Train, score and print; each row is said as soon as it is known."""
    torch.set_num_threads(1)
    rounds = drawn(VALIDATION_SEED, VALIDATION)
    validation, possible = paper_tables(rounds), np.array([possible_gain(one) for one in rounds])
    table = plain_table("switch", "mean of each seed", "5th percentile")
    for name in names or SWITCHES:
        shares, training = [], training_tables(name == SPREAD)
        for seed in SEEDS:
            gains = np.maximum(0, roll_out(trained(name, training, seed), validation, SWITCHES[name].deciding))
            shares.append(np.where(possible > 1e-9, gains / np.maximum(possible, 1e-9), 1.0))
        means = [f"{100 * share.mean():.2f} %" for share in shares]
        fifths = [f"{100 * np.quantile(share, 0.05):.1f} %" for share in shares]
        table.add_row(name, ", ".join(means), ", ".join(fifths))
        say(f"{name}: {', '.join(means)}; 5th percentile {', '.join(fifths)}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
