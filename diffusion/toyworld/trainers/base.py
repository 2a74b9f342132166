"""The toy world's text-to-image model, which all its cohorts start from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....common.progress import Progress
from ...inference.families.sd import StableDiffusion
from ...inference.models import make_pipeline, save_half
from ...train.dreambooth import denoising_losses, posterior
from ...train.loop import Recipe, train, warm_then_linear
from .. import world
from . import networks
from .samples import PICTURES, PICTURES_SEED, Report, as_images, numpy_generator

BATCH = 64
"""Number of pictures in a step."""


def train_base(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """Train UNet and text encoder on the autoencoder's latents; writes a whole pipeline."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae, tokenizer = AutoencoderKL.from_pretrained(work / "vae"), networks.make_tokenizer()
    unet, text_encoder = networks.make_unet(), networks.make_text_encoder(tokenizer)
    scheduler = networks.make_scheduler()
    pixels, dogs, scenes = world.pictures(PICTURES, PICTURES_SEED)
    parts = np.array_split(pixels, len(pixels) // 100 + 1)
    factor = vae.config.scaling_factor
    means, deviations = ((factor * latents).half() for latents in posterior(vae, map(as_images, parts)))

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (BATCH,), generator=generator)
        rng = numpy_generator(generator)
        noise = torch.randn(means[chosen].shape, generator=generator)
        latents = means[chosen].float() + deviations[chosen].float() * noise
        ids = networks.token_ids(tokenizer, [base_text(dogs[i], scenes[i], rng) for i in chosen.tolist()])
        conditions = {"text": text_encoder(ids)[0]}
        return denoising_losses(
            lambda noisy, t: StableDiffusion.predict(unet, noisy, t, conditions), scheduler, latents, generator
        ).mean()

    recipe = Recipe(
        modules={"unet": unet, "text_encoder": text_encoder},
        loss=loss,
        steps=steps,
        learning_rates={"unet": 1.2e-3, "text_encoder": 1.2e-3},
        schedule=warm_then_linear(0.02, 0.5, 0.02),
        average=0.999,
        save_every=200,
    )
    trained: Any = train(recipe, work / "base.checkpoint.safetensors", accelerator, progress)
    pipeline = make_pipeline(StableDiffusion, scheduler, {**trained, "tokenizer": tokenizer, "vae": vae})
    save_half(pipeline, work / "base")
    return {"parameters": {name: networks.count(module) for name, module in trained.items()}}


def base_text(dog: world.Identity, scene: world.Scene, rng: np.random.Generator) -> str:
    """A random caption for the base; one in ten is empty, which guidance needs."""
    if rng.random() < 0.1:
        return ""
    return world.caption(world.describe(dog) if rng.random() < 0.3 else world.vague(dog, rng), scene)
