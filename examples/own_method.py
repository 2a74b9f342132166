"""An own method against the exact optimum, on random rounds like the paper's.

python examples/own_method.py [ROUNDS]
"""

import sys

import numpy as np

from edgesplit import Plan, Scenario, Users, compare, draw_instances, split_granted


def slowest_first(scenario: Scenario, users: Users) -> Plan:
    """Grant the slowest devices of every cell, half of the places at most."""
    granted = np.zeros(len(users), bool)
    for cell in range(users.cells):
        places = np.flatnonzero(users.cell == cell)
        slowest = places[np.argsort(-users.step_latency_s[places])]
        granted[slowest[: scenario.max_batch // 2]] = True
    return split_granted(scenario, users, granted)


def main(rounds: int = 100) -> None:
    """Print what each method captures of the gain that is possible."""
    methods = {"exact": "exact", "drl": "drl", "slowest first": slowest_first}
    shares: dict[str, list[float]] = {name: [] for name in methods}
    for instance in draw_instances(rounds, seed=7):
        for outcome in compare(instance.scenario, instance.users, methods):
            shares[outcome.method].append(outcome.totals.captured_share)
    for name, captured in shares.items():
        print(f"{name:14} captured {np.mean(captured):8.2%}, worst of {rounds} rounds {np.min(captured):8.2%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
