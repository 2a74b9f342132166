"""How long one step takes on this device: L_i(1), measured once and kept in the user's data folder."""

import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..common.console import say
from ..common.errors import InputError
from ..common.files import Record, make_folder, read_record, write_record
from ..diffusion.inference.batch import denoise
from ..diffusion.inference.noise import initial_noise
from ..diffusion.inference.templates import PLAIN
from ..fitting.library import own_folder
from ..fitting.schemas import Count, PositiveSeconds
from .personal import PersonalModel

FOLDER = "devices"
STEPS, RUNS = 8, 3
"""Steps that are taken in a row, and how often; the first step of each row is not counted."""


class OwnStep(Record):
    """The step latency of one model on this device.

    Attributes:
        model: where the model lies.
        device: what its steps run on.
        dtype: number format of its weights.
        guided: whether a step has guidance.
        latent_shape: channels, height and width of its latents.
        durations_s: seconds of each step that was timed.
        date: when that was.
    """

    schema_: Literal["edgesplit/device-step@1"] = Field(default="edgesplit/device-step@1", alias="schema")
    model: str
    device: str
    dtype: str
    guided: bool
    latent_shape: list[Count]
    durations_s: Annotated[list[PositiveSeconds], Field(min_length=1)]
    date: str

    @property
    def median_s(self) -> float:
        """L_i(1)."""
        return float(np.median(self.durations_s))


def own_step_latency(own: PersonalModel, again: bool = False) -> float:
    """Seconds of one step of one picture: as it was measured here before, or measured now and kept.

    Args:
        own: the model.
        again: whether to measure it anew.
    """
    what = _identity(own)
    path = kept_at(what)
    known = None if again else _known(path, what)
    if known is None:
        known = OwnStep(**what, durations_s=step_durations(own), date=datetime.now(UTC).date().isoformat())
        make_folder(path.parent)
        write_record(path, known)
        say(f"device: a step takes {1e3 * known.median_s:.1f} ms here, measured and kept in {path}")
    return known.median_s


def step_durations(own: PersonalModel) -> list[float]:
    """Seconds of some steps of one picture, the first of every row left out."""
    model, total = own.model, own.sampling.total_steps
    last = max(0, total - STEPS)
    noise, stamps = initial_noise(model, [0], own.sampling), [0.0]

    def note(_samples: int) -> None:
        _wait(model.device)
        stamps.append(time.perf_counter())

    durations: list[float] = []
    for _ in range(RUNS):
        stamps[:] = [time.perf_counter()]
        denoise(model, noise, [model.prompt(PLAIN)], total, last, own.sampling, [0], note)
        durations += np.diff(stamps[1:] if len(stamps) > 2 else stamps).tolist()  # of N = 1, all that there is
    return durations


def kept_at(what: dict[str, Any]) -> Path:
    """The file of a model on this device."""
    text = json.dumps(what, sort_keys=True)
    return own_folder(FOLDER) / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _identity(own: PersonalModel) -> dict[str, Any]:
    """What decides how long a step takes."""
    model = own.model
    return {
        "model": str(Path(model.name).resolve()) if Path(model.name).exists() else model.name,
        "device": _device_name(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "guided": own.sampling.guided is not None,
        "latent_shape": list(model.latent_shape),
    }


def _known(path: Path, what: dict[str, Any]) -> OwnStep | None:
    """What was measured before; None where nothing was, or the file is damaged."""
    if not path.is_file():
        return None
    try:
        known = read_record(path, OwnStep)
    except InputError as error:
        say(f"device: {error}; measured anew")
        return None
    return known if {name: getattr(known, name) for name in what} == what else None


def _device_name(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


def _wait(device: Any) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
