"""What travels from the edge to a device: the noisy intermediate, and what the device needs to go on from it.

A hand-off is a safetensors file in memory: the latents are its one tensor, everything else is its metadata.
"""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...common.errors import InputError, reason_of, shown
from .models import torch_dtype
from .sampling import check_seed

SCHEMA = "edgesplit/hand-off@1"
MOST_STEPS = 1000
"""The largest N that a hand-off may have."""
_FIELDS = ("step", "total_steps", "scheduler_hash", "shape", "dtype", "prompt_template", "seed")


@dataclass(frozen=True, kw_only=True)
class Handoff:
    """An intermediate x_n and its context.

    Attributes:
        latents: x_n as the edge computed it, shape (channels, height, width).
        step: n, number of steps that are left.
        total_steps: N, number of steps in all.
        scheduler_hash: fingerprint of the edge's `Sampling`; the device must come to the same.
        prompt_template: prompt with `{subject}` for the subject's words.
        seed: seed of the initial noise, and of each step's noise where the scheduler adds some.
    """

    latents: Tensor
    step: int
    total_steps: int
    scheduler_hash: str
    prompt_template: str
    seed: int

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not 0 <= self.step <= self.total_steps <= MOST_STEPS:
            raise InputError(
                f"hand-off: found step {self.step} of {self.total_steps}, accepted: 0 to N, and N up to {MOST_STEPS}"
            )

    def to_bytes(self, dtype: str = "fp16") -> bytes:
        """Encode, with the latents in the number format "fp16", "bf16" or "fp32"."""
        latents = self.latents.detach().to("cpu", torch_dtype(dtype)).contiguous()
        metadata = {
            "schema": SCHEMA,
            "step": str(self.step),
            "total_steps": str(self.total_steps),
            "scheduler_hash": self.scheduler_hash,
            "shape": json.dumps(list(latents.shape)),
            "dtype": dtype,
            "prompt_template": self.prompt_template,
            "seed": str(self.seed),
        }
        return save({"latents": latents}, metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode what `to_bytes` made.

        Raises:
            InputError: for bytes that are not a whole hand-off of this version.
        """
        metadata = _metadata(data)
        try:
            latents = load(data)["latents"]
        except (SafetensorError, KeyError) as error:
            raise InputError(f"hand-off: damaged ({reason_of(error, 80)}); send it again") from error
        shape, dtype = json.dumps(list(latents.shape)), latents.dtype
        if (shape, dtype) != (metadata["shape"], torch_dtype(metadata["dtype"])):
            raise InputError(
                f"hand-off: its latents are {shape}, {str(dtype).removeprefix('torch.')}, its header says "
                f"{shown(metadata['shape'])}, {metadata['dtype']}; send it again"
            )
        return cls(
            latents=latents,
            step=int(metadata["step"]),
            total_steps=int(metadata["total_steps"]),
            scheduler_hash=metadata["scheduler_hash"],
            prompt_template=metadata["prompt_template"],
            seed=int(metadata["seed"]),
        )


@dataclass(frozen=True)
class HandoffBits:
    """Size of a hand-off.

    Attributes:
        payload: bits of the latents alone.
        total: bits of the whole message; the value for `latent_bits` of a scenario.
    """

    payload: int
    total: int


def handoff_bits(shape: Sequence[int], dtype: str = "fp16", prompt_template: str = "") -> HandoffBits:
    """The size of a hand-off; the latents of Stable Diffusion 1.5 at 512 x 512 take 262,144 bits in fp16.

    Args:
        shape: channels, height and width of the latents.
        dtype: number format of the latents.
        prompt_template: prompt that travels along.
    """
    handoff = Handoff(
        latents=torch.zeros(*shape),
        step=MOST_STEPS,
        total_steps=MOST_STEPS,
        scheduler_hash="0" * 16,
        prompt_template=prompt_template,
        seed=2**31,
    )
    return HandoffBits(8 * torch.empty(*shape, dtype=torch_dtype(dtype)).nbytes, 8 * len(handoff.to_bytes(dtype)))


def _metadata(data: bytes) -> dict[str, str]:
    """The text fields of the header, having checked that all are there and that whole numbers consist of digits."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    except (struct.error, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise InputError("hand-off: not a safetensors message; send what Handoff.to_bytes made") from error
    if not isinstance(metadata, dict) or metadata.get("schema") != SCHEMA:
        schema = metadata.get("schema") if isinstance(metadata, dict) else metadata
        raise InputError(f"hand-off: found schema {shown(schema)}, accepted: {SCHEMA!r}")
    missing = [name for name in _FIELDS if not isinstance(metadata.get(name), str)]
    if missing:
        raise InputError(f"hand-off: its header lacks {', '.join(missing)}; send what Handoff.to_bytes made")
    for name in ("step", "total_steps", "seed"):
        if not re.fullmatch("[0-9]{1,19}", metadata[name]):
            raise InputError(f"hand-off: {name}: found {shown(metadata[name])}, accepted: a whole number")
    return metadata
