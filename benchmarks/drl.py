"""Learning and planning speed of DRL-convex, against peers measured in the same run: `python benchmarks/drl.py DIR`.

1. Learning: environment steps per second, and wall time until 95 % and 99 % of what offloading can gain is captured on
   held-out instances, against Stable-Baselines3's DQN on the registered environment: the same instances, one thread
   each. The peer gets our scaling of states and rewards, and the paper's network and hyper-parameters. The share before
   any learning stands beside: `set` knows the reward of granting, so that it starts from a greedy rule and noise.
2. Planning: processor time of `drl` against `exact` from 1 to 500 users; draws DIR/growth_drl.png.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from edgesplit.common.tables import plain_table
from edgesplit.optimizer.agent.decide import default_policy, drl_convex
from edgesplit.optimizer.agent.instances import Instance, Range, paper_instance
from edgesplit.optimizer.agent.paper_agent import GLOBAL_SCALE, LOCAL_SCALE, PLACES
from edgesplit.optimizer.agent.scores import held_out, possible_gain
from edgesplit.optimizer.learn.dqn import Learner, roll_out
from edgesplit.optimizer.learn.env import ENV_ID, OffloadingEnv
from edgesplit.optimizer.learn.paper_tables import paper_tables
from edgesplit.optimizer.learn.presets import PRESETS, PresetName
from edgesplit.optimizer.learn.trainees import TRAINEES
from edgesplit.optimizer.methods.exact import optimum

LIMIT_S, LEAST_S = 240.0, 20.0
SEEDS, HELD_OUT = 2000, 200
GOALS = (0.95, 0.99)
STEPS = 40_000
BETWEEN: dict[PresetName, int] = {"set": 25, "flat-gain": 100}
"""Presets that are measured, and the steps of all their episodes between two evaluations."""


@dataclass
class Curve:
    """Captured share against seconds of learning.

    Attributes:
        name: name of the learner.
        points: seconds of learning so far and captured share, at every evaluation.
        steps: number of environment steps.
        clock: seconds of learning; evaluation does not count.
    """

    name: str
    points: list[tuple[float, float]]
    steps: int = 0
    clock: float = 0.0

    def time_to(self, goal: float) -> float | None:
        """Seconds until a share is reached; None where it never is."""
        return next((seconds for seconds, share in self.points if share >= goal), None)


def shares(values: np.ndarray, possible: np.ndarray) -> float:
    """Mean captured share."""
    return float(np.mean(np.where(possible > 1e-9, values / np.where(possible > 1e-9, possible, 1), 1.0)))


def ours(preset: PresetName, instances: list[Instance], held: list[Instance], possible: np.ndarray) -> Curve:
    """The curve of one of our presets."""
    chosen, between = PRESETS[preset], BETWEEN[preset]
    tables, tested = (TRAINEES[chosen.network].make_tables(rounds) for rounds in (instances, held))
    learner, curve = Learner(tables, chosen, STEPS, 0), Curve(f"edgesplit, {preset}", [])
    curve.points.append((0.0, shares(roll_out(learner.policy, tested, chosen.deciding), possible)))
    while curve.clock < LIMIT_S and learner.done < STEPS:
        start = time.perf_counter()
        for _ in range(between):
            learner.turn()
        curve.clock += time.perf_counter() - start
        curve.steps += between * chosen.episodes
        curve.points.append((curve.clock, shares(roll_out(learner.policy, tested, chosen.deciding), possible)))
        if curve.points[-1][1] >= GOALS[-1] and curve.clock > LEAST_S:
            break
    return curve


class Scaled(gymnasium.Wrapper):
    """States and rewards in the units that our own learner sees."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.units = np.concatenate([np.tile([*LOCAL_SCALE, 1 / 3], PLACES), GLOBAL_SCALE]).astype(np.float32)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        seen, info = self.env.reset(**options)
        self.scale = float(paper_tables([self.env.unwrapped.instance]).scale[0])
        return seen * self.units, info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Decide for the current user."""
        seen, reward, done, truncated, info = self.env.step(action)
        return seen * self.units, reward / self.scale, done, truncated, info


class Watch(BaseCallback):
    """Scores the peer now and then, with the clock stopped, and ends its learning at the limit."""

    def __init__(self, curve: Curve, score: Callable[[Any], float]) -> None:
        super().__init__()
        self.curve, self.score = curve, score

    def _on_training_start(self) -> None:
        self.last = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps % 5000 == 0:
            self.curve.clock += time.perf_counter() - self.last
            self.curve.steps = self.num_timesteps
            self.curve.points.append((self.curve.clock, self.score(self.model)))
            self.last = time.perf_counter()
        return self.curve.clock < LIMIT_S


def peer(instances: list[Instance], held: list[Instance], possible: np.ndarray) -> Curve:
    """The curve of Stable-Baselines3's DQN on the registered environment."""

    def draw(rng: np.random.Generator) -> Instance:
        return instances[int(rng.integers(len(instances)))]

    env, curve = Scaled(gymnasium.make(ENV_ID, instances=draw, reward="gain")), Curve("Stable-Baselines3 DQN", [])
    model = DQN(
        "MlpPolicy", env, learning_rate=1e-4, buffer_size=400_000, batch_size=128, gamma=1.0, train_freq=4,
        target_update_interval=2000, exploration_initial_eps=0.5, exploration_final_eps=0.001, learning_starts=1000,
        exploration_fraction=0.5, policy_kwargs={"net_arch": [256, 256, 256]}, seed=0, device="cpu",
    )  # fmt: skip
    tested = Scaled(gymnasium.Wrapper(OffloadingEnv(reward="gain")))

    def score(agent: Any) -> float:
        return shares(np.array([play(agent, tested, instance) for instance in held]), possible)

    curve.points.append((0.0, score(model)))
    model.learn(400_000, callback=Watch(curve, score))
    return curve


