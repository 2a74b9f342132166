"""Where a checkpoint in one file has the parts of a model, and how its names become those of diffusers.

diffusers itself renames what it can. Nothing here needs torch before a file is converted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
Conversion = Callable[[Tensors, Any], Tensors]
"""Makes a network's state, by its own names, of the tensors of a file and the network without weights."""
UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "vae."
"""Prefixes by which the functions of diffusers know a part."""
OPEN_CLIP_PREFIX = "open_clip."
"""A prefix at which diffusers leaves no layer out, as it does at that of Stable Diffusion 2's."""


@dataclass(frozen=True)
class Stored:
    """Where a file may have a part.

    Attributes:
        prefix: what the names of its tensors begin with.
        sign: the rest of the name of one of them, by which the part is known.
        convert: conversion of its tensors, by the rest of their names.
    """

    prefix: str
    sign: str
    convert: Conversion


def as_it_is(tensors: Tensors, network: Any) -> Tensors:  # noqa: ARG001
    """The state of a network that has the names of the file."""
    return tensors


def ldm_unet(tensors: Tensors, network: Any) -> Tensors:
    """The state of a UNet."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    converted: Tensors = convert_ldm_unet_checkpoint(_named(UNET_PREFIX, tensors), dict(network.config))
    return converted


def ldm_vae(tensors: Tensors, network: Any) -> Tensors:
    """The state of an autoencoder."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    converted: Tensors = convert_ldm_vae_checkpoint(_named(VAE_PREFIX, tensors), dict(network.config))
    return converted


def open_clip(tensors: Tensors, network: Any) -> Tensors:
    """The state of a CLIP that OpenCLIP trained; layers that the network does not have are left out later."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    converted: Tensors = convert_open_clip_checkpoint(network, _named(OPEN_CLIP_PREFIX, tensors), OPEN_CLIP_PREFIX)
    return converted


def clip_without_projection(tensors: Tensors, network: Any) -> Tensors:
    """The state of a CLIP whose embedding is not projected, as diffusers has it: the projection changes nothing."""
    import torch

    return {**tensors, "text_projection.weight": torch.eye(network.config.projection_dim, network.config.hidden_size)}


def _named(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


LDM_UNET = Stored("model.diffusion_model.", "input_blocks.0.0.weight", ldm_unet)
LDM_VAE = (Stored("first_stage_model.", "decoder.conv_in.weight", ldm_vae),
           Stored("vae.", "decoder.conv_in.weight", ldm_vae))  # fmt: skip
CLIP_SIGN = "text_model.embeddings.token_embedding.weight"
T5_STORED = (Stored("text_encoders.t5xxl.transformer.", "shared.weight", as_it_is),)


def text_width(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Width of the text that a UNet's blocks attend to; 0 where none does."""
    return next((shape[-1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), 0)


def channels_fault(inside: tuple[int, ...], outside: tuple[int, ...]) -> str | None:
    """What a network is whose first layer takes other channels than its last one makes, by the shapes of both."""
    if len(inside) > 1 and outside and inside[1] != outside[0]:
        return f"a model that takes {inside[1]} channels and makes {outside[0]}, as for inpainting"
    return None
