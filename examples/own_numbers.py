"""A plan from own numbers: an edge GPU, a PAI curve and users that no file knows.

python examples/own_numbers.py
"""

from dataclasses import replace

import pandas as pd

from edgesplit import LatencyModel, PaiCurve, load_scenario, plan, read_users

SCENARIO = replace(
    load_scenario(),
    edge=LatencyModel(slope_s=0.008, intercept_s=0.010),  # L(b) = 8 ms x b + 10 ms, one edge GPU
    gpus=2,
    latent_bits=262_144,  # an fp16 latent of 4 x 64 x 64
    pai=PaiCurve(steepness=0.2, midpoint=21.0),  # F(n) = 1 / (1 + exp(-0.2 (n - 21)))
    total_steps=50,
    min_local_steps=20,
)
USERS = pd.DataFrame(
    {
        "user_id": ["phone", "laptop", "tower"],
        "step_latency_s": [0.9, 0.25, None],
        "device": [None, None, "RTX 4090"],
        "emphasis": [0.5, 0.2, 0.5],
    }
)


def main() -> None:
    """Print the plan and what it gains."""
    outcome = plan(SCENARIO, read_users(USERS, SCENARIO), "exact")
    print(outcome.users[["user_id", "decision", "offloaded_steps", "local_steps", "pai", "latency_s"]].round(3))
    totals = outcome.totals
    print(f"mean latency {totals.mean_latency_s:.2f} s, all local {totals.all_local_mean_latency_s:.2f} s")


if __name__ == "__main__":
    main()
