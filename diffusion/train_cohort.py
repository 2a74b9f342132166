"""The job of `dreambooth cohort.toml`: class images once, the cluster-wide model, then every user's model.

A finished model is a folder that appeared whole; a run that was killed goes on from the last checkpoint.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import data
from ..common.errors import InputError, shown
from ..common.files import make_folder, whole_file
from .cohort import Cohort
from .dreambooth import encode, make_job
from .gate import REAL_CLIP, ImageEncoder, load_image_encoder, similarity, toy_clip
from .hybrid import generate
from .lora import add_lora
from .models import SETTINGS, Model, load_model, save_half
from .photos import PLAIN, Photos, read_photos, save_image
from .sampling import Sampling
from .training import train

Say = Callable[[str], None]
BATCH = 8
"""Pictures made at once."""
RECORD = "gate.json"


@dataclass
class Gate:
    """How similar a model's samples are to every user's photos.

    Attributes:
        name: "cluster", or the user.
        before: user -> similarity of the base's samples.
        after: user -> similarity of this model's samples.
        reused: it was finished before this run.
    """

    name: str
    before: dict[str, float]
    after: dict[str, float]
    reused: bool = False

    @property
    def gains(self) -> dict[str, float]:
        """user -> after - before."""
        return {user: self.after[user] - self.before[user] for user in self.after}


@dataclass
class Job:
    """A cohort and all that its models share.

    Attributes:
        cohort: the file.
        folder: where its relative paths start.
        output: where the models go.
        device: "cpu", "cuda:0".
        say: a word to the user.
        progress: makes a callback for one model's training steps, given its name and number of steps.
    """

    cohort: Cohort
    folder: Path
    output: Path
    device: str
    say: Say
    progress: Callable[[str, int], Any]
    base: Model = field(init=False)
    photos: dict[str, Photos] = field(init=False)
    encoder: ImageEncoder = field(init=False)
    features: dict[str, Tensor] = field(init=False)

    def prepare(self) -> None:
        """Load and check everything, before anything is trained.

        Raises:
            InputError: one line.
        """
        cohort = self.cohort
        self.base = load_model(self.base_reference, subject=cohort.class_word, device=self.device)
        self.photos = {user.name: read_photos(self.folder / user.photos, self.side) for user in cohort.users}
        _check_token(self.base, cohort.token)
        self.encoder = load_image_encoder(self._clip_reference, self.device)
        self.features = {name: self.encoder.features((p.images + 1) / 2) for name, p in self.photos.items()}
        make_folder(self.output / ".state")

    @property
    def sampling(self) -> Sampling:
        """Of the images that are made."""
        return Sampling(total_steps=self.cohort.sampling_steps, guidance_scale=self.cohort.guidance_scale)

    @property
    def _is_toy(self) -> bool:
        return self.cohort.base == "toyworld"

    @property
    def base_reference(self) -> str:
        """The base's folder or hub id."""
        if self._is_toy:
            return str(data.FOLDER / "toyworld" / "base")
        beside = self.folder / self.cohort.base
        return str(beside) if beside.exists() else self.cohort.base

    @property
    def _clip_reference(self) -> str:
        if self.cohort.gate.clip is None:
            return toy_clip() if self._is_toy else REAL_CLIP
        beside = self.folder / self.cohort.gate.clip
        return str(beside) if beside.is_dir() else self.cohort.gate.clip

    @property
    def clip_name(self) -> str:
        """For the record; "toyworld" for the toy world's."""
        return self.cohort.gate.clip or ("toyworld" if self._is_toy else REAL_CLIP)

    @property
    def side(self) -> int:
        """Pixels of a side of the pictures."""
        return self.cohort.resolution or self.base.picture_side


def run_job(job: Job) -> Iterator[Gate]:
    """Train what is not trained yet; yields every model's gate, the cluster-wide one's first.

    Raises:
        InputError: for a finished model that was trained with other settings.
    """
    cohort = job.cohort
    before = _base_gate(job)
    prior = _class_images(job) if cohort.training.prior_weight else None
    yield _train_model(job, "cluster", job.output / "cluster", _cluster_photos(job), cohort.class_word, None, before)
    for user in cohort.users:
        folder = job.output / "users" / user.name
        yield _train_model(job, user.name, folder, job.photos[user.name], cohort.subject, prior, before)
    shutil.rmtree(job.output / ".state", ignore_errors=True)


