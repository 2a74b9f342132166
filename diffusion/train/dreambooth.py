"""DreamBooth (arXiv 2208.12242): one model fine-tuned on one subject's photos, with prior preservation.

The cluster-wide model (paper section 3.2) is trained in the same way, on photos of many subjects, with the class word
for all of them and without prior preservation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inference.families.sd import StableDiffusion
from ..inference.schedules import completed
from ..inference.templates import fill
from .cohort import Training
from .loop import Recipe, warm_then_linear
from .photos import Photos


@dataclass(frozen=True)
class Examples:
    """Pictures as latents with their captions.

    Attributes:
        means: scaled means of the latents, shape (pictures, channels, height, width).
        deviations: scaled standard deviations of the latents, in the same shape.
        tokens: token ids of the captions, shape (pictures, tokens).
    """

    means: Tensor
    deviations: Tensor
    tokens: Tensor

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents and tokens of random pictures, drawn with replacement."""
        chosen = torch.randint(len(self.means), (size,), generator=generator)
        noise = torch.randn(size, *self.means.shape[1:], generator=generator).to(self.means)
        chosen = chosen.to(self.means.device)
        return self.means[chosen] + self.deviations[chosen] * noise, self.tokens[chosen]


@torch.no_grad()
def scaled_posterior(vae: Any, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the latents of pictures, scaled as the UNet takes them.

    Args:
        vae: the autoencoder.
        batches: batches of pictures, shape (b, 3, height, width), values -1 to 1.
    """
    posteriors = [vae.encode(batch.to(vae.device, vae.dtype)).latent_dist for batch in batches]
    means = torch.cat([posterior.mean for posterior in posteriors])
    deviations = torch.cat([posterior.std for posterior in posteriors])
    return vae.config.scaling_factor * means.float(), vae.config.scaling_factor * deviations.float()


def encode(model: StableDiffusion, photos: Photos, subject: str) -> Examples:
    """Latents of photos, captioned with words for the subject."""
    means, deviations = scaled_posterior(model.vae, photos.images.split(16))
    captions = [fill(template, subject) for template in photos.templates]
    return Examples(means, deviations, model.tokens(captions).to(model.device))


def make_recipe(
    model: StableDiffusion, modules: dict[str, nn.Module], own: Examples, prior: Examples | None, how: Training
) -> Recipe:
    """The fine-tuning of a model's UNet, and of its text encoder where that has a learning rate.

    Args:
        model: the base.
        modules: "unet" and "text_encoder", either copies of the base's or LoRAs on them.
        own: pictures of the subject.
        prior: class images; None for no prior preservation.
        how: settings of the training.
    """
    scheduler, empty = _noise_scheduler(model), model.tokens([""]).to(model.device)

    def loss(generator: torch.Generator) -> Tensor:
        latents, tokens = own.batch(how.batch_size, generator)
        weights = torch.ones(len(latents), device=latents.device)
        if prior:
            more, its_tokens = prior.batch(how.batch_size, generator)
            latents, tokens = torch.cat([latents, more]), torch.cat([tokens, its_tokens])
            weights = torch.cat([weights, torch.full_like(weights, how.prior_weight)])
        dropped = torch.rand(len(tokens), generator=generator) < how.caption_dropout
        tokens = torch.where(dropped.to(tokens.device)[:, None], empty, tokens)
        embeddings = modules["text_encoder"](tokens)[0]
        return (weights * denoising_losses(modules["unet"], scheduler, latents, embeddings, generator)).mean()

    return Recipe(
        modules={part: modules[part] for part, rate in how.rates.items() if rate > 0},
        loss=loss,
        steps=how.steps,
        learning_rates=how.rates,
        schedule=warm_then_linear(0.05, 0.7),
        average=how.average or None,
        seed=how.seed,
        save_every=how.save_every,
    )


def denoising_losses(
    unet: Any, scheduler: Any, latents: Tensor, embeddings: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared error of what the UNet predicts (noise, velocity or sample) at a random timestep of each sample.

    Args:
        unet: the UNet.
        scheduler: scheduler that adds the noise.
        latents: clean latents, shape (b, channels, height, width).
        embeddings: embeddings of the prompts, shape (b, tokens, width).
        generator: source of the timesteps and the noise.

    Returns:
        one error per sample, shape (b,).
    """
    timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
    timesteps = timesteps.to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    kind = scheduler.config.prediction_type
    target = scheduler.get_velocity(latents, noise, timesteps) if kind == "v_prediction" else noise
    if kind == "sample":
        target = latents
    predicted = unet(noisy, timesteps, encoder_hidden_states=embeddings, return_dict=False)[0]
    return functional.mse_loss(predicted.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))


def _noise_scheduler(model: StableDiffusion) -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(completed(model.scheduler_config, "ddpm"))
