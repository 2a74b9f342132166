"""DreamBooth (arXiv 2208.12242): one model fine-tuned on one subject's photos, with prior preservation.

The cluster-wide model (paper section 3.2) is trained in the same way, on photos of many subjects, with the class word
for all of them and without prior preservation.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inference.families.base import Conditions, Model
from ..inference.sampling import FLOW, Sampling
from ..inference.schedules import completed
from ..inference.templates import fill
from .cohort import Training
from .loop import Recipe, warm_then_linear
from .photos import Photos

MOST_STEPS = 1000
"""Noise levels that training draws from."""


@dataclass(frozen=True)
class Examples:
    """Pictures as latents with their captions.

    Attributes:
        means: scaled means of the latents, shape (pictures, channels, height, width).
        deviations: scaled standard deviations of the latents, in the same shape.
        captions: what the pictures show, in words.
    """

    means: Tensor
    deviations: Tensor
    captions: list[str]

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """Latents and captions of random pictures, drawn with replacement."""
        chosen = torch.randint(len(self.means), (size,), generator=generator)
        noise = torch.randn(size, *self.means.shape[1:], generator=generator).to(self.means)
        rows = chosen.to(self.means.device)
        return self.means[rows] + self.deviations[rows] * noise, [self.captions[i] for i in chosen.tolist()]


@torch.no_grad()
def posterior(vae: Any, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the latents of pictures, as the autoencoder has them.

    Args:
        vae: the autoencoder.
        batches: batches of pictures, shape (b, 3, height, width), values -1 to 1.
    """
    posteriors = [vae.encode(batch.to(vae.device, vae.dtype)).latent_dist for batch in batches]
    means, deviations = (torch.cat([getattr(each, name) for each in posteriors]) for name in ("mean", "std"))
    return means.float(), deviations.float()


def encode(model: Model, photos: Photos, subject: str) -> Examples:
    """Latents of photos as the network takes them, captioned with words for the subject."""
    means, deviations = posterior(model.vae, photos.images.split(16))
    shift, factor = model.scale_of(means)
    captions = [fill(template, subject) for template in photos.templates]
    return Examples(factor * (means - shift), factor * deviations, captions)


def make_recipe(
    model: Model, modules: dict[str, nn.Module], own: Examples, prior: Examples | None, how: Training
) -> Recipe:
    """The fine-tuning of a model's network, and of its text encoder where that has a learning rate.

    Args:
        model: the base.
        modules: the parts that are trained, by name: copies of the base's, or LoRAs on them.
        own: pictures of the subject.
        prior: class images; None for no prior preservation.
        how: settings of the training.
    """
    height, width = own.means.shape[2:]
    model = replace(model, latent_size=(height, width))
    texts, losses = _texts(model, modules), _losses(model, modules[model.NETWORK])

    def loss(generator: torch.Generator) -> Tensor:
        latents, captions = own.batch(how.batch_size, generator)
        weights = torch.ones(len(latents), device=latents.device)
        if prior:
            more, its_captions = prior.batch(how.batch_size, generator)
            latents, captions = torch.cat([latents, more]), captions + its_captions
            weights = torch.cat([weights, torch.full_like(weights, how.prior_weight)])
        dropped = torch.rand(len(captions), generator=generator) < how.caption_dropout
        conditions = texts([None if left_out else c for c, left_out in zip(captions, dropped.tolist(), strict=True)])
        return (weights * losses(latents, conditions, generator)).mean()

    return Recipe(
        modules=modules,
        loss=loss,
        steps=how.steps,
        learning_rates=how.rates(model.NETWORK),
        schedule=warm_then_linear(0.05, 0.7),
        average=how.average or None,
        seed=how.seed,
        save_every=how.save_every,
    )


def _texts(model: Model, modules: dict[str, nn.Module]) -> Callable[[list[str | None]], Conditions]:
    """Captions -> conditions, None for no caption; each is encoded once where no text encoder is trained."""
    encoders: dict[str, Any] = {name: modules[name] for name in model.text_encoders.keys() & modules.keys()}
    trained = replace(model, **encoders)
    known: dict[str | None, Conditions] = {}

    def row(caption: str | None) -> Conditions:
        conditions = trained.encode_nothing("") if caption is None else trained.encode([caption])
        return trained.with_guidance(conditions, trained.USUAL_GUIDANCE)

    def texts(captions: list[str | None]) -> Conditions:
        if encoders:
            rows = {caption: row(caption) for caption in dict.fromkeys(captions)}
        else:
            with torch.no_grad():
                known.update({caption: row(caption) for caption in dict.fromkeys(captions) if caption not in known})
            rows = known
        names = next(iter(rows.values()))
        return {name: torch.cat([rows[caption][name] for caption in captions]) for name in names}

    return texts


def _losses(model: Model, network: nn.Module) -> Callable[[Tensor, Conditions, torch.Generator], Tensor]:
    """Latents, conditions and a source of randomness -> one error per sample: of the noise, or of the flow."""
    flows = model.SCHEDULERS[0] in FLOW
    scheduler = _flow_scheduler(model) if flows else _noise_scheduler(model)

    def losses(latents: Tensor, conditions: Conditions, generator: torch.Generator) -> Tensor:
        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return model.predict(network, noisy, timesteps, conditions)

        if flows:
            return flow_matching_losses(predict, scheduler, latents, generator)
        return denoising_losses(predict, scheduler, latents, generator)

    return losses


Predict = Callable[[Tensor, Tensor], Tensor]
"""Noisy latents and their timesteps -> what the network predicts."""


def denoising_losses(predict: Predict, scheduler: Any, latents: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of what is predicted (noise, velocity or sample) at a random timestep of each sample.

    Args:
        predict: the network with its conditions.
        scheduler: scheduler that adds the noise.
        latents: clean latents, shape (b, channels, height, width).
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
    return _squared_errors(predict(noisy, timesteps), latents if kind == "sample" else target)


def flow_matching_losses(predict: Predict, scheduler: Any, latents: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the predicted flow, noise less latents, at a random noise level of each sample.

    Levels in the middle are drawn more often: their logit is normal, as in "Scaling Rectified Flow Transformers"
    (arXiv 2403.03206), section 3.1. The arguments and the result are those of `denoising_losses`.
    """
    drawn = torch.sigmoid(torch.randn(len(latents), generator=generator))
    chosen = (drawn * len(scheduler.timesteps)).long()
    levels = scheduler.sigmas[chosen].to(latents)[:, None, None, None]
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noisy = (1 - levels) * latents + levels * noise
    return _squared_errors(predict(noisy, scheduler.timesteps[chosen].to(latents.device)), noise - latents)


def _squared_errors(predicted: Tensor, target: Tensor) -> Tensor:
    return functional.mse_loss(predicted.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))


def _noise_scheduler(model: Model) -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(completed(model.scheduler_config, "ddpm"))


def _flow_scheduler(model: Model) -> Any:
    """The levels of as many steps as there are timesteps of training, shifted as the model's are."""
    steps = Sampling(total_steps=MOST_STEPS, scheduler=model.SCHEDULERS[0])
    return steps.make_scheduler(model.scheduler_config)
