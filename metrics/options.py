"""What the options of `pai-sweep` mean: the settings of a sweep."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from .. import data
from ..common.console import say
from ..common.errors import InputError, nearest, shown
from ..common.files import read_text
from ..common.ranges import parse_ranges
from ..diffusion.run import model_references, named
from .pai import REAL_KAPPA, PaiConstants
from .prompts import read_prompts

if TYPE_CHECKING:
    from ..diffusion.sampling import Sampling
    from .sweep import SweepSettings

NUMBER = re.compile(r"(\d{1,6})|N(?:/([1-9]\d{0,5}))?")
ENGINES = ("local", "ray")
ENDS = 1 << 16
"""Bytes of the start and the end of a file of weights; they tell one training from another."""


@dataclass(frozen=True)
class Equation:
    """How measurements become a curve; see the help."""

    kappa: float | None
    gain: float
    threshold: float
    personal: float
    two_parameter: bool

    def constants(self, toy: bool) -> PaiConstants | None:
        """Of eq. (1); None where kappa is to make PAI(N) = 1."""
        if self.kappa is not None and not self.kappa > 0:
            raise InputError(f"--kappa: found {self.kappa}, accepted: above 0")
        if self.kappa is None and toy:
            return None
        return PaiConstants(kappa=self.kappa or REAL_KAPPA, gain=self.gain, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of `pai-sweep`; see its help."""

    prompts: Path | None
    cohort: Path | None
    cluster: str | None
    users: list[str]
    subject: str | None
    words: list[str]
    descriptions: list[str]
    splits: str | None
    steps: int | None
    seeds: int
    guidance: float | None
    scheduler: str
    batch: str
    dtype: str
    device: str
    clip: str | None
    lpips: str | None
    long_prompts: str
    equation: Equation
    engine: str
    workers: int
    output: Path
    fresh: bool
    as_json: bool


def is_toy(request: SweepRequest) -> bool:
    """Whether the models are the toy world's: the shipped ones, or a cohort made of its base."""
    if request.cluster:
        return False
    if request.cohort is None:
        return True
    gate = request.cohort / "cluster" / "gate.json"
    return gate.is_file() and json.loads(read_text(gate)).get("clip") == "toyworld"


def resolve(request: SweepRequest, toy: bool, device: str) -> "SweepSettings":
    """The settings that the options mean.

    Raises:
        InputError: one line naming the option.
    """
    from ..diffusion.models import DTYPES, read_settings
    from ..diffusion.sampling import Sampling
    from .lpips import BACKBONES
    from .sweep import SweepSettings

    cluster, users = model_references(request.cluster, request.users, request.cohort)
    if len(users) < 2:
        raise InputError(f"--user: found one user, {', '.join(users)}, accepted: two or more; LPIPS needs pairs")
    if not 1 <= request.seeds <= 1_000_000:
        raise InputError(f"--seeds: found {request.seeds}, accepted: 1 to 1000000")
    _one_of("--dtype", request.dtype, DTYPES)
    _one_of("--long-prompts", request.long_prompts, ("refuse", "window"))
    _one_of("--engine", request.engine, ENGINES)
    lpips = request.lpips or ("toyworld" if toy else "alex")
    _one_of("--lpips", lpips, BACKBONES)
    stored = {name: read_settings(Path(reference)) for name, reference in users.items()}
    class_word = request.subject or read_settings(Path(cluster)).get("subject") or "dog"
    sampling = Sampling(
        total_steps=(50 if toy else 200) if request.steps is None else request.steps,
        guidance_scale=(3.0 if toy else 7.5) if request.guidance is None else request.guidance,
        scheduler=request.scheduler,
    )
    splits = parse_splits(request.splits, sampling.total_steps)
    if toy and request.equation.kappa is None and splits[-1] < sampling.total_steps:
        raise InputError(
            f"--splits: found {splits[-1]} at most, accepted: with N = {sampling.total_steps}, as kappa makes "
            "PAI(N) = 1; or give --kappa"
        )
    own = {name: settings.get("subject") for name, settings in stored.items()}
    looks = {name: settings.get("description") for name, settings in stored.items()}
    references = {"cluster": cluster, **users}
    return SweepSettings(
        cluster=data.portable(cluster),
        users={name: data.portable(reference) for name, reference in users.items()},
        words=_texts("--words", request.words, own, class_word, "the subject's words on the user's own model"),
        descriptions=_texts(
            "--describe", request.descriptions, looks, class_word, "what the user's subject looks like"
        ),
        weights={name: fingerprint(reference) for name, reference in references.items()},
        class_word=class_word,
        templates=_templates(request, toy, class_word),
        seeds=request.seeds,
        splits=splits,
        total_steps=sampling.total_steps,
        guidance_scale=sampling.guidance_scale,
        scheduler=sampling.scheduler,
        dtype=request.dtype,
        device=device.partition(":")[0],
        batch=_batch(request, cluster, sampling, device),
        clip=request.clip or _default_clip(toy),
        lpips=lpips,
        long_prompts=cast(Literal["refuse", "window"], request.long_prompts),
    )


