"""What the options of `pai-sweep` mean: the settings of a sweep."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from .. import data
from ..common.console import say
from ..common.errors import InputError, nearest, shown
from ..common.files import read_text
from ..common.ranges import parse_ranges
from ..diffusion.dreambooth_command import model_references, named
from .pai import REAL_KAPPA, PaiConstants
from .prompts import read_prompts

if TYPE_CHECKING:
    from ..diffusion.inference.sampling import Sampling
    from .sweep import SweepSettings

NUMBER = re.compile(r"(\d{1,6})|N(?:/([1-9]\d{0,5}))?")
ENGINES = ("local", "ray")
ENDS = 1 << 16
"""Bytes of the start and the end of a file of weights; they tell one training from another."""
TOY_SIDE = 32
"""Latents narrower than this are a toy model's; those of Stable Diffusion have 64 or 96."""
LARGEST = 1e6
"""Of the constants of eq. (1): what no sensible value comes near."""


@dataclass(frozen=True)
class Equation:
    """How measurements become a curve; see the help.

    Raises:
        InputError: for a constant out of range.
    """

    kappa: float | None
    gain: float
    threshold: float
    personal: float
    two_parameter: bool

    def __post_init__(self) -> None:
        for option, found in (("--kappa", self.kappa), ("--gain", self.gain)):
            if found is not None and not 0 < found <= LARGEST:
                raise InputError(f"{option}: found {found}, accepted: above 0, up to {LARGEST:.0f}")
        for option, found in (("--threshold", self.threshold), ("--personal", self.personal)):
            if not 0 <= found <= LARGEST:
                raise InputError(f"{option}: found {found}, accepted: 0 to {LARGEST:.0f}")

    @property
    def constants(self) -> PaiConstants:
        """Of eq. (1); kappa is the real CLIP's where none is given."""
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


def is_toy(cluster: str) -> bool:
    """Whether a cluster-wide model's pictures are as small as the toy world's, which real metrics cannot judge."""
    config = Path(base_of(cluster) or cluster) / "unet" / "config.json"
    try:
        side = json.loads(read_text(config))["sample_size"] if config.is_file() else None
    except (ValueError, TypeError, KeyError):  # loading the model says what is wrong
        return False
    return isinstance(side, int) and side < TOY_SIDE


def base_of(reference: str) -> str | None:
    """The base of a folder with a LoRA; None for another model."""
    from ..diffusion.inference.models import read_settings

    base = read_settings(Path(reference)).get("base")
    if not base:
        return None
    beside = (Path(reference) / base).resolve()
    return str(beside) if beside.is_dir() else data.located(base)


def resolve(request: SweepRequest, kind: str, stored: Mapping[str, Any]) -> "SweepSettings":
    """The settings that the options mean.

    Args:
        request: the options.
        kind: of the devices, "cpu" or "cuda".
        stored: settings of results that are there already, by option, with whose batch and threads a run goes on.

    Raises:
        InputError: one line naming the option.
    """
    import torch

    from .sweep import SweepSettings

    cluster, users = _references(request)
    toy = is_toy(cluster)
    sampling = _sampling(request, toy)
    lpips, clip = request.lpips or ("toyworld" if toy else "alex"), request.clip or _default_clip(toy)
    _check_choices(request, lpips)
    return SweepSettings(
        cluster=data.portable(cluster),
        users={name: data.portable(reference) for name, reference in users.items()},
        **_texts(request, cluster, users, toy),
        weights=_fingerprints(cluster, users, clip, lpips),
        seeds=request.seeds,
        splits=_splits(request, toy, sampling.total_steps),
        total_steps=sampling.total_steps,
        guidance_scale=sampling.guidance_scale,
        scheduler=sampling.scheduler,
        dtype=request.dtype,
        device=kind,
        threads=stored.get("threads") or torch.get_num_threads(),
        batch=_batch(request.batch, kind, stored),
        clip=data.portable(_absolute(clip)),
        lpips=lpips,
        long_prompts=cast(Literal["refuse", "window"], request.long_prompts),
    )


def _references(request: SweepRequest) -> tuple[str, dict[str, str]]:
    """The models, folders by their whole paths: the same from everywhere, and on every machine of a cluster."""
    cluster, users = model_references(request.cluster, request.users, request.cohort)
    if len(users) < 2:
        raise InputError(f"--user: found one user, {', '.join(users)}, accepted: two or more; LPIPS needs pairs")
    return _absolute(cluster), {name: _absolute(reference) for name, reference in users.items()}


