"""The configurations of what is timed: shipped ones, or those of a folder in diffusers' format."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import data
from ..common.errors import InputError, nearest, shown
from ..common.files import read_text
from ..common.json_text import parse_json
from ..diffusion.inference.checkpoints import shipped_part
from ..diffusion.inference.families.base import Model
from ..diffusion.inference.families.known import FAMILIES, NETWORKS, family_of_network
from ..fitting.resolution import Resolution, resolution_of
from .workload import Workload

VAE_FACTOR = 8
"""Pixels per latent element along a side where no VAE tells: the same in every family."""
CLASS = "_class_name"
"""Where a configuration names the class of its network in diffusers."""
MOST_LAYERS, MOST_BLOCKS, MOST_CHANNELS = 200, 100, 1_000_000
"""Bounds that no network comes near: layers, of a block or of all, blocks, and all other numbers."""
LARGEST_FACTOR = 64
"""Bound of the pixels per latent element, and of the latents per patch, along a side, that no network comes near."""
LAYERS = ("layers_per_block", "num_layers", "num_single_layers")
"""How options end that say how many layers there are."""


def model_names() -> dict[str, Path]:
    """The shipped configurations: name -> file."""
    return data.shipped("networks")


def read_config(model: str) -> dict[str, Any]:
    """The configuration of the network that takes the steps of a shipped model or of a folder's.

    Raises:
        InputError: for an unknown name, naming the nearest one, or for a folder without a network that can be timed.
    """
    path = config_path(model)
    config = _read_json(path)
    _check_config(path, config)
    return {key: value for key, value in config.items() if not key.startswith("_") or key == CLASS}


def family_of(config: Mapping[str, Any]) -> type[Model]:
    """The family of a network of which `read_config` has read the configuration."""
    family = family_of_network(config)
    if family is None:
        raise ValueError("no family takes this network")
    return family


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); name a folder in diffusers' format") from error


def config_path(model: str) -> Path:
    """The file of a network's configuration.

    Raises:
        InputError: for an unknown name, naming the nearest one.
    """
    known, folder = model_names(), Path(model)
    if model in known:
        return known[model]
    if not model or not os.path.isdir(model):  # whatever the name
        raise InputError(f"--model: found {shown(model)}, accepted: a name or a folder; {nearest(model, known)}")
    inside = next((folder / name for name in NETWORKS if (folder / name).is_dir()), folder)
    return inside / "config.json"


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict):
        raise InputError(f"{path}: found a {type(config).__name__}, accepted: an object; name a diffusers folder")
    _check_numbers(path, config)
    _check_positive(path, "patch_size", [config.get("patch_size")], LARGEST_FACTOR)
    _check_positive(path, "pos_embed_max_size", [config.get("pos_embed_max_size")], MOST_CHANNELS)
    if (family := family_of_network(config)) is None:
        found = shown(config[CLASS]) if CLASS in config else "another network"
        known = ", ".join(family.KIND for family in FAMILIES)
        raise InputError(
            f"{path}: found {found}, accepted: one that is told a text, and no picture or class beside it, of {known}; "
            "name a text-to-image model"
        )
    side = config.get("sample_size")
    sides = side if isinstance(side, list) and side else [side]
    _check_positive(path, "sample_size", sides, family.most_side(config))


def _check_positive(path: Path, option: str, found: Sequence[Any], most: int) -> None:
    """Refuse numbers that are not from 1 to the most; a network may leave them out."""
    for number in found:
        if not (number is None or (type(number) is int and 0 < number <= most)):
            raise InputError(f"{path}: {option}: found {shown(number)}, accepted: 1 to {most}")


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    if not isinstance(epsilon := config.get("norm_eps", 0.0), int | float):  # it would be seen in a step only
        raise InputError(f"{path}: norm_eps: found {shown(epsilon)}, accepted: a number; name another model")
    for name, value in config.items():
        most = MOST_LAYERS if name.endswith(LAYERS) else MOST_CHANNELS
        values = [value, *value] if isinstance(value, list) else [value]
        if len(values) > MOST_BLOCKS or any(isinstance(each, int) and abs(each) > most for each in values):
            raise InputError(f"{path}: {name}: found {shown(value)}, accepted: {most} at most; name another model")


def part_path(model: str, part: str) -> Path | None:
    """The configuration of another part of the model, such as its VAE; None where the model is a network alone."""
    if model in model_names():
        return shipped_part(model, part)
    folder = config_path(model).parent
    path = folder.parent / part / "config.json"
    return path if folder.name in NETWORKS and path.is_file() else None


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
    """The number of pixels of which each side is a multiple, as the network's blocks or patches need it."""
    return vae_factor(model) * family_of(config).side_step(config)


def most_pixels(model: str, config: Mapping[str, Any]) -> int:
    """The most pixels of a side that the network has places for."""
    return vae_factor(model) * family_of(config).most_side(config)


def picture_size(workload: Workload, config: Mapping[str, Any]) -> Resolution:
    """The size of the pictures, in pixels."""
    own = config.get("sample_size") or family_of(config).SIDE
    height, width = (own[0], own[-1]) if isinstance(own, list) else (own, own)
    factor = vae_factor(workload.model)
    return workload.resolution or resolution_of(factor * width, factor * height)
