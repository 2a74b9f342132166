"""The index of a folder in diffusers' format, read without torch: which family it is of, and its parts."""

import json
from pathlib import Path
from typing import Any

from ...common.errors import InputError, reason_of, shown
from ...common.files import read_text
from .families.base import Model
from .families.known import family_of


def read_index(reference: str, path: Path) -> tuple[type[Model], dict[str, Any]]:
    """The family that an index names, and the index; another class of part is refused by name."""
    index = read_object(reference, path)
    family = family_of(reference, index.get("_class_name"))
    for name, part in family.PARTS.items():
        named = index.get(name)
        found = named[-1] if isinstance(named, list) and named else named
        if found not in part.classes and not (part.optional and found is None):
            raise InputError(f"{reference}: {name}: found {shown(found)}, accepted: {part.classes[0]} ({family.KIND})")
    return family, index


def read_object(reference: str, path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder."""
    text = read_text(path)
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"{path.name}: found a {type(content).__name__}, accepted: an object")
    except (ValueError, RecursionError) as error:
        raise unloadable(reference, error) from error
    return content


def unloadable(reference: object, error: Exception) -> InputError:
    """The error of a model that cannot be loaded."""
    return InputError(
        f"{reference}: cannot load ({reason_of(error, 140)}); name a folder in diffusers' format with safetensors "
        "weights, or a hub id that this machine can reach"
    )