def parse_splits(text: str | None, total: int) -> list[int]:
    """Local steps n of a text such as "0:N:N/10" or "0,10,N", rounded to whole steps; ascending, each once.

    Raises:
        InputError: for fewer than three, some outside 0..N, or steps of less than one.
    """
    if text is None:
        return sorted({(2 * i * total + 10) // 20 for i in range(11)})
    points: set[Fraction] = set()
    for part in text.split(","):
        ends = [_steps(piece.strip(), total) for piece in part.split(":")]
        start, stop, step = ends[0], ends[min(1, len(ends) - 1)], ends[2] if len(ends) == 3 else Fraction(1)
        if len(ends) > 3 or None in ends or start is None or stop is None or step is None:
            raise _bad_splits(text, total)
        if step < 1:
            raise InputError(f"--splits: found {shown(text)}, with steps of {float(step):g}, accepted: 1 or more")
        points |= {start + i * step for i in range(int((stop - start) / step) + 1 if stop >= start else 0)}
    splits = sorted({int(point + Fraction(1, 2)) for point in points})
    if len(splits) < 3 or splits[-1] > total:
        raise _bad_splits(text, total)
    return splits


def _steps(text: str, total: int) -> Fraction | None:
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    return Fraction(match[1]) if match[1] else Fraction(total, int(match[2] or 1))


def _bad_splits(text: str, total: int) -> InputError:
    return InputError(
        f"--splits: found {shown(text)}, accepted: three or more from 0 to N = {total} as START:STOP:STEP or a list, "
        "such as 0:N:N/10 or 0,10,N"
    )


def fingerprint(reference: str) -> str:
    """What tells one training of a model from another: name, size, start and end of its weights; of a hub id itself."""
    from ..diffusion.models import read_settings

    folder = Path(reference)
    if not folder.is_dir():
        return reference
    digest = hashlib.sha256(read_settings(folder).get("base", "").encode())
    for path in sorted(folder.rglob("*.safetensors")):
        with open(path, "rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size}".encode() + file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    return digest.hexdigest()[:16]


def _one_of(option: str, found: str, accepted: Collection[str]) -> None:
    if found not in accepted:
        names = ", ".join(accepted)
        raise InputError(f"{option}: found {shown(found)}, accepted: {names}; {nearest(found, accepted)}")


def _texts(
    option: str, given: Sequence[str], stored: Mapping[str, str | None], class_word: str, meaning: str
) -> dict[str, str]:
    """One text per user: from the options, else stored with the model, else the class word, with a notice."""
    texts = named(option, given)
    if unknown := next((name for name in texts if name not in stored), None):
        raise InputError(f"{option}: found user {shown(unknown)}; {nearest(unknown, stored)}")
    found = {name: texts.get(name) or stored[name] for name in stored}
    without = [name for name, text in found.items() if not text]
    if without:
        say(
            f"pai-sweep: {', '.join(without)}: {meaning} is not known, {class_word!r} stands for it; "
            f"{option} NAME=TEXT says it"
        )
    return {name: text or class_word for name, text in found.items()}


def _templates(request: SweepRequest, toy: bool, class_word: str) -> list[str]:
    if request.prompts is None and not toy:
        raise InputError("--prompts: missing; name a file with a prompt a line, such as 'a photo of {subject} in snow'")
    return read_prompts(request.prompts or data.sample("prompts.txt"), class_word)


def _default_clip(toy: bool) -> str:
    from .clip import REAL_CLIP

    return "toyworld/clip" if toy else REAL_CLIP


def _batch(request: SweepRequest, cluster: str, sampling: "Sampling", device: str) -> int:
    """Most pictures in one pass; what `auto` came to before, if the folder holds results."""
    if request.batch != "auto":
        return parse_ranges("--batch", request.batch, 1, 4096)[-1]
    from ..diffusion.models import load_model
    from .store import stored_batch
    from .sweep import CPU_BATCH, automatic_batch

    before = None if request.fresh else stored_batch(request.output)
    if before or device == "cpu":
        return before or CPU_BATCH
    return automatic_batch(load_model(cluster, dtype=request.dtype, device=device), sampling)
