"""How well the toy world's text-to-image models draw, judged by its CLIP, which was trained apart from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from ...inference.batch import generate
from ...inference.clip_images import ImageEncoder, load_image_encoder
from ...inference.families.base import Model
from ...inference.sampling import Sampling
from .. import world
from ..example import identity
from .clip import recognised
from .samples import as_images

SAMPLING = Sampling(total_steps=30, guidance_scale=3.0)


def caption_accuracies(model: Model, clip: str | Path, count: int, seed: int = 9) -> dict[str, float]:
    """Attribute -> share of pictures in which CLIP recognises what their caption says of it.

    Args:
        model: the model that draws.
        clip: folder of CLIP.
        count: number of pictures, each of a random full caption.
        seed: seed of the captions.
    """
    encoder, tokenizer = load_image_encoder(str(clip)), CLIPTokenizer.from_pretrained(clip)
    rng = np.random.default_rng(seed)
    dogs, scenes = [world.random_identity(rng) for _ in range(count)], [world.random_scene(rng) for _ in range(count)]
    captions = [world.caption(world.describe(dog), scene) for dog, scene in zip(dogs, scenes, strict=True)]
    features = encoder.features(generate(model, captions, range(count), SAMPLING))
    return recognised(encoder.clip, tokenizer, features, dogs, scenes)


def identity_accuracy(users: Mapping[str, Model], encoder: ImageEncoder, places: Sequence[str] = ()) -> float:
    """Share of the personal models' pictures that are most like photos of the own dog.

    Args:
        users: user -> personal model.
        encoder: CLIP's image encoder.
        places: places to draw the dogs in, on all sides each; none for all places.
    """
    photos = torch.stack([encoder.features(photos_of(name)).mean(dim=0) for name in users])  # (users, width)
    templates = [
        world.caption("{subject}", world.random_scene(np.random.default_rng(7), place=place, side=side, extra="none"))
        for place in places or world.PLACES
        for side in world.SIDES
    ]
    hits = []
    for number, model in enumerate(users.values()):
        prompts = [model.prompt(template) for template in templates]
        features = encoder.features(generate(model, prompts, range(len(prompts)), SAMPLING))
        hits += ((features @ photos.T).argmax(dim=1) == number).tolist()
    return float(np.mean(hits))


def photos_of(name: str, count: int = 18) -> Tensor:
    """Photos of a user's dog that its model was not trained on, shape (count, 3, 48, 48), values 0 to 1."""
    pixels = np.stack([pixels for pixels, _ in world.photos(identity(name), count, seed=1000)])
    return (as_images(pixels) + 1) / 2
