"""The memory of a device, and whether the weights of networks fit into it before they are read."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...common.errors import InputError

if TYPE_CHECKING:
    import torch

GB = 1e9


def free_bytes(device: str) -> int | None:
    """The free memory of a device; Apple's GPUs have the machine's. None where nothing tells, as for torch's meta."""
    kind = device.partition(":")[0]
    if kind in ("cpu", "mps"):
        return int(import_module("psutil").virtual_memory().available)  # of accelerate's own needs
    if kind in ("cuda", "xpu"):
        return int(getattr(import_module("torch"), kind).mem_get_info(device)[0])
    return None


def needed_bytes(network: Any, dtype: "torch.dtype") -> int:
    """What the weights and tables of a network take in a number format, those with several names once."""
    numbers: int = sum(tensor.numel() for tensor in [*network.parameters(), *network.buffers()])
    return numbers * dtype.itemsize


def check_fits(place: str, networks: Iterable[tuple[Any, "torch.dtype"]], device: str) -> None:
    """Refuse networks whose weights alone are more than the free memory of a device.

    Args:
        place: the model, for the message.
        networks: each without its weights, and the number format that it shall have.
        device: device that they shall be on.

    Raises:
        InputError: naming the bytes.
    """
    needed, free = sum(needed_bytes(network, dtype) for network, dtype in networks), free_bytes(device)
    if free is not None and needed > free:
        raise InputError(
            f"{place}: its weights need {needed / GB:.1f} GB, and {device} has {free / GB:.1f} GB free; use a number "
            "format of fewer bits, a smaller model or another device"
        )
