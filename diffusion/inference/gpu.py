"""What a GPU may lack, memory or bf16, in one-line errors; and how its memory is freed."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...common.errors import InputError

FULL = ("out of memory", "alloc_failed", "unable to find an engine")
"""What torch, cuBLAS and cuDNN say of a full memory, in lower case; cuDNN finds no engine whose workspace fits."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that the GPU's memory is full, whichever library says so."""
    return any(sign in str(error).casefold() for sign in FULL)


@contextmanager
def gpu_memory(load: str, remedy: str) -> Iterator[None]:
    """Turn torch's error of a full memory into one line.

    Args:
        load: what the memory should hold, such as "the models".
        remedy: what may help, as the end of a sentence.

    Raises:
        InputError: instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise InputError(f"--device: the GPU's memory does not hold {load}; {remedy}") from error


def check_bf16(device: str, place: str = "") -> None:
    """Refuse bf16 on a GPU that only emulates it, as its convolutions do not.

    Args:
        device: device to run on, such as "cpu" or "cuda:0".
        place: field or option that asks for bf16, as the beginning of the message.

    Raises:
        InputError: naming the GPU.
    """
    if not device.startswith("cuda"):
        return
    with torch.cuda.device(device):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise InputError(f"{place}found bf16, which {torch.cuda.get_device_name()} lacks; use fp16")


def free_memory() -> None:
    """Free what only reference cycles hold, such as models in mixed precision, and what torch keeps for reuse."""
    gc.collect()
    torch.cuda.empty_cache()
