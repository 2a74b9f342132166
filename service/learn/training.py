"""Training of a policy that prices rounds: worlds in, weights and card out; a killed training goes on.

`python -m edgesplit.service.learn.training FOLDER` trains the shipped policy again, to the same weights on one kind of
machine. `make learned` is that.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from ...common.arrays import Floats
from ...common.console import run_module, say
from ...common.errors import InputError
from ...common.files import make_folder, whole_file, write_record
from ...common.interrupts import ctrl_c_waits
from ...fitting.schemas import of_today
from ...optimizer.model.qoe import Scenario
from ...optimizer.model.terms import Prices
from ..price_policy import DEFAULT_POLICY, PricePolicy, PricePolicyCard, Sight
from ..simulator import World
from ..tuning import HELD_OUT_SEED, Kind, worlds_of
from .paired import PairedLearner, PairedSettings
from .vector_simulation import VectorSimulation, formula_pricing
from .windows import Windows

MOVING = "random:10,2,4,8"
MIXTURE = (
    *(Kind(f"poisson:{rate}", 20) for rate in (1, 2, 4, 8, 12)),
    *(Kind(f"bursts:{low:g},{7 * low:g},10", 20) for low in (0.5, 1, 2, 3)),
    *(Kind(f"poisson:{rate}", 20, None, MOVING) for rate in (2, 4, 8, 12)),
    *(Kind(f"bursts:{low:g},{7 * low:g},10", 20, None, MOVING) for low in (0.5, 1, 2, 3)),
    *(Kind(f"poisson:{rate}", 1) for rate in (2, 4)),
    Kind("bursts:1,5,10", 1, None, MOVING),
)
"""Kinds of worlds that the shipped policy learned from; mean loads are 1 to 12 requests a second."""
WORLDS, HELD_OUT, SECONDS, SEED = 48, 24, 60.0, 7
"""Training and held-out worlds of each kind, their length, and the seed of the training ones."""
BETWEEN = 100
"""Learning steps between two checkpoints."""
BOUNDED, USUAL = ("in_flight", "on_radio", "pending", "arrivals_per_s"), 0.9995
"""The numbers of a sight that bound where a policy decides, and the share of training's rounds below each bound."""
NOT_FOR = (
    "several servers; own numbers of steps far from 200; loads, radios, GPUs unlike those above taken together; where "
    "batches queue, the tuned prices decide, and where a load is beyond what is familiar, the rule price"
)


def train(
    folder: Path,
    name: str,
    settings: PairedSettings,
    seed: int,
    view: Callable[[int, float], None],
    windows: Sequence[Windows] = (),
) -> None:
    """Train, score and write a policy: `NAME.safetensors` and `NAME.json`, the card, last.

    Args:
        folder: folder to write to; a checkpoint there is gone on from.
        name: name of the policy.
        settings: hyper-parameters.
        seed: of initial weights and exploration.
        view: function that is called after every learning step with their number and the mean gain, seconds.
        windows: worlds of traces, each a kind of its own beside the mixture.

    Raises:
        InputError: where the folder cannot be written, a trace cannot be read or has nothing in its days, or the
            checkpoint in the folder is of another training.
    """
    torch.set_num_threads(1)  # the network is small: more threads only wait for each other
    make_folder(folder)
    drawn = [worlds_of(kind, "default", SECONDS, SEED, WORLDS)[0] for kind in MIXTURE]
    learner = PairedLearner([*drawn, *(one.worlds(SEED) for one in windows)], settings, seed)
    checkpoint = folder / f".{name}.checkpoint"
    if checkpoint.exists():
        learner.load(checkpoint.read_bytes(), str(checkpoint))
    while learner.done < settings.steps:
        gain = learner.step()
        if learner.done % BETWEEN == 0:
            _write(checkpoint, learner.dump())
        view(learner.done, gain)
    _write(folder / f"{name}.safetensors", save(dict(learner.mean)))
    kinds = [*map(words, MIXTURE), *map(str, windows)]
    write_record(folder / f"{name}.json", new_card(name, kinds, learner))
    checkpoint.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with ctrl_c_waits(), whole_file(path, "wb") as part:
        part.write(content)


