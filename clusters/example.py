"""An example of the toy world: photos of the dogs of twelve users, six of each of two kinds."""

from pathlib import Path
from typing import Any

import numpy as np

from ..diffusion.toyworld import world
from ..diffusion.toyworld.example import new_cohort_file
from ..diffusion.train.cohort import Cohort, Training, User
from .cohorts import content_of, write_cohort

KINDS: tuple[dict[str, Any], ...] = (
    {"fur": "golden", "ears": "floppy", "pattern": "plain"},
    {"fur": "black", "ears": "pointed", "pattern": "spotted"},
)
"""What the dogs of a kind have in common; shades, second colours, eyes and proportions are each dog's own."""
USERS = ("ada", "bea", "carl", "dana", "emil", "fay", "gil", "hana", "ivo", "jane", "karl", "lena")
PHOTOS = 9
"""Number of photos of each dog: every place once."""


def kind_of(user: str) -> int:
    """The kind of a user's dog: the users' kinds alternate."""
    return USERS.index(user) % len(KINDS)


def write_example(folder: Path) -> Path:
    """Render the photos and write `cohort.toml`, the cohort of all users; returns its path.

    Raises:
        InputError: for a folder that has a cohort file already or cannot be written.
    """
    path = new_cohort_file(folder)
    users = []
    for number, name in enumerate(USERS):
        dog = world.random_identity(np.random.default_rng(number), **KINDS[kind_of(name)])
        world.save_photos(folder / "photos" / name, dog, PHOTOS, number)
        users.append(User(name=name, photos=f"photos/{name}", description=world.describe(dog)))
    training = Training(
        steps=400, batch_size=16, learning_rate=8e-4, text_encoder_learning_rate=4e-4, caption_dropout=0.1, average=0.98
    )
    cohort = Cohort(base="toyworld", class_word=world.CLASS_WORD, guidance_scale=3.0, training=training, users=users)
    write_cohort(path, content_of(cohort), "The toy world: twelve users with two kinds of dogs")
    return path
