"""The configurations of what is timed: shipped ones, or those of a folder in diffusers' format."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import data
from ..common.errors import InputError, nearest, shown
from ..common.files import read_text
from ..common.json_text import parse_json
from ..fitting.resolution import Resolution, resolution_of
from .workload import Workload

VAE_FACTOR = 8
"""Pixels per latent element along a side where no VAE tells: the same in every Stable Diffusion."""
LARGEST_SIDE, MOST_LAYERS, MOST_BLOCKS, MOST_CHANNELS = 4096, 200, 100, 1_000_000
"""Bounds that no UNet comes near: side of its latents, layers of a block, blocks, and all other numbers."""
DOWN_BLOCKS, OWN_SIDE = 4, 64
"""What a UNet has whose configuration does not say: blocks on the way down, and side of the latents."""
LARGEST_FACTOR = 64
"""Bound of the pixels per latent element that no VAE comes near."""


def model_names() -> dict[str, Path]:
    """The shipped configurations: name -> file."""
    return data.shipped("unets")


def read_config(model: str) -> dict[str, Any]:
    """The UNet configuration of a shipped model or of a folder.

    Raises:
        InputError: for an unknown name, naming the nearest one, or for a folder without a UNet that can be timed.
    """
    path = config_path(model)
    config = _read_json(path)
    _check_config(path, config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); name a folder in diffusers' format") from error


def config_path(model: str) -> Path:
    """The file of a UNet's configuration.

    Raises:
        InputError: for an unknown name, naming the nearest one.
    """
    known, folder = model_names(), Path(model)
    if model in known:
        return known[model]
    if not model or not os.path.isdir(model):  # whatever the name
        raise InputError(f"--model: found {shown(model)}, accepted: a name or a folder; {nearest(model, known)}")
    return folder / "unet" / "config.json" if (folder / "unet").is_dir() else folder / "config.json"


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict) or "cross_attention_dim" not in config:
        raise InputError(f"{path}: not a text-conditioned UNet's configuration; name a diffusers UNet folder")
    added = config.get("addition_embed_type")
    if added not in (None, "text_time") or config.get("class_embed_type") or config.get("encoder_hid_dim"):
        raise InputError(f"{path}: found conditions beyond text and SDXL's sizes, accepted: SD 1.x, 2.x, XL UNets")
    _check_sizes(path, config)
    channels = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels[0] != channels[1]:
        raise InputError(
            f"{path}: found in_channels {channels[0]} and out_channels {channels[1]}, accepted: as many out as in "
            "(an inpainting UNet also needs a mask and a picture); name a text-to-image UNet"
        )


def _check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse sizes that no UNet has, and of which one would take hours to make."""
    side = config.get("sample_size")
    for number in side if isinstance(side, list) and side else [side]:
        if not (side is None or (type(number) is int and 0 < number <= LARGEST_SIDE)):
            raise InputError(f"{path}: sample_size: found {shown(side)}, accepted: 1 to {LARGEST_SIDE}")
    _check_numbers(path, config)


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        most = MOST_LAYERS if name.endswith("layers_per_block") else MOST_CHANNELS
        values = [value, *value] if isinstance(value, list) else [value]
        if len(values) > MOST_BLOCKS or any(isinstance(each, int) and abs(each) > most for each in values):
            raise InputError(f"{path}: {name}: found {shown(value)}, accepted: {most} at most; name another model")


def part_path(model: str, part: str) -> Path | None:
    """The configuration of another part of the model, such as its VAE; None where the model is a UNet alone."""
    folder = config_path(model).parent
    path = folder.parent / part / "config.json"
    return path if folder.name == "unet" and path.is_file() else None


def read_part(path: Path) -> dict[str, Any]:
    """The configuration of a VAE or of a text encoder.

    Raises:
        InputError: for what is no JSON object, or holds numbers that no such network has.
    """
    config = _read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: found a {type(config).__name__}, accepted: an object; export the model again")
    _check_numbers(path, config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def vae_factor(model: str) -> int:
    """Pixels per latent element along a side: those of the model's own VAE, where it has one.

    Raises:
        InputError: for a VAE whose configuration does not tell.
    """
    if (path := part_path(model, "vae")) is None:
        return VAE_FACTOR
    blocks = read_part(path).get("block_out_channels")
    factor = 1 << (len(blocks) - 1) if isinstance(blocks, list) and blocks else 0
    if not 0 < factor <= LARGEST_FACTOR:
        raise InputError(f"{path}: block_out_channels: found {shown(blocks)}, accepted: a list; name another model")
    return factor


def pixel_step(model: str, config: Mapping[str, Any]) -> int:
    """The number of pixels of which each side is a multiple, so that every block of the UNet halves it evenly."""
    blocks = config.get("down_block_types")
    halvings = (len(blocks) if isinstance(blocks, list) else DOWN_BLOCKS) - 1
    return vae_factor(model) << max(0, halvings)


def picture_size(workload: Workload, config: Mapping[str, Any]) -> Resolution:
    """The size of the pictures, in pixels."""
    own = config.get("sample_size") or OWN_SIDE
    height, width = (own[0], own[-1]) if isinstance(own, list) else (own, own)
    factor = vae_factor(workload.model)
    return workload.resolution or resolution_of(factor * width, factor * height)
