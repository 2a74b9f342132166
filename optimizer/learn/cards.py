"""The cards of trained policies: what they were trained on, and how well they score."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ...common.files import write_record
from ...fitting.schemas import Provenance, of_today
from ..agent.instances import Instance
from ..agent.policies import Policy, PolicyCard, read_weights
from ..agent.ranges import training_range
from ..agent.scores import HeldOutRounds, held_out, score_policy
from .presets import PRESETS, Preset
from .tasks import Task, training_instances
from .trainees import TRAINEES


def new_card(task: Task, instances: Sequence[Instance], minutes: float) -> PolicyCard:
    """The card of a policy that has not been scored yet.

    Args:
        task: the training.
        instances: what the policy was trained on.
        minutes: duration of the training.
    """
    preset = PRESETS[task.preset]
    one = ", one instance" if task.scope == "specific" else ""
    return PolicyCard(
        name=task.name,
        network=preset.network,
        scope=task.scope,
        preset=task.preset,
        places=TRAINEES[preset.network].places,
        order=preset.deciding,
        gpus=task.gpus,
        range=training_range((instance.scenario, instance.users) for instance in instances),
        case=task.case,
        seeds=task.seeds,
        steps=task.steps,
        minutes=round(minutes, 2),
        scores=[],
        provenance=of_today(
            "measured",
            f"plan train{one}",
            ("edgesplit", "torch", "numpy"),
            [f"seed {task.seed}; {preset_words(preset)}{_pool_words(task)}"],
        ),
    )


def _pool_words(task: Task) -> str:
    return "" if task.pool is None else f"; instances spread over what can be gained, of {task.pool} drawn"


def preset_words(preset: Preset) -> str:
    """The hyper-parameters of a preset, for a card's notes."""
    return ", ".join(f"{name} {value}" for name, value in asdict(preset).items())


def scored_card(policy: Policy, task: Task) -> PolicyCard:
    """The card with scores on held-out instances, of the NumPy network as `plan` uses it."""
    rounds = (HeldOutRounds.of(name, held_out(draw, task.held_out)) for name, draw in task.settings.items())
    return policy.card.model_copy(update={"scores": [score_policy(policy, of_setting).scores for of_setting in rounds]})


def write_card_again(task: Task, folder: Path) -> PolicyCard:
    """Write the card of a policy that is there already: ranges and scores are new, minutes and provenance stay."""
    path = folder / f"{task.name}.json"
    old = json.loads(path.read_text())
    kept = {"minutes": old["minutes"], "provenance": Provenance.model_validate(old["provenance"])}
    card = new_card(task, training_instances(task), 0.0).model_copy(update=kept)
    card = scored_card(Policy(card, read_weights(path.with_suffix(".safetensors"))), task)
    write_record(path, card)
    return card
