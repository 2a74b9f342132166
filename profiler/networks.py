"""Networks with random weights, made of configurations: the latency does not depend on the weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..common.errors import InputError, reason_of
from ..diffusion.inference.memory import free_bytes

SEED = 0


def make_network(path: Path, make: Callable[[], Any], device: str, dtype: Any) -> Any:
    """A network on its device and in its number format from the start: memory may just hold fp16, never fp32.

    Args:
        path: file of the configuration, for messages.
        make: function that makes the network.
        device: device to make it on.
        dtype: torch's number format.

    Raises:
        InputError: where the configuration makes no network, or one that the device's memory does not hold.
    """
    import torch
    from diffusers.utils import logging

    logging.set_verbosity_error()  # its advice is about loading weights, and these are random
    torch.manual_seed(SEED)
    _check_memory(path, _made(path, make, "meta", dtype), device)
    network = _made(path, make, device, dtype).to(dtype)  # tables of positions are made in fp32, whatever the format
    return network.eval().requires_grad_(False)


def _made(path: Path, make: Callable[[], Any], device: str, dtype: Any) -> Any:
    import torch

    with torch.device(device), _default_dtype(dtype):
        try:
            return make()
        except RuntimeError:  # the device's own, such as a full memory
            raise
        except Exception as error:  # of whatever the configuration has made impossible
            raise InputError(
                f"{path}: no network can be made of it ({reason_of(error)}); name another model's folder"
            ) from error


def _check_memory(path: Path, network: Any, device: str) -> None:
    """Refuse a network whose weights alone are more than the free memory of its device.

    Args:
        path: file of the configuration, for messages.
        network: the network without memory, on torch's meta device.
        device: device that it shall be on.
    """
    weights = sum(parameter.numel() for parameter in network.parameters())
    tensors = [*network.parameters(), *network.buffers()]  # tables of positions may be large, too
    needed, free = sum(tensor.numel() * tensor.element_size() for tensor in tensors), free_bytes(device)
    if free is not None and needed > free:
        raise InputError(
            f"{path}: {weights:,} weights need {needed / 1e9:.1f} GB, and {device} has "
            f"{free / 1e9:.1f} GB free; use a smaller --model or --dtype, or another device"
        )


@contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    """Make new tensors of this number format."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