def _absolute(reference: str) -> str:
    return str(Path(reference).resolve()) if Path(reference).is_dir() else reference


def _check_choices(request: SweepRequest, lpips: str) -> None:
    from ..diffusion.inference.models import DTYPES
    from .lpips import BACKBONES

    if not 1 <= request.seeds <= 1_000_000:
        raise InputError(f"--seeds: found {request.seeds}, accepted: 1 to 1000000")
    _one_of("--dtype", request.dtype, DTYPES)
    _one_of("--long-prompts", request.long_prompts, ("refuse", "window"))
    _one_of("--lpips", lpips, BACKBONES)


def _sampling(request: SweepRequest, toy: bool) -> "Sampling":
    """What edge and devices share; its errors name the options."""
    from ..diffusion.inference.sampling import Sampling

    try:
        return Sampling(
            total_steps=(50 if toy else 200) if request.steps is None else request.steps,
            guidance_scale=(3.0 if toy else 7.5) if request.guidance is None else request.guidance,
            scheduler=request.scheduler,
        )
    except InputError as error:
        field, _, rest = str(error).partition(":")
        option = {"total_steps": "steps", "guidance_scale": "guidance"}.get(field, field)
        raise InputError(f"--{option}:{rest}") from error


def _splits(request: SweepRequest, toy: bool, total: int) -> list[int]:
    splits = parse_splits(request.splits, total)
    if toy and request.equation.kappa is None and splits[-1] < total:
        raise InputError(
            f"--splits: found {splits[-1]} at most, accepted: with N = {total}, as kappa is 1 / CLIP(N); or give "
            "--kappa"
        )
    return splits


def parse_splits(text: str | None, total: int) -> list[int]:
    """Local steps n of a text such as "0:N:N/10" or "0,10,N", rounded to whole steps; ascending, each once.

    Raises:
        InputError: for fewer than three, some outside 0..N, or steps of less than one.
    """
    if text is None and total < 2:
        raise InputError(f"--steps: found {total}, accepted: 2 or more, as a curve needs three splits")
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


def _fingerprints(cluster: str, users: Mapping[str, str], clip: str, lpips: str) -> dict[str, str]:
    backbone = str(data.FOLDER / "toyworld" / "lpips") if lpips == "toyworld" else lpips
    parts = {"cluster": cluster, "clip": data.located(clip), "lpips": backbone}
    parts |= {f"users.{name}": reference for name, reference in users.items()}
    return {name: fingerprint(reference) for name, reference in parts.items()}


def fingerprint(reference: str) -> str:
    """What tells one training of a model from another: name, size, start and end of its weights and of its base's.

    Of a hub id, or of a name that is no folder, that itself.
    """
    folder = Path(reference)
    if not folder.is_dir():
        return reference
    base = base_of(reference)
    digest = hashlib.sha256(fingerprint(base).encode() if base else b"")
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


def _texts(request: SweepRequest, cluster: str, users: Mapping[str, str], toy: bool) -> dict[str, Any]:
    """The prompts, and what stands for the subject in them on each side."""
    from ..diffusion.inference.models import read_settings

    stored = {name: read_settings(Path(reference)) for name, reference in users.items()}
    class_word = request.subject or read_settings(Path(cluster)).get("subject") or "dog"
    own = {name: settings.get("subject") for name, settings in stored.items()}
    looks = {name: settings.get("description") for name, settings in stored.items()}
    meaning = "the subject's words on the user's own model"
    return {
        "words": _of_users("--words", request.words, own, class_word, meaning),
        "descriptions": _of_users(
            "--describe", request.descriptions, looks, class_word, "what the user's subject looks like"
        ),
        "class_word": class_word,
        "templates": _templates(request, toy, class_word),
    }


def _of_users(
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


def _batch(found: str, kind: str, stored: Mapping[str, Any]) -> int:
    """Most pictures in one pass; of `auto` what it came to before, 0 where the GPU has yet to say."""
    from .sweep import BLOCK

    if found != "auto":
        return parse_ranges("--batch", found, 1, 4096)[-1]
    return int(stored.get("--batch") or (BLOCK if kind == "cpu" else 0))
