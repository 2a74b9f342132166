"""One denoising step, as the edge server and the devices execute it and as the profiler times it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .families.base import Conditions, Model


class Timestep(NamedTuple):
    """A timestep in both places that need it; a copy in every step would make the host wait and break CUDA graphs.

    Attributes:
        host: timestep in the host's memory, for the scheduler.
        device: timestep in the device's memory, for the network.
    """

    host: Tensor
    device: Tensor


def predict(
    family: Model | type[Model],
    network: Any,
    latents: Tensor,
    timesteps: Tensor,
    conditions: Conditions,
    guidance_scale: Any = None,
) -> Tensor:
    """The network's prediction for a batch; with guidance, two predictions from one pass over 2 b rows, combined.

    Args:
        family: what knows how the network is called.
        network: the part of a model that takes the steps.
        latents: x_t as the scheduler scaled it, shape (b, channels, height, width).
        timesteps: timesteps, shape (b,).
        conditions: b rows; with guidance 2 b, the unconditional ones first.
        guidance_scale: scale of classifier-free guidance, a number or one of each image, fp32, shape (b, 1, 1, 1);
            None for no guidance.

    Returns:
        the prediction, in the shape of the latents.
    """
    if guidance_scale is None:
        return family.predict(network, latents, timesteps, conditions)
    both = torch.cat([latents, latents]), torch.cat([timesteps, timesteps])
    unconditional, conditional = family.predict(network, *both, conditions).chunk(2)
    led: Tensor = (guidance_scale * (conditional - unconditional)).to(unconditional.dtype)
    return unconditional + led


def denoise_step(
    family: Model | type[Model],
    network: Any,
    scheduler: Any,
    latents: Tensor,
    timestep: Timestep,
    conditions: Conditions,
    guidance_scale: float | None = None,
) -> Tensor:
    """x_t -> x_{t-1}: the network's prediction, then the scheduler's step.

    The arguments are those of `predict` and:

    Args:
        family: as in `predict`.
        network: as in `predict`.
        scheduler: a diffusers scheduler whose step depends on the current sample alone.
        latents: x_t, shape (b, channels, height, width).
        timestep: timestep of the batch, on the host and on the device.
        conditions: as in `predict`.
        guidance_scale: as in `predict`.

    Returns:
        x_{t-1}, in the shape of the latents.
    """
    scaled = scaled_input(scheduler, latents, timestep.host)
    timesteps = timestep.device.expand(len(latents))
    prediction = predict(family, network, scaled, timesteps, conditions, guidance_scale)
    previous: Tensor = scheduler.step(prediction, timestep.host, latents, return_dict=False)[0]
    return previous


def scaled_input(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """What the network gets of x_t; schedulers that match flows scale nothing."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents
    scaled: Tensor = scheduler.scale_model_input(latents, timestep)
    return scaled
