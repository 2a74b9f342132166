"""What the header of a safetensors file says, read without torch and without its weights."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SAFETENSORS = ".safetensors"
MOST_BYTES = 100_000_000
"""The largest header that safetensors itself reads."""
NOTES = "__metadata__"
"""Where a header has its notes."""


@dataclass(frozen=True)
class Header:
    """What a header says; nothing for a file that is not safetensors.

    Attributes:
        shapes: shape of every tensor, by its name.
        notes: what the program that wrote the file noted.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def below(self, prefix: str) -> dict[str, tuple[int, ...]]:
        """The shapes of tensors whose names begin with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)}


def read_header(path: Path) -> Header:
    """The header of a file."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            content = json.loads(file.read(min(length, MOST_BYTES)))
        notes = content.pop(NOTES, None) or {}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in content.items()}
        return Header(shapes, {name: str(note) for name, note in notes.items()})
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return Header()
