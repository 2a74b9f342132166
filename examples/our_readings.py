"""What two of our readings of the paper change, over random rounds with 1 to 16 edge GPUs.

Users whose device is faster than the edge: Remark 1's interval of their alpha is negative as printed. edgesplit leaves
out the sign; one could also draw other users. And the floor of the default edge profile, which the paper's k b + h has
not. `python examples/our_readings.py 300` draws 300 rounds for each number of GPUs, in some ten seconds.
"""

import sys
from dataclasses import replace

import numpy as np

from edgesplit import Scenario, Users, draw_instances, plan

GPUS = (1, 2, 4, 8, 16)
Round = tuple[Scenario, Users]


def optima(rounds: list[Round]) -> tuple[float, np.ndarray]:
    """What the optimum gains over all local, in seconds per user, and how many users it grants in each round."""
    totals = [plan(scenario, users, "exact").totals for scenario, users in rounds]
    gained = sum(t.objective - t.all_local_objective for t in totals)
    return gained / sum(len(users) for _, users in rounds), np.array([t.granted for t in totals])


def main(count: int = 300) -> None:
    """Print both."""
    print("        L_i < L_e(b-hat):   sign left out           drawn anew           floor        without it")
    print(" G      of the users        gain     granted        gain     granted     binds in     gain")
    for gpus in GPUS:
        rounds = [(one.scenario, one.users) for one in draw_instances(count, gpus=[gpus])]
        scenario = rounds[0][0]
        devices = np.unique(np.concatenate([users.step_latency_s for _, users in rounds]))  # each equally likely
        slower = devices[devices > scenario.edge.step_latency(scenario.reference_batch / gpus)]
        anew = [(one.scenario, one.users) for one in draw_instances(count, gpus=[gpus], devices=slower.tolist())]
        line = replace(scenario.edge, floor_s=0.0)
        (gain, granted), (gain_anew, granted_anew) = optima(rounds), optima(anew)
        gain_line, _ = optima([(replace(one, edge=line), users) for one, users in rounds])
        binds = (granted > 0) & (line.step_latency(granted / gpus) < scenario.edge.floor_s)
        print(
            f"{gpus:2} {1 - len(slower) / len(devices):14.1%} {gain:15.2f} s {granted.mean():9.1f} {gain_anew:13.2f} s "
            f"{granted_anew.mean():9.1f} {binds.mean():11.0%} {gain_line:10.2f} s"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
