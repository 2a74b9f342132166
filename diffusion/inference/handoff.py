"""What travels from the edge to a device: the noisy intermediate, and what the device needs to go on from it.

A hand-off is a safetensors file in memory: the latents are its one tensor, everything else is its metadata. One of the
texts there is the SHA-256 of the whole message, with zeros in the place of these digits: no bit of it can change
unnoticed. Messages of version 1, which have none, are read with a notice.
"""

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...common.console import say
from ...common.errors import InputError, reason_of, shown
from ...common.seals import UNSEALED, seal_holds, sealed
from .models import torch_dtype
from .sampling import check_seed
from .templates import PLAIN, check_template

SCHEMA, FIRST_SCHEMA = "edgesplit/hand-off@2", "edgesplit/hand-off@1"
MOST_STEPS = 1000
"""The largest N that a hand-off may have."""
_FIELDS = ("step", "total_steps", "scheduler_hash", "shape", "dtype", "prompt_template", "seed")
_SAID = "send what Handoff.to_bytes made"


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
        """Encode, with the latents in the number format "fp16", "bf16" or "fp32".

        Raises:
            InputError: for latents that are not finite in that format, and for a template without `{subject}`.
        """
        check_template(self.prompt_template)
        latents = self.latents.detach().to("cpu", torch_dtype(dtype)).contiguous()
        if not bool(latents.isfinite().all()):
            raise InputError(f"hand-off: {_why_not_finite(self.latents, dtype)}")
        metadata = {
            "schema": SCHEMA,
            "sha256": UNSEALED,
            "step": str(self.step),
            "total_steps": str(self.total_steps),
            "scheduler_hash": self.scheduler_hash,
            "shape": json.dumps(list(latents.shape)),
            "dtype": dtype,
            "prompt_template": self.prompt_template,
            "seed": str(self.seed),
        }
        return sealed(save({"latents": latents}, metadata))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode what `to_bytes` made.

        Raises:
            InputError: for bytes that are not a whole and unchanged hand-off.
        """
        metadata = _metadata(data)
        latents = _latents(data)
        shape, dtype = json.dumps(list(latents.shape)), latents.dtype
        if (shape, dtype) != (metadata["shape"], torch_dtype(metadata["dtype"])):
            raise InputError(
                f"hand-off: its latents are {shape}, {str(dtype).removeprefix('torch.')}, its header says "
                f"{shown(metadata['shape'])}, {metadata['dtype']}; send it again"
            )
        if not bool(latents.isfinite().all()):
            raise InputError("hand-off: its latents are not finite; the edge's model is damaged, or it was changed")
        try:
            check_template(metadata["prompt_template"])
        except InputError as error:
            raise InputError(f"hand-off: {error}") from error
        return cls(
            latents=latents,
            step=int(metadata["step"]),
            total_steps=int(metadata["total_steps"]),
            scheduler_hash=metadata["scheduler_hash"],
            prompt_template=metadata["prompt_template"],
            seed=int(metadata["seed"]),
        )


def _why_not_finite(latents: Tensor, dtype: str) -> str:
    """Why latents are not finite in a number format, and what helps."""
    if not bool(latents.isfinite().all()):
        return "its latents are not finite; the model is damaged, or its numbers were too large for its format"
    return f"its latents reach {float(latents.abs().max()):.4g}, too large for {dtype}; encode them as bf16 or fp32"


@dataclass(frozen=True)
class HandoffBits:
    """Size of a hand-off.

    Attributes:
        payload: bits of the latents alone.
        total: bits of the whole message; the value for `latent_bits` of a scenario.
    """

    payload: int
    total: int


def handoff_bits(shape: Sequence[int], dtype: str = "fp16", prompt_template: str = PLAIN) -> HandoffBits:
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


# -- the message --------------------------------------------------------------------------------------------


def _check_seal(data: bytes, digest: str) -> None:
    if not seal_holds(data, digest):
        raise InputError("hand-off: damaged, as its digest says; send it again")


def _latents(data: bytes) -> Tensor:
    """The one tensor of a message."""
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise InputError(f"hand-off: damaged ({reason_of(error, 80)}); send it again") from error
    if set(tensors) != {"latents"}:
        raise InputError(f"hand-off: found tensors {shown(sorted(tensors))}, accepted: latents alone; {_SAID}")
    return tensors["latents"]


def _metadata(data: bytes) -> dict[str, str]:
    """The text fields of the header, having checked the digest, that all are there, and that numbers are digits."""
    header = _header(data)
    metadata = header.get("__metadata__")
    schema = metadata.get("schema") if isinstance(metadata, dict) else metadata
    if not isinstance(metadata, dict) or schema not in (SCHEMA, FIRST_SCHEMA):
        raise InputError(f"hand-off: found schema {shown(schema)}, accepted: {SCHEMA!r}")
    fields = _FIELDS if schema == FIRST_SCHEMA else (*_FIELDS, "sha256")
    missing = [name for name in fields if not isinstance(metadata.get(name), str)]
    if missing:
        raise InputError(f"hand-off: its header lacks {', '.join(missing)}; {_SAID}")
    if set(header) != {"__metadata__", "latents"} or set(metadata) != {"schema", *fields}:
        raise InputError(f"hand-off: its header has more than a hand-off's; {_SAID}")
    if schema == FIRST_SCHEMA:
        _say_that_it_is_old()
    else:
        _check_seal(data, metadata["sha256"])
    for name in ("step", "total_steps", "seed"):
        if not re.fullmatch("[0-9]{1,19}", metadata[name]):
            raise InputError(f"hand-off: {name}: found {shown(metadata[name])}, accepted: a whole number")
    return metadata


def _header(data: bytes) -> dict[str, Any]:
    """The JSON before the tensor, with no name twice."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_each_once)
    except (struct.error, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"hand-off: not a safetensors message; {_SAID}") from error
    if not isinstance(header, dict):
        raise InputError(f"hand-off: not a safetensors message; {_SAID}")
    return header


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name stands twice")
    return dict(pairs)


@cache
def _say_that_it_is_old() -> None:
    """Say once that messages without a digest are read."""
    say("hand-off: found version 1, which has no digest, so that damage cannot be noticed; update the edge")