def held_out_worlds(kind: Kind, count: int = HELD_OUT) -> list[World]:
    """Worlds of seeds that no training sees."""
    return worlds_of(kind, "default", SECONDS, SEED, count)[1]


def familiar(learner: PairedLearner) -> dict[str, float]:
    """The numbers of a sight that one round of 2000 exceeds in the training worlds, under the policy itself."""
    seen: dict[str, list[Floats]] = {name: [] for name in BOUNDED}
    policy = PricePolicy(learner.mean)

    def watching(now: Scenario, sight: Sight) -> Prices:
        for name, values in seen.items():
            values.append(np.asarray(getattr(sight, name), float))
        return policy.prices(now, sight)

    VectorSimulation([world for kind in learner.kinds for world in kind], learner.settings.revises).run(watching)
    return {name: round(float(np.quantile(np.concatenate(values), USUAL)), 2) for name, values in seen.items()}


def scores(policy: PricePolicy, revises: bool, kinds: Sequence[Kind] = MIXTURE) -> dict[str, float]:
    """Gain in held-out worlds of each kind as a share of what the rule `price` gains there, by the kind's words.

    Args:
        policy: the policy.
        revises: whether it gives images in flight new splits; the rule does not.
        kinds: the kinds.
    """
    worlds = [world for kind in kinds for world in held_out_worlds(kind)]
    gains = [
        VectorSimulation(worlds, revises).run(policy.prices),
        VectorSimulation(worlds).run(formula_pricing),
    ]
    learned, formula = (gain.reshape(len(kinds), -1).sum(axis=1) for gain in gains)
    return {words(kind): round(float(share), 5) for kind, share in zip(kinds, learned / formula, strict=True)}


def words(kind: Kind) -> str:
    """A kind of world in words."""
    gpus = kind.gpus_over_time or (f"{kind.gpus} GPUs" if kind.gpus else "8 GPUs")
    return f"{kind.arrivals}, {kind.bandwidth_mhz:g} MHz, {gpus}"


def new_card(name: str, kinds: list[str], learner: PairedLearner) -> PricePolicyCard:
    """The card of a policy that learned from these kinds of worlds, in words."""
    revises, bounds = learner.settings.revises, familiar(learner)
    return PricePolicyCard(
        name=name,
        trained_on=kinds,
        not_for=NOT_FOR,
        revises=revises,
        familiar=bounds,
        steps=learner.done,
        minutes=round(learner.seconds / 60, 2),
        scores=scores(PricePolicy(learner.mean, familiar=bounds), revises),
        provenance=of_today(
            "measured",
            f"edgesplit.service.learn.training; held-out worlds have the seed {SEED + HELD_OUT_SEED}",
            ("edgesplit", "torch", "numpy"),
            [learner.training],
        ),
    )


def main() -> None:
    """Train the shipped policy, or one that has seen a trace as well, into a folder."""
    parser = argparse.ArgumentParser(prog="training", description="Train the shipped policy that prices rounds again.")
    parser.add_argument("folder", type=Path, help="folder for weights and card; a checkpoint there is gone on from")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="learn from minutes of this trace as well")
    parser.add_argument("--to-day", type=float, metavar="DAY", help="its days before this one alone")
    parser.add_argument("--name", help="name of the policy; default: mixed, or trace with --trace")
    options = parser.parse_args()
    name = options.name or (DEFAULT_POLICY if options.trace is None else "trace")
    if options.to_day is not None and options.trace is None:
        raise InputError("--to-day: found it without --trace, accepted: both, or neither")
    to_day = np.inf if options.to_day is None else options.to_day
    windows = windows_of(options.trace, to_day) if options.trace else []

    def view(done: int, gain: float) -> None:
        if done % BETWEEN == 0:
            say(f"{done:,} steps: a world gains {gain:.1f} s with exploration")

    train(options.folder, name, PairedSettings(), 0, view, windows)


def windows_of(trace: Path, to_day: float) -> list[Windows]:
    """Minutes of a trace's first days at mean loads of 2 to 12 requests a second, GPUs that stay and that change."""
    return [
        Windows(path=trace, load=load, gpus_over_time=moving, last_day=to_day)
        for moving in (None, MOVING)
        for load in (2, 4, 8, 12)
    ]


if __name__ == "__main__":
    run_module(main, "training")
