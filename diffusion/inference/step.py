"""One denoising step, as the edge server and the devices execute it and as the profiler times it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Timestep(NamedTuple):
    """A timestep where it is needed: copied in every step it would make the host wait, and a CUDA graph cannot copy.

    Attributes:
        host: for the scheduler.
        device: for the UNet.
    """

    host: Tensor
    device: Tensor


def predict_noise(
    unet: Any,
    latents: Tensor,
    timestep: Tensor | int,
    embeddings: Tensor,
    guidance_scale: float | None = None,
    added: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The UNet's prediction for a batch; with guidance, one pass over 2 b and the combination.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        latents: x_t, shape (b, channels, height, width).
        timestep: of the step.
        embeddings: of the prompts, shape (b, tokens, width); with guidance (2 b, ...), unconditional ones first.
        guidance_scale: None for no guidance.
        added: further conditions by name, such as SDXL's, as many rows as `embeddings`.
    """
    inputs = latents if guidance_scale is None else torch.cat([latents, latents])
    prediction: Tensor = unet(
        inputs, timestep, encoder_hidden_states=embeddings, added_cond_kwargs=added, return_dict=False
    )[0]
    if guidance_scale is None:
        return prediction
    unconditional, conditional = prediction.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)


def denoise_step(
    unet: Any,
    scheduler: Any,
    latents: Tensor,
    timestep: Timestep,
    embeddings: Tensor,
    guidance_scale: float | None = None,
    added: Mapping[str, Tensor] | None = None,
    generators: Sequence[torch.Generator] | None = None,
) -> Tensor:
    """x_t -> x_{t-1}: prediction and scheduler step.

    Arguments are those of `predict_noise`, a diffusers scheduler whose step depends on the current sample alone, and
    for schedulers that add noise one generator per sample.
    """
    scaled = scheduler.scale_model_input(latents, timestep.host)
    prediction = predict_noise(unet, scaled, timestep.device, embeddings, guidance_scale, added)
    noise = {} if generators is None else {"generator": list(generators)}
    previous: Tensor = scheduler.step(prediction, timestep.host, latents, **noise, return_dict=False)[0]
    return previous
