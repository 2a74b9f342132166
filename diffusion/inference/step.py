"""One denoising step, as the edge server and the devices execute it and as the profiler times it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Timestep(NamedTuple):
    """A timestep in both places that need it; a copy in every step would make the host wait and break CUDA graphs.

    Attributes:
        host: timestep in the host's memory, for the scheduler.
        device: timestep in the device's memory, for the UNet.
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
    """The UNet's prediction for a batch; with guidance, two predictions from one pass over 2 b samples, combined.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        latents: x_t, shape (b, channels, height, width).
        timestep: timestep of the batch.
        embeddings: embeddings of the prompts, shape (b, tokens, width); with guidance (2 b, ...), unconditional first.
        guidance_scale: scale of classifier-free guidance; None for no guidance.
        added: further conditions by name, such as SDXL's, with as many rows as `embeddings`.

    Returns:
        the prediction, in the shape of the latents.
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
    """x_t -> x_{t-1}: the UNet's prediction, then the scheduler's step.

    The arguments are those of `predict_noise` and:

    Args:
        unet: as in `predict_noise`.
        scheduler: a diffusers scheduler whose step depends on the current sample alone.
        latents: as in `predict_noise`.
        timestep: timestep of the batch, on the host and on the device.
        embeddings: as in `predict_noise`.
        guidance_scale: as in `predict_noise`.
        added: as in `predict_noise`.
        generators: one generator per sample, for schedulers that add noise.

    Returns:
        x_{t-1}, in the shape of the latents.
    """
    scaled = scheduler.scale_model_input(latents, timestep.host)
    prediction = predict_noise(unet, scaled, timestep.device, embeddings, guidance_scale, added)
    noise = {} if generators is None else {"generator": list(generators)}
    previous: Tensor = scheduler.step(prediction, timestep.host, latents, **noise, return_dict=False)[0]
    return previous
