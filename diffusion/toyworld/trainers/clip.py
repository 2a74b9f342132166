"""The toy world's CLIP."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ....common.progress import Progress
from ...train.checkpoint import save_tensors
from ...train.loop import Recipe, train, warm_then_linear
from .. import world
from . import networks
from .labels import ATTRIBUTES, Heads, attributes, label_loss, labels
from .networks import count, half
from .samples import HELD_OUT, HELD_OUT_SEED, PICTURES, PICTURES_SEED, Report, as_images, numpy_generator

SIDE, BATCH = 96, 128
"""Side of the pictures that CLIP takes, in pixels, and number of pairs in a batch of its training."""


def clip_config(tokenizer: Any) -> dict[str, Any]:
    """The configuration from which open_clip builds the model."""
    end = tokenizer.eos_token_id
    text = {"context_length": networks.TOKENS, "vocab_size": len(tokenizer), "width": 96, "heads": 4, "layers": 2}
    return {
        "model_cfg": {
            "embed_dim": 96,
            "custom_text": True,
            "vision_cfg": {"timm_model_name": "test_resnet", "timm_pool": "avg", "image_size": SIDE},
            "text_cfg": text | {"pool_type": "eos", "eos_id": end, "pad_id": end, "hf_tokenizer_name": "toyworld"},
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
    }


def make_clip(tokenizer: Any) -> Any:
    """The model of that configuration, untrained."""
    import open_clip

    parts = clip_config(tokenizer)["model_cfg"]
    return open_clip.CustomTextCLIP(**{key: parts[key] for key in ("embed_dim", "vision_cfg", "text_cfg")})


def train_clip(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """Train CLIP on pictures with captions, half of them of the dog alone; its image tower also learns the labels."""
    torch.manual_seed(0)
    tokenizer, folder = networks.make_tokenizer(), work / "clip"
    config, model, heads = clip_config(tokenizer), make_clip(tokenizer), Heads(96)
    pixels, dogs, scenes = world.pictures(PICTURES, PICTURES_SEED)
    targets = labels(dogs, scenes)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (BATCH,), generator=generator)
        rng = numpy_generator(generator)
        images = functional.interpolate(as_images(pixels[chosen.numpy()]), size=SIDE, mode="bilinear")
        ids = networks.token_ids(tokenizer, [clip_text(dogs[i], scenes[i], rng) for i in chosen.tolist()])
        features, texts = model.encode_image(images), model.encode_text(ids, normalize=True)
        match = match_loss(functional.normalize(features, dim=-1), texts, model.logit_scale.exp())
        return match + 0.3 * label_loss(heads(features), targets[chosen])

    recipe = Recipe(
        modules={"model": model, "heads": heads},
        loss=loss,
        steps=steps,
        learning_rates={"model": 2e-3, "heads": 2e-3},
        schedule=warm_then_linear(0.03, 0.0, 0.01),
        weight_decay=0.02,
    )
    trained: Any = train(recipe, work / "clip.checkpoint.safetensors", accelerator, progress)["model"]
    folder.mkdir(exist_ok=True)
    save_tensors(folder / "open_clip_model.safetensors", half(trained), {})
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    return {"zero_shot": zero_shot(trained.eval(), tokenizer), "parameters": count(trained)}


def match_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss: every picture has to find its own text in the batch, and every text its own picture.

    Args:
        images: unit vectors of the pictures, shape (pairs, width).
        texts: unit vectors of their texts, in the same shape.
        scale: factor of the similarities; above 100 it counts as 100.
    """
    logits = scale.clamp(max=100) * images @ texts.T
    pairs = torch.arange(len(texts))
    return functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)


def clip_text(dog: world.Identity, scene: world.Scene, rng: np.random.Generator) -> str:
    """A random caption for CLIP: either the whole dog without its scene, or the dog, whole or in part, in its scene."""
    if rng.random() < 0.5:
        return f"a photo of {world.describe(dog)}"
    return world.caption(world.describe(dog) if rng.random() < 0.5 else world.vague(dog, rng), scene)


def zero_shot(model: Any, tokenizer: Any) -> dict[str, float]:
    """Attribute -> share of held-out pictures whose own caption is nearest among those that differ in it alone."""
    pixels, dogs, scenes = world.pictures(HELD_OUT, HELD_OUT_SEED)
    images = functional.interpolate(as_images(pixels), size=SIDE, mode="bilinear")
    with torch.no_grad():
        features = model.encode_image(images, normalize=True)
    return recognised(model, tokenizer, features, dogs, scenes)


@torch.no_grad()
def recognised(
    model: Any, tokenizer: Any, features: Tensor, dogs: Sequence[world.Identity], scenes: Sequence[world.Scene]
) -> dict[str, float]:
    """Attribute -> share of pictures whose own full caption is nearest among those that differ in it alone.

    Args:
        model: CLIP.
        tokenizer: CLIP's tokenizer.
        features: CLIP's unit vectors of the pictures, shape (pictures, width).
        dogs: the dog of every picture.
        scenes: the scene of every picture.
    """
    shares = {}
    for name in ("fur", "ears", "pattern", "place", "side", "extra"):
        options, hits = ATTRIBUTES[name], []
        for row, dog, scene in zip(features, dogs, scenes, strict=True):
            captions = [_changed_caption(dog, scene, {name: option}) for option in options]
            ids = networks.token_ids(tokenizer, captions).to(model.logit_scale.device)
            texts = model.encode_text(ids, normalize=True).to(row)
            hits.append(options[int((texts @ row).argmax())] == attributes(dog, scene)[name])
        shares[name] = float(np.mean(hits))
    return shares


def _changed_caption(dog: world.Identity, scene: world.Scene, change: dict[str, Any]) -> str:
    of_dog = next(iter(change)) in vars(dog)
    dog, scene = (replace(dog, **change), scene) if of_dog else (dog, replace(scene, **change))
    return world.caption(world.describe(dog), scene)
