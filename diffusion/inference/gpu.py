"""What a GPU may lack, said in one line: memory, bf16; and letting go of memory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...common.errors import InputError

FULL = ("out of memory", "alloc_failed", "unable to find an engine")
"""What torch, cuBLAS and cuDNN say, in lower case; cuDNN the last, where no engine's workspace could be had."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that the GPU's memory is full, whichever library noticed."""
    return any(sign in str(error).casefold() for sign in FULL)


@contextmanager
def gpu_memory(wanted: str, remedy: str) -> Iterator[None]:
    """A GPU's memory that does not suffice, in one line.

    Raises:
        InputError: instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise InputError(f"--device: the GPU's memory does not hold {wanted}; {remedy}") from error


def check_bf16(device: str, place: str = "") -> None:
    """Refuse bf16 on a GPU that only emulates it: its convolutions do not.

    Raises:
        InputError: naming the GPU, after the place where bf16 was asked for.
    """
    if not device.startswith("cuda"):
        return
    with torch.cuda.device(device):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError(f"{place}found bf16, which {torch.cuda.get_device_name()} lacks; use fp16")


def free_memory() -> None:
    """Return what only cycles hold, models wrapped for mixed precision among it, and what torch keeps for reuse."""
    gc.collect()
    torch.cuda.empty_cache()
