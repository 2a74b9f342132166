"""The families that there are, and the one that a model's index names."""

from collections.abc import Mapping
from typing import Any

from ....common.errors import InputError, shown
from ..headers import Header
from .base import UNET, Model
from .flux import Flux
from .pixart import PixArt
from .sd import StableDiffusion
from .sd3 import StableDiffusion3
from .sdxl import StableDiffusionXl

FAMILIES: tuple[type[Model], ...] = (StableDiffusion, StableDiffusionXl, StableDiffusion3, Flux, PixArt)
NETWORKS = tuple(dict.fromkeys(family.NETWORK for family in FAMILIES))
"""Names of the parts that take the steps."""


def family_of(place: str, pipeline: object) -> type[Model]:
    """The family of a pipeline of diffusers.

    Args:
        place: the model, for the message.
        pipeline: `_class_name` of its index.

    Raises:
        InputError: for a pipeline of none, by name.
    """
    for family in FAMILIES:
        if pipeline in family.PIPELINES:
            return family
    raise InputError(f"{place}: found a model for {shown(pipeline)}, accepted: models of {kinds()}")


def kinds() -> str:
    """What people call the families."""
    return ", ".join(family.KIND for family in FAMILIES)


def family_of_network(config: Mapping[str, Any]) -> type[Model] | None:
    """The family of a network, by its class and what it is told beside the text; None where there is none.

    Args:
        config: configuration of the network; without a class it is a UNet's, as old files are.
    """
    kind = config.get("_class_name", UNET.classes[0])
    return next((f for f in FAMILIES if kind in f.PARTS[f.NETWORK].classes and f.takes(config)), None)


def family_in(header: Header) -> type[Model] | None:
    """The family of a checkpoint in one file; None where it is of none, or no checkpoint."""
    return next((family for family in FAMILIES if family.is_in(header)), None)


def family_of_lora(header: Header) -> type[Model] | None:
    """The family that a LoRA is for; None where its names and shapes do not tell."""
    return next((family for family in FAMILIES if family.is_of_lora(header)), None)
