"""What a user waits for beside the steps: the VAE that decodes a picture, and the text encoders that encode a prompt.

Both are made from the configurations in the model's folder, with random weights, as the network is. Their times
never enter the fit of a step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import InputError, shown
from .configs import part_path, read_part
from .networks import make_network
from .timed_network import TimedNetwork
from .timing import Step, Timer, warm_up

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
"""Folders of the text encoders."""
ENCODER_CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
"""Classes of text encoders that are timed."""
SHORTEST_S = 1e-6
"""Seconds below which no clock of a device tells a call from nothing."""
CALLS, MOST_S = 20, 10.0
"""Calls that are timed, fewer where warming up and calling take longer than so many seconds."""


def part_steps(timed: TimedNetwork) -> dict[str, Callable[[], Step]]:
    """Field of the profile -> function that makes the step to time, for each part that the model's folder has."""
    model = timed.workload.model
    vae, encoders = part_path(model, "vae"), [path for part in TEXT_ENCODERS if (path := part_path(model, part))]
    makers: dict[str, Callable[[], Step]] = {}
    if vae:
        makers["decode_s"] = lambda: _decode(timed, vae)
    if encoders:
        makers["encode_s"] = lambda: _encode(timed, encoders)
    return makers


def time_part(make: Callable[[], Step], timer: Timer) -> list[float]:
    """Seconds of each of some calls of a part, after it has warmed up."""
    step = make()
    warm = warm_up(timer, step, MOST_S / 2)
    return timer.durations(step, int(np.clip(MOST_S / 2 / max(warm.step_s, SHORTEST_S), 1, CALLS)))


def _decode(timed: TimedNetwork, path: Path) -> Step:
    """Decodes the latents of one picture; in fp32 where the VAE's configuration says that fp16 overflows."""
    import torch
    from diffusers import AutoencoderKL

    config = read_part(path)
    upcast = bool(config.get("force_upcast", True)) and timed.dtype is torch.float16
    dtype = torch.float32 if upcast else timed.dtype
    vae = make_network(path, lambda: AutoencoderKL.from_config(config), timed.workload.device, dtype)
    latents = timed.latents(1).to(dtype)

    return torch.inference_mode()(lambda: vae.decode(latents, return_dict=False)[0])


def _encode(timed: TimedNetwork, paths: list[Path]) -> Step:
    """Encodes one prompt with every text encoder in turn."""
    import torch

    encoders = [_encoder(path, timed) for path in paths]
    # only CLIPs have a number of positions
    sizes = [getattr(encoder.config, "max_position_embeddings", timed.family.T5_LENGTH) for encoder in encoders]
    prompts = [torch.zeros(1, tokens, dtype=torch.long, device=timed.workload.device) for tokens in sizes]

    def step() -> object:
        return [encoder(prompt, output_hidden_states=True) for encoder, prompt in zip(encoders, prompts, strict=True)]

    return torch.inference_mode()(step)


def _encoder(path: Path, timed: TimedNetwork) -> Any:
    import transformers

    config = read_part(path)
    names = [name for name in ENCODER_CLASSES if config.get("architectures") == [name]]
    if not names:
        found = shown(config.get("architectures"))
        raise InputError(f"{path}: architectures: found {found}, accepted: one of {', '.join(ENCODER_CLASSES)}")
    kind = getattr(transformers, names[0])
    return make_network(path, lambda: kind(kind.config_class(**config)), timed.workload.device, timed.dtype)
