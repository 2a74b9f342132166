"""What the options of `pai-sweep` mean: the settings of a sweep, and how measurements become a curve."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from .. import data
from ..common.console import say
from ..common.errors import InputError, nearest, shown
from ..common.ranges import parse_ranges
from ..diffusion.inference.references import (
    check_device,
    check_format,
    check_models,
    model_references,
    named,
    read_settings,
    usual_guidance,
    usual_scheduler,
)
from ..diffusion.inference.sampling import Sampling
from .fingerprints import fingerprints, is_toy
from .pai import REAL_KAPPA, PaiConstants
from .prompts import read_prompts
from .settings import BACKBONES, BLOCK, ENGINES, REAL_CLIP, SweepSettings
from .split_points import parse_splits

LARGEST = 1e6
"""Bound of the constants of eq. (1) that no sensible value comes near."""
MOST_SEEDS = 1_000_000
MOST_BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class CurveOptions:
    """The options that say how measurements become a curve.

    Attributes:
        kappa: kappa of eq. (1); None for the paper's, or for 1 / CLIP(N) with toy models.
        gain: gain of sigma_P in eq. (1).
        threshold: threshold of sigma_P in eq. (1).
        personal: LPIPS-bar that N-hat's interval must lie above.
        two_parameter: whether only the paper's form is fitted, without amplitude and offset.

    Raises:
        InputError: for a constant out of range.
    """

    kappa: float | None
    gain: float
    threshold: float
    personal: float
    two_parameter: bool

    def __post_init__(self) -> None:
        for option, value in (("--kappa", self.kappa), ("--gain", self.gain)):
            if value is not None and not 0 < value <= LARGEST:
                raise InputError(f"{option}: found {value}, accepted: above 0, up to {LARGEST:.0f}")
        for option, value in (("--threshold", self.threshold), ("--personal", self.personal)):
            if not 0 <= value <= LARGEST:
                raise InputError(f"{option}: found {value}, accepted: 0 to {LARGEST:.0f}")

    @property
    def constants(self) -> PaiConstants:
        """The constants of eq. (1), with the paper's kappa where no other is wanted."""
        return PaiConstants(kappa=self.kappa or REAL_KAPPA, gain=self.gain, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of `pai-sweep`, which its help explains."""

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
    scheduler: str | None
    batch: str
    dtype: str
    device: str
    clip: str | None
    lpips: str | None
    long_prompts: str
    curve: CurveOptions
    engine: str
    workers: int
    output: Path
    fresh: bool
    as_json: bool


def resolve(request: SweepRequest) -> SweepSettings:
    """The settings that the options mean, without those of the machine; nothing here needs torch.

    Raises:
        InputError: one line naming the option.
    """
    cluster, users = _references(request)
    toy = is_toy(cluster)
    check_models([cluster, *users.values()])
    sampling = _sampling(request, cluster, toy)
    lpips, clip = (
        request.lpips or ("toyworld" if toy else "alex"),
        request.clip or ("toyworld/clip" if toy else REAL_CLIP),
    )
    _check_choices(request, lpips)
    return SweepSettings(
        cluster=data.portable(cluster),
        users={name: data.portable(reference) for name, reference in users.items()},
        **_texts(request, cluster, users, toy),
        weights=fingerprints(cluster, users, clip, lpips, request.output),
        seeds=request.seeds,
        splits=_splits(request, toy, sampling.total_steps),
        total_steps=sampling.total_steps,
        guidance_scale=sampling.guidance_scale,
        scheduler=sampling.scheduler,
        dtype=request.dtype,
        batch=0 if request.batch == "auto" else parse_ranges("--batch", request.batch, 1, MOST_BATCH)[-1],
        clip=data.portable(_absolute(clip)),
        lpips=lpips,
        long_prompts=cast(Literal["refuse", "window"], request.long_prompts),
    )


def on_machine(settings: SweepSettings, kind: str, stored: Mapping[str, Any]) -> SweepSettings:
    """The settings with those of the machine, as far as they are known.

    Args:
        settings: what the options mean.
        kind: kind of the devices, "cpu" or "cuda".
        stored: settings of results that are there already, by option; a run goes on with their batch and threads.
    """
    batch = settings.batch or stored.get("--batch") or (BLOCK if kind == "cpu" else 0)
    return replace(settings, device=kind, threads=int(stored.get("threads") or 0), batch=int(batch))


def _references(request: SweepRequest) -> tuple[str, dict[str, str]]:
    """The models, each folder by its whole path, which every working directory and every Ray worker understands."""
    cluster, users = model_references(request.cluster, request.users, request.cohort)
    if len(users) < 2:
        raise InputError(f"--user: found one user, {', '.join(users)}, accepted: two or more; LPIPS needs pairs")
    return _absolute(cluster), {name: _absolute(reference) for name, reference in users.items()}


def _absolute(reference: str) -> str:
    return str(Path(reference).resolve()) if Path(reference).exists() else reference


def _check_choices(request: SweepRequest, lpips: str) -> None:
    """Refuse options that are one of a few words or a number of a range, and none of them."""
    if not 1 <= request.seeds <= MOST_SEEDS:
        raise InputError(f"--seeds: found {request.seeds}, accepted: 1 to {MOST_SEEDS}")
    if request.workers < 0:
        raise InputError(f"--workers: found {request.workers}, accepted: 0 or more")
    check_device(request.device)
    check_format(request.dtype)
    _one_of("--engine", request.engine, ENGINES)
    _one_of("--long-prompts", request.long_prompts, ("refuse", "window"))
    _one_of("--lpips", lpips, BACKBONES)


def _one_of(option: str, value: str, accepted: Collection[str]) -> None:
    if value not in accepted:
        names = ", ".join(accepted)
        raise InputError(f"{option}: found {shown(value)}, accepted: {names}; {nearest(value, accepted)}")


def _sampling(request: SweepRequest, cluster: str, toy: bool) -> Sampling:
    """The sampling that edge and devices share; its errors name the options."""
    try:
        return Sampling(
            total_steps=(50 if toy else 200) if request.steps is None else request.steps,
            guidance_scale=usual_guidance(cluster, request.guidance, toy),
            scheduler=usual_scheduler(cluster, request.scheduler),
        )
    except InputError as error:
        field, _, rest = str(error).partition(":")
        option = {"total_steps": "steps", "guidance_scale": "guidance"}.get(field, field)
        raise InputError(f"--{option}:{rest}") from error


def _splits(request: SweepRequest, toy: bool, total: int) -> list[int]:
    splits = parse_splits(request.splits, total)
    if toy and request.curve.kappa is None and splits[-1] < total:
        raise InputError(
            f"--splits: found {splits[-1]} at most, accepted: with N = {total}, as kappa is 1 / CLIP(N); or give "
            "--kappa"
        )
    return splits


def _texts(request: SweepRequest, cluster: str, users: Mapping[str, str], toy: bool) -> dict[str, Any]:
    """The prompts, and what stands for the subject in them on each side: fields of `SweepSettings`."""
    stored = {name: read_settings(Path(reference)) for name, reference in users.items()}
    class_word = request.subject or read_settings(Path(cluster)).get("subject") or "dog"
    own = {name: settings.get("subject") for name, settings in stored.items()}
    looks = {name: settings.get("description") for name, settings in stored.items()}
    words = _of_users("--words", request.words, own, class_word, "the subject's words on the user's own model")
    return {
        "words": words,
        "descriptions": _of_users(
            "--describe", request.descriptions, looks, class_word, "what the user's subject looks like"
        ),
        "class_word": class_word,
        "templates": _templates(request, toy, class_word, words),
    }


def _of_users(
    option: str, texts: Sequence[str], stored: Mapping[str, str | None], class_word: str, meaning: str
) -> dict[str, str]:
    """One text per user: from the option, else stored with the model, else the class word, which is then announced.

    Args:
        option: option that sets the texts.
        texts: values of the option, NAME=TEXT each.
        stored: user -> text that is stored with the model, or None.
        class_word: word that stands for a text that is nowhere.
        meaning: what the texts are, for the announcement.
    """
    own = named(option, texts)
    if unknown := next((name for name in own if name not in stored), None):
        raise InputError(f"{option}: found user {shown(unknown)}; {nearest(unknown, stored)}")
    known = {name: own.get(name) or stored[name] for name in stored}
    without = [name for name, text in known.items() if not text]
    if without:
        say(
            f"pai-sweep: {', '.join(without)}: {meaning} is not known, {class_word!r} stands for it; "
            f"{option} NAME=TEXT says it"
        )
    return {name: text or class_word for name, text in known.items()}


def _templates(request: SweepRequest, toy: bool, class_word: str, words: Mapping[str, str]) -> list[str]:
    if request.prompts is None and not toy:
        raise InputError("--prompts: missing; name a file with a prompt a line, such as 'a photo of {subject} in snow'")
    return read_prompts(request.prompts or data.sample("prompts.txt"), class_word, words.values())
