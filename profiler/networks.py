"""Networks with random weights, made of configurations: the latency does not depend on the weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..common.errors import InputError, reason_of

SEED = 0


def make_network(path: Path, make: Callable[[], Any], device: str, dtype: Any) -> Any:
    """A network on its device and in its number format from the start: memory may just hold fp16, never fp32.

    Args:
        path: file of the configuration, for messages.
        make: function that makes the network.
        device: device to make it on.
        dtype: torch's number format.

    Raises:
        InputError: where the configuration makes no network.
    """
    import torch
    from diffusers.utils import logging

    logging.set_verbosity_error()  # its advice is about loading weights, and these are random
    torch.manual_seed(SEED)
    with torch.device(device), _default_dtype(dtype):
        try:
            network = make()
        except RuntimeError:  # the device's own, such as a full memory
            raise
        except Exception as error:  # of whatever the configuration has made impossible
            raise InputError(
                f"{path}: no network can be made of it ({reason_of(error)}); name another model's folder"
            ) from error
    return network.eval().requires_grad_(False)


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
