"""How well the toy world's text-to-image models do, judged by its CLIP, which was trained apart from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from ...inference.clip_images import ImageEncoder, load_image_encoder
from ...inference.hybrid import generate
from ...inference.models import Model
from ...inference.sampling import Sampling
from .. import world
from ..example import identity
from .stages import as_images, told_apart

SAMPLING = Sampling(total_steps=30, guidance_scale=3.0)


def caption_accuracies(model: Model, clip: str | Path, count: int, seed: int = 9) -> dict[str, float]:
    """Share of pictures, drawn from random full captions, in which the CLIP of a folder finds what the caption said."""
    encoder, tokenizer = load_image_encoder(str(clip)), CLIPTokenizer.from_pretrained(clip)
    rng = np.random.default_rng(seed)
    dogs, scenes = [world.random_identity(rng) for _ in range(count)], [world.random_scene(rng) for _ in range(count)]
    captions = [world.caption(world.describe(dog), scene) for dog, scene in zip(dogs, scenes, strict=True)]
    seen = encoder.features(generate(model, captions, range(count), SAMPLING))
    return told_apart(encoder.clip, tokenizer, seen, dogs, scenes)


def identity_accuracy(users: Mapping[str, Model], encoder: ImageEncoder, places: Sequence[str] = ()) -> float:
    """Share of pictures of each user's model, in places and on all sides, most like photos of the user's own dog."""
    photos = torch.stack([encoder.features(photos_of(name)).mean(dim=0) for name in users])  # (users, width)
    templates = [
        world.caption("{subject}", world.random_scene(np.random.default_rng(7), place=place, side=side, extra="none"))
        for place in places or world.PLACES
        for side in world.SIDES
    ]
    hits = []
    for number, model in enumerate(users.values()):
        prompts = [model.prompt(template) for template in templates]
        seen = encoder.features(generate(model, prompts, range(len(prompts)), SAMPLING))
        hits += ((seen @ photos.T).argmax(dim=1) == number).tolist()
    return float(np.mean(hits))


def photos_of(name: str, count: int = 18) -> Tensor:
    """Other photos of a user's dog than the model was trained on, values 0 to 1."""
    pixels = np.stack([pixels for pixels, _ in world.photos(identity(name), count, seed=1000)])
    return (as_images(pixels) + 1) / 2
