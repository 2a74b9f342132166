"""An own price rule against those that ship, on a minute of requests whose rounds overlap.

python examples/own_rule.py [ROUNDS]
"""

import sys

import numpy as np

from edgesplit import Load, Scenario, draw_world, load_scenario, simulate
from edgesplit.optimizer.model.terms import Prices, Terms
from edgesplit.service.scheduler import aware


def crowded(scenario: Scenario, load: Load) -> Terms:
    """No price while few images are in flight, and a steep one from there on."""
    crowd = max(0, load.in_flight - scenario.max_batch // 2)
    return Terms(aware(scenario, load).scenario, Prices(step_s=0.002 * crowd))


def main(rounds: int = 60) -> None:
    """Print what each rule gains over all local."""
    world = draw_world(load_scenario(bandwidth_mhz=20), "bursts:2,12,10", rounds=rounds, seed=3)
    local = simulate(world, "all-local").rows["qoe"].astype(float)
    for rule in ("blind", "aware", "price", crowded):
        run = simulate(world, rule)
        gain = run.rows["qoe"].astype(float) - local
        most = int(np.max(run.rows["in_flight_met"].astype(int)))
        print(f"{run.method:8} gains {np.mean(gain):7.3f} s per request; {most} images in flight at most")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
