"""A small agent for the Gymnasium environment: a linear policy, learned by the cross-entropy method.

python examples/gym_agent.py [GENERATIONS]; needs the extra `train`
"""

import sys

import gymnasium
import numpy as np

from edgesplit import draw_instances, optimum, score

TRAINING, HELD_OUT = draw_instances(10, seed=1), draw_instances(50, seed=2)
ENV = gymnasium.make("edgesplit.optimizer.learn.env:edgesplit/Offloading-v0", reward="gain")


def features(observation: np.ndarray) -> np.ndarray:
    """What the policy looks at: the current user's alpha and step latency, the edge, and how many are granted."""
    alpha, latency, (_, slope, _, _, granted, _) = observation[0], observation[1], observation[-6:]
    return np.array([1.0, np.log(latency), np.log(alpha + 1e-9), 100 * slope, granted / 20])


def episode(weights: np.ndarray, instance: object) -> float:
    """The gain over all local, in seconds, of the policy "grant where weights x features > 0"."""
    observation, _ = ENV.reset(options={"instance": instance})
    gain, done = 0.0, False
    while not done:
        observation, reward, done, _, _ = ENV.step(int(weights @ features(observation) > 0))
        gain += float(reward)
    return gain


def learn(generations: int, population: int = 20, seed: int = 0) -> np.ndarray:
    """Draw policies around the best fifth of the last generation's."""
    rng, mean, spread = np.random.default_rng(seed), np.zeros(5), np.ones(5)
    for _ in range(generations):
        candidates = rng.normal(mean, spread, (population, 5))
        values = [sum(episode(weights, instance) for instance in TRAINING) for weights in candidates]
        best = candidates[np.argsort(values)[-population // 5 :]]
        mean, spread = best.mean(axis=0), best.std(axis=0) + 0.05
    return mean


def main(generations: int = 10) -> None:
    """Print what the policy captures of the possible gain in rounds that it has not seen."""
    weights = learn(generations)
    gains = sum(episode(weights, instance) for instance in HELD_OUT)
    possible = sum(score(i.scenario, i.users, optimum(i.scenario, i.users)).gain for i in HELD_OUT)
    print(f"captured {gains / possible:.1%} of the possible gain in {len(HELD_OUT)} held-out rounds")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