def _train_model(
    job: Job, name: str, folder: Path, photos: Photos, subject: str, prior: Photos | None, before: dict[str, float]
) -> Gate:
    settings = _settings(job, photos, subject)
    if folder.exists():
        return Gate(name, before, _finished(folder, settings), reused=True)
    checkpoint = job.output / ".state" / f"{name}-{_digest(settings)}.safetensors"
    model = _fine_tuned(job, name, photos, subject, prior, checkpoint)
    gate = Gate(name, before, _similarities(job, model, photos.templates))
    with _whole_folder(folder) as unfinished:
        _save_model(job, model, unfinished, folder)
        _write_json(unfinished / RECORD, {"settings": settings, "clip": job.clip_name, **_gate_json(gate)})
    checkpoint.unlink(missing_ok=True)
    return gate


def _fine_tuned(job: Job, name: str, photos: Photos, subject: str, prior: Photos | None, checkpoint: Path) -> Model:
    from accelerate import Accelerator

    how = job.cohort.training
    torch.manual_seed(how.seed)
    modules = _trainable(job)
    own = encode(job.base, photos, subject)
    class_examples = encode(job.base, prior, job.cohort.class_word) if prior else None
    training = make_job(job.base, modules, own, class_examples, how)
    accelerator = Accelerator(mixed_precision=how.mixed_precision, cpu=job.device == "cpu")
    with job.progress(name, how.steps) as progress:
        trained = modules | train(training, checkpoint, accelerator, progress)
    parts = {part: module.eval().requires_grad_(False) for part, module in trained.items()}
    return Model(**(vars(job.base) | parts | {"name": name, "subject": subject}))


def _trainable(job: Job) -> dict[str, Any]:
    """Copies of the base's UNet and text encoder, or LoRAs on them."""
    how = job.cohort.training
    rates = {"unet": how.rate, "text_encoder": how.text_encoder_learning_rate}
    modules = {}
    for part, rate in rates.items():
        module = copy.deepcopy(getattr(job.base, part)).requires_grad_(rate > 0)
        if how.gradient_checkpointing:
            enable = getattr(module, "enable_gradient_checkpointing", None) or module.gradient_checkpointing_enable
            enable()
        modules[part] = add_lora(part, module, how.rank) if how.method == "lora" and rate > 0 else module
        modules[part].train()
    return modules


def _save_model(job: Job, model: Model, folder: Path, final: Path) -> None:
    """A diffusers folder in fp16; or the LoRAs and the name of their base."""
    settings = {"subject": model.subject} | _description(job, model.name)
    if job.cohort.training.method == "lora":
        for part in ("unet", "text_encoder"):
            if hasattr(module := getattr(model, part), "peft_config"):
                module.save_pretrained(folder / part, safe_serialization=True)
        base = job.base_reference
        settings["base"] = os.path.relpath(base, final) if Path(base).is_dir() else base
    else:
        save_half(_pipeline(model), folder)
    _write_json(folder / SETTINGS, settings)


def _description(job: Job, name: str) -> dict[str, str]:
    known = [user.description for user in job.cohort.users if user.name == name and user.description]
    return {"description": known[0]} if known else {}


