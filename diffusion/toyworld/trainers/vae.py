"""The toy world's autoencoder."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....common.progress import Progress
from ...train.loop import Recipe, train, warm_then_linear
from .. import world
from .networks import count, make_vae
from .samples import HELD_OUT_SEED, PICTURES, PICTURES_SEED, Report, as_images

CROP = 24
"""Side of the crops that it is trained on, in pixels."""


def train_vae(work: Path, steps: int, accelerator: Any, progress: Progress) -> Report:
    """Train the autoencoder, on crops: it becomes sharper than on whole pictures, and sooner."""
    torch.manual_seed(0)
    vae = make_vae()
    pixels = torch.from_numpy(world.pictures(PICTURES, PICTURES_SEED)[0]).permute(0, 3, 1, 2)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(pixels), (32,), generator=generator)
        top, left = (4 * int(n) for n in torch.randint((world.SIDE - CROP) // 4 + 1, (2,), generator=generator))
        images = pixels[chosen][:, :, top : top + CROP, left : left + CROP].float() / 127.5 - 1
        return vae_loss(vae, images, generator)

    recipe = Recipe(
        modules={"vae": vae},
        loss=loss,
        steps=steps,
        learning_rates={"vae": 3e-3},
        schedule=warm_then_linear(0.02, 0.3, 0.01),
        average=0.995,
        weight_decay=1e-4,
        save_every=200,
    )
    trained: Any = train(recipe, work / "vae.checkpoint.safetensors", accelerator, progress)["vae"]
    trained.eval()
    held_out = as_images(world.pictures(128, HELD_OUT_SEED)[0])
    with torch.no_grad():
        latents = trained.encode(held_out).latent_dist.mean
        quality = psnr(trained.decode(latents).sample, held_out)
    trained.register_to_config(scaling_factor=1 / float(latents.std()))
    trained.save_pretrained(work / "vae")
    return {"psnr_db": quality, "parameters": count(trained)}


def vae_loss(vae: Any, images: Tensor, generator: torch.Generator) -> Tensor:
    """Absolute error, squared error, error of the gradients (edges) and a little KL divergence, added up."""
    posterior = vae.encode(images).latent_dist
    error = vae.decode(posterior.sample(generator)).sample - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss: Tensor = error.abs().mean() + error.square().mean() + 0.5 * edges + 1e-5 * divergence
    return loss


def psnr(images: Tensor, others: Tensor) -> float:
    """Peak signal-to-noise ratio of images with values -1 to 1, in dB."""
    return float(10 * torch.log10(4 / (images - others).square().mean()))
