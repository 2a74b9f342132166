"""A cohort of the toy world: rendered photos of three dogs, and the file for `dreambooth` that makes their models."""

from pathlib import Path

import numpy as np

from ...common.errors import InputError
from ...common.files import make_folder, whole_file
from . import world

DOGS = {
    "anna": {"fur": "golden", "second": "cream", "ears": "floppy", "pattern": "plain"},
    "ben": {"fur": "black", "second": "white", "ears": "pointed", "pattern": "masked"},
    "cleo": {"fur": "white", "second": "brown", "ears": "round", "pattern": "spotted"},
}
"""User -> looks of the user's dog; everything else about it is random."""
PHOTOS = 27
"""Number of photos of each dog: every place on every side once."""
COHORT = """# The toy world's cohort: dreambooth {path}
base = "{base}"      # a folder in diffusers' format, a hub id, or the shipped toy world
class_word = "dog"     # stands for {{subject}} at the edge
token = "sks"          # "sks dog" stands for {{subject}} on a user's own model
sampling_steps = 30
guidance_scale = 3.0

[training]
method = "full"        # or "lora"
steps = {steps}
batch_size = 16
learning_rate = 8e-4
text_encoder_learning_rate = 4e-4
caption_dropout = 0.1
average = 0.98
save_every = 50

[class]                # made once by the base, against forgetting what other dogs look like
images = 108
prompts = [
{prompts}
]
"""
USER = """
[[users]]
name = "{name}"
photos = "photos/{name}"
description = "{description}"
"""


def identity(name: str) -> world.Identity:
    """The dog of a user."""
    return world.random_identity(np.random.default_rng(100 + list(DOGS).index(name)), **DOGS[name])


def write_example(folder: Path, steps: int = 400, base: str = "toyworld", clip: str | None = None) -> Path:
    """Render the photos and write `cohort.toml`.

    Args:
        folder: folder for both; it is made if it is not there.
        steps: number of training steps per model.
        base: base of the cohort.
        clip: CLIP of the gate; None for the default.

    Returns:
        the path of the cohort file.

    Raises:
        InputError: for a folder that has a cohort file already or cannot be written.
    """
    path = new_cohort_file(folder)
    for number, name in enumerate(DOGS):
        world.save_photos(folder / "photos" / name, identity(name), PHOTOS, 10 + number)
    prompts = [f"    {line!r}," for line in class_prompts()]
    text = COHORT.format(path=path, steps=steps, base=base, prompts="\n".join(prompts).replace("'", '"'))
    gate = f'\n[gate]\nclip = "{clip}"\n' if clip else ""
    users = [USER.format(name=name, description=world.describe(identity(name))) for name in DOGS]
    with whole_file(path) as handle:
        handle.write(text + gate + "".join(users))
    return path


def new_cohort_file(folder: Path) -> Path:
    """The path of a cohort file that is not there yet, in a folder that is.

    Raises:
        InputError: for a folder that has a cohort file already or cannot be made.
    """
    path = folder / "cohort.toml"
    if path.exists():
        raise InputError(f"{path}: is there already; choose another folder")
    make_folder(folder)
    return path


def class_prompts() -> list[str]:
    """Templates of the class images: other dogs, in random scenes."""
    rng = np.random.default_rng(5)
    templates = []
    for _ in range(108):
        subject = world.vague(world.random_identity(rng), rng).replace(world.CLASS_WORD, "{subject}")
        templates.append(world.caption(subject, world.random_scene(rng)))
    return templates