def _pipeline(model: Model) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=copy.deepcopy(model.vae),
        text_encoder=copy.deepcopy(model.text_encoder),
        tokenizer=model.tokenizer,
        unet=copy.deepcopy(model.unet),
        scheduler=DDIMScheduler.from_config(model.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


# -- images that the base makes -----------------------------------------------------------------------------


def _class_images(job: Job) -> Photos | None:
    """The shared class images, made once."""
    wanted = job.cohort.class_
    if not wanted.images:
        return None
    templates = wanted.prompts or [PLAIN]
    return _made_images(job, "class", [templates[i % len(templates)] for i in range(wanted.images)], None)


def _cluster_photos(job: Job) -> Photos:
    """Shared, further and generated pictures for the cluster-wide model."""
    cluster = job.cohort.cluster
    names = cluster.shared if cluster.shared is not None else list(job.photos)
    parts = [job.photos[name] for name in names]
    parts += [read_photos(job.folder / folder, job.side) for folder in cluster.photos]
    for number, generated in enumerate(cluster.generated):
        templates = [generated.template] * generated.images
        parts.append(_made_images(job, f"generated-{number}", templates, generated.description))
    if not parts:
        raise InputError("cluster: found no pictures, accepted: shared users, photos or generated images; add some")
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _made_images(job: Job, name: str, templates: Sequence[str], description: str | None) -> Photos:
    """Pictures by the base, kept in the output so that they are made once; number i has seed i."""
    settings = {"templates": list(templates), "words": description or job.base.subject, "seed": 0}
    folder = job.output / "images" / f"{name}-{_digest(settings)}"
    make_folder(folder)
    missing = [i for i in range(len(templates)) if not (folder / f"{i:05d}.png").exists()]
    with job.progress(f"{name} images", len(templates)) as progress:
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            prompts = [templates[i].replace("{subject}", description or job.base.subject) for i in part]
            for i, image in zip(part, generate(job.base, prompts, part, job.sampling), strict=True):
                with whole_file(folder / f"{i:05d}.txt") as handle:
                    handle.write(templates[i] + "\n")
                save_image(folder / f"{i:05d}.png", image)
            progress(len(templates) - len(missing) + start + len(part), 0.0)
    return read_photos(folder, job.side)


# -- the gate -----------------------------------------------------------------------------------------------


def _base_gate(job: Job) -> dict[str, float]:
    return _similarities(job, job.base, [PLAIN])


def _similarities(job: Job, model: Model, templates: Sequence[str]) -> dict[str, float]:
    count = job.cohort.gate.samples
    chosen = [templates[i * len(templates) // count % len(templates)] for i in range(count)]
    images = generate(model, [model.prompt(t) for t in chosen], range(10_000, 10_000 + count), job.sampling)
    seen = job.encoder.features(images)
    return {name: similarity(seen, photos) for name, photos in job.features.items()}


def _gate_json(gate: Gate) -> dict[str, Any]:
    return {"model": gate.name, "before": gate.before, "after": gate.after, "gains": gate.gains}


def _finished(folder: Path, settings: dict[str, Any]) -> dict[str, float]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found, after = record["settings"], record["after"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: found no readable {RECORD}; remove this folder to train it again") from error
    for key, value in settings.items():
        if found.get(key) != value:
            raise InputError(
                f"{folder}: was trained with {key} {shown(found.get(key))}, and it is {shown(value)} now; "
                "remove the folder or choose another output"
            )
    return dict(after)


# -- files --------------------------------------------------------------------------------------------------


def _settings(job: Job, photos: Photos, subject: str) -> dict[str, Any]:
    """All that decides a model, flat."""
    cohort = job.cohort
    return {
        "base": cohort.base,
        "subject": subject,
        "photos": _digest([hashlib.sha256(photos.images.numpy().tobytes()).hexdigest(), photos.templates]),
        "class": _digest(cohort.class_.model_dump()),
        **cohort.training.model_dump(exclude={"save_every"}),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _check_token(base: Model, token: str) -> None:
    ids = base.tokenizer(token).input_ids[1:-1]
    if len(ids) != 1 or ids[0] == base.tokenizer.unk_token_id:
        raise InputError(
            f"field 'token': found {shown(token)}, which {base.name} reads as {len(ids)} tokens, accepted: a word that "
            "is one token, such as 'sks'"
        )


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that appears complete or not at all."""
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_folder(unfinished)
    try:
        yield unfinished
        os.replace(unfinished, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot write: {error.strerror or error}; choose another output") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with whole_file(path) as handle:
        handle.write(json.dumps(value, indent=2) + "\n")
