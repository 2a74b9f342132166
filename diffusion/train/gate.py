"""The gate of fine-tuning: how much a model's samples look like the photos of its subject, and of the others'.

Similarity is the mean cosine between CLIP's image features of samples and photos (CLIP-I of the DreamBooth paper,
arXiv 2208.12242, section 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..inference.batch import StepCount, generate, summed
from ..inference.families.base import Model
from ..inference.models import load_model
from .job import Job
from .orders import Order

FIRST_SAMPLE_SEED = 10_000
"""Seed of the first sample; class images have the seeds from 0 on."""


@dataclass(frozen=True)
class Gate:
    """How similar a model's samples are to every user's photos.

    Attributes:
        name: "cluster", or the name of the user.
        before: user -> similarity of the base's samples, made of the same prompts and seeds.
        after: user -> similarity of this model's samples.
        reused: whether the model was finished before this run.
    """

    name: str
    before: dict[str, float]
    after: dict[str, float]
    reused: bool = False

    @property
    def gains(self) -> dict[str, float]:
        """User -> after - before."""
        return {user: self.after[user] - self.before[user] for user in self.after}

    @property
    def others_gain(self) -> float:
        """The largest gain for another user's subject; minus infinity where there is no other user."""
        return max((gain for user, gain in self.gains.items() if user != self.name), default=float("-inf"))

    @property
    def is_its_own(self) -> bool:
        """Whether a user's model became more like its own subject, and more so than like any other's."""
        return self.gains[self.name] > max(0.0, self.others_gain)

    def as_json(self) -> dict[str, Any]:
        """The gate as JSON can hold it."""
        return {"model": self.name, "before": self.before, "after": self.after, "gains": self.gains}


def judge(job: Job, order: Order, folder: Path, reused: bool = False) -> Gate:
    """Compare the base with the model that is stored in a folder, on the same prompts and seeds."""
    model = load_model(folder, subject=order.subject, device=job.device)
    steps = 2 * job.cohort.gate.samples * job.sampling.total_steps
    with job.progress(f"{order.name}: gate", steps, "steps") as progress:
        count = summed(progress)
        before, after = (_similarities(job, judged, order.photos.templates, count) for judged in (job.base, model))
    return Gate(order.name, before, after, reused)


def similarity(samples: Tensor, photos: Tensor) -> float:
    """Mean cosine between unit vectors of samples, shape (samples, width), and of photos, shape (photos, width)."""
    return float((samples @ photos.T).mean())


def _similarities(job: Job, model: Model, templates: Sequence[str], count: StepCount) -> dict[str, float]:
    """User -> similarity of a model's samples of the captions to the user's photos."""
    many = job.cohort.gate.samples
    prompts = [model.prompt(templates[i * len(templates) // many % len(templates)]) for i in range(many)]
    images = generate(model, prompts, range(FIRST_SAMPLE_SEED, FIRST_SAMPLE_SEED + many), job.sampling, count)
    features = job.encoder.features(images)
    return {name: similarity(features, photos) for name, photos in job.features.items()}