def play(agent: Any, env: Scaled, instance: Instance) -> float:
    """The gain over all local, seconds, that an agent reaches when it does not explore."""
    seen, _ = env.reset(options={"instance": instance})
    done = False
    while not done:
        action, _ = agent.predict(seen, deterministic=True)
        seen, _, done, _, info = env.step(int(action))
    return float(info["objective"] - info["all_local_objective"])


def learning_table() -> Table:
    """Our presets beside the peer."""
    instances = [paper_instance(np.random.default_rng([0, number])) for number in range(SEEDS)]
    held = held_out(paper_instance, HELD_OUT)
    possible = np.array([possible_gain(instance) for instance in held])
    curves = [ours(preset, instances, held, possible) for preset in BETWEEN]
    curves.append(peer(instances, held, possible))
    goals = [f"s to {goal:.0%}" for goal in GOALS]
    table = plain_table("learner", "steps/s", "untrained", *goals, "best share", "after s")
    for curve in curves:
        times = [curve.time_to(goal) for goal in GOALS]
        best = max(curve.points, key=lambda point: point[1])
        shown = [f"{seconds:.1f}" if seconds is not None else f"> {curve.clock:.0f}" for seconds in times]
        first = f"{curve.points[0][1]:.2%}"
        speed = f"{curve.steps / curve.clock:,.0f}"
        table.add_row(curve.name, speed, first, *shown, f"{best[1]:.3%}", f"{best[0]:.0f}")
    theirs = curves.pop()
    table.add_section()
    for mine in curves:
        ratios = [_ratio(mine.time_to(goal), theirs.time_to(goal), theirs.clock) for goal in GOALS]
        speed = (mine.steps / mine.clock) / (theirs.steps / theirs.clock)
        table.add_row(f"{mine.name}, against the peer", f"{speed:.1f}x", "", *ratios)
    return table


def _ratio(mine: float | None, theirs: float | None, limit: float) -> str:
    """How many times as long as we the peer takes, in words where we never arrive or need not learn."""
    if not mine:
        return "-" if mine is None else "at once"
    return f"{'> ' if theirs is None else ''}{(theirs or limit) / mine:.0f}x"


def growth() -> Iterator[tuple[int, str, float]]:
    """Numbers of users, methods and their planning times in seconds; loading the policy does not count."""
    default_policy()
    for count in (1, 5, 10, 20, 50, 100, 200, 500):
        instance = paper_instance(np.random.default_rng(count), Range(users=(count, count), gpus=(8,)))
        for name, method in (("drl", drl_convex), ("exact", optimum)):
            yield count, name, median_seconds(lambda m=method, i=instance: m(i.scenario, i.users))


def median_seconds(work: Callable[[], Any], repeats: int = 101) -> float:
    """Median processor time of a call in seconds, which other work on the machine hardly changes."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def draw_growth(rows: pd.DataFrame, path: Path) -> None:
    """Draw planning time against users, on log axes."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    with sns.axes_style("whitegrid"):
        axis = figure.subplots()
    sns.lineplot(rows, x="users", y="ms", hue="method", style="method", markers=True, ax=axis, palette="colorblind")
    axis.set(xscale="log", yscale="log", xlabel="users of a round (B_max = 20)", ylabel="processor time, ms")
    axis.set_xticks([1, 10, 100, 500], ["1", "10", "100", "500"])
    axis.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axis.minorticks_off()
    figure.savefig(path, dpi=120)


def main(folder: Path) -> None:
    """Print both tables and draw planning time."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=120, highlight=False)
    rows = pd.DataFrame(growth(), columns=["users", "method", "seconds"])
    rows["ms"] = 1e3 * rows["seconds"]
    table = plain_table("users", "drl ms", "exact ms", "drl / exact")
    for users, part in rows.groupby("users"):
        drl, exact = (float(part.loc[part["method"] == name, "ms"].iloc[0]) for name in ("drl", "exact"))
        table.add_row(str(users), f"{drl:.2f}", f"{exact:.2f}", f"{drl / exact:.1f}")
    console.print(table)
    draw_growth(rows, folder / "growth_drl.png")
    console.print(f"wrote {folder / 'growth_drl.png'}\n")
    console.print(learning_table())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
