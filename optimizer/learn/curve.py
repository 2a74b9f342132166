"""Learning curves: what a training reports at its logged points."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from ...common.files import whole_file


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One logged point; means are over the episodes that ended since the point before.

    Attributes:
        episode: number of episodes that have ended so far.
        steps: number of learning steps so far.
        seconds: time of learning so far.
        episode_return: mean objective that the episodes reached, seconds.
        optimum: mean objective of their optimal plans, seconds.
        all_local: mean objective of their plans that deny every request, seconds.
        captured_share: mean share of the possible gain that they captured, exploration included.
        loss: mean loss.
        epsilon: chance to explore.
        temperature: temperature of Boltzmann exploration.
    """

    episode: int
    steps: int
    seconds: float
    episode_return: float
    optimum: float
    all_local: float
    captured_share: float
    loss: float
    epsilon: float
    temperature: float


CURVE = tuple(CurvePoint.__dataclass_fields__)
"""The columns of a learning curve's file."""


def write_curve(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write a learning curve as CSV, six digits each."""
    with whole_file(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(CURVE)
        writer.writerows([f"{value:.6g}" for value in astuple(point)] for point in points)
