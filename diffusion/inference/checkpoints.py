"""Checkpoints in one file: which family they are of, and what ships to describe their parts.

Nothing here needs torch: the header of a file tells.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ... import data
from ...common.errors import InputError
from ...common.files import read_text
from .families.base import Model
from .families.known import family_in, family_of
from .headers import SAFETENSORS, Header, read_header
from .lora_names import is_lora

KIND = "checkpoints"
"""Folder of `data` with descriptions of checkpoints."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in one file.

    Attributes:
        path: the file.
        family: family of its network.
        header: names, shapes and notes in it.
    """

    path: Path
    family: type[Model]
    header: Header

    @cached_property
    def shipped(self) -> "Description | None":
        """What ships to describe its parts; None for a size that is not shipped."""
        name = self.family.shipped_as(self.header)
        return Description(name) if name else None

    def has(self, part: str) -> bool:
        """Whether the weights of a part are in the file."""
        return self.family.stored(part, self.header) is not None

    def takes(self, part: str) -> bool:
        """Whether a model of this file alone has a part: all but what is optional and not there."""
        return not self.family.PARTS[part].optional or self.has(part.replace("tokenizer", "text_encoder"))

    @property
    def missing(self) -> list[str]:
        """The parts that neither the file nor what ships has."""
        shipped = self.shipped
        return [
            part
            for part, what in self.family.PARTS.items()
            if self.takes(part)
            and not (self.has(part) or (what.is_tokenizer and shipped and shipped.part(part) is not None))
        ]

    @property
    def lacks(self) -> str:
        """Why it cannot be loaded without a base, in words; nothing where it can."""
        if self.shipped is None:
            return "of other sizes than the published ones"
        return f"without {', '.join(self.missing)}" if self.missing else ""


@dataclass(frozen=True)
class Description:
    """What ships of a published model beside its weights.

    Attributes:
        name: name of the description.
    """

    name: str

    @cached_property
    def index(self) -> dict[str, Any]:
        """The class of its pipeline, its scheduler, its parts, and further options of the family."""
        content: dict[str, Any] = json.loads(read_text(data.shipped(KIND)[self.name]))
        return content

    @property
    def family(self) -> type[Model]:
        """Its family."""
        return family_of(self.name, self.index["_class_name"])

    def part(self, part: str) -> dict[str, Any] | None:
        """The configuration of a part; None for a part that it does not describe."""
        value = self.index["parts"].get(part)
        if value is None:
            return None
        changes = value if isinstance(value, dict) else {"like": value}
        config: dict[str, Any] = json.loads(read_text(data.FOLDER / f"{changes['like']}.json"))
        return config | {option: changed for option, changed in changes.items() if option != "like"}


def shipped_part(network: str, part: str) -> Path | None:
    """The configuration of a part of the published model that a shipped network is of; None where none ships.

    Args:
        network: name of the shipped configuration of a network, such as "sd15".
        part: name of the part, such as "vae".
    """
    for name in data.shipped(KIND):
        parts = Description(name).index["parts"]
        if f"networks/{network}" in parts.values():
            like = parts.get(part)
            return data.FOLDER / f"{like}.json" if like else None
    return None


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint in a file; None for what is none.

    Raises:
        InputError: for one of a known family that is not for pictures of prompts alone.
    """
    if path.suffix.casefold() != SAFETENSORS or not path.is_file():
        return None
    header = read_header(path)
    family = None if is_lora(header) else family_in(header)
    if family is None:
        return None
    if purpose := family.other_purpose(header):
        raise InputError(
            f"{path}: found a checkpoint of {family.KIND}: {purpose}; accepted: one for pictures of prompts"
        )
    return Checkpoint(path, family, header)


def checkpoint_in(folder: Path) -> Checkpoint | None:
    """The checkpoint that lies in a folder with a note; None where there is none.

    Raises:
        InputError: for several of them.
    """
    found = [checkpoint for path in sorted(folder.glob(f"*{SAFETENSORS}")) if (checkpoint := read_checkpoint(path))]
    if len(found) > 1:
        names = ", ".join(checkpoint.path.name for checkpoint in found)
        raise InputError(f"{folder}: found several checkpoints, {names}; accepted: one of them")
    return found[0] if found else None
