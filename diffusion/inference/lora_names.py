"""What the names and shapes of a LoRA's tensors tell of the networks that it adapts, whichever program wrote it."""

import re

from .headers import Header

DOWN = ("lora_A", "lora_down", "lora.down", "lora_linear_layer.down")
"""What the first matrix of a layer's adapter is called."""
KOHYA = ("lora_unet_", "lora_te", "lora_transformer_")
"""What names begin with in LoRAs of kohya's trainers."""


def is_lora(header: Header) -> bool:
    """Whether a file holds a LoRA, or one of its kin that we do not read."""
    return any("lora" in name or "hada_" in name for name in header.shapes)


def is_of_kohya(header: Header) -> bool:
    """Whether a LoRA has the names of kohya's trainers."""
    return any(name.startswith(KOHYA) for name in header.shapes)


def adapts(header: Header, pattern: str) -> bool:
    """Whether a layer is adapted whose name, all its parts joined by `_`, holds a regular expression."""
    return any(re.search(pattern, _joined(name)) for name in header.shapes)


def adapted_width(header: Header, pattern: str) -> int | None:
    """Width of what the first adapted layer of such a name takes; None where there is none."""
    for name, shape in header.shapes.items():
        if len(shape) > 1 and any(sign in name for sign in DOWN) and re.search(pattern, _joined(name)):
            return shape[1]
    return None


def _joined(name: str) -> str:
    return name.replace(".", "_")
