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
from functools import cache, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import data
from ...common.errors import InputError, shown
from ...common.files import make_folder, read_text, whole_file
from ..inference.clip_images import REAL_CLIP, ImageEncoder, load_image_encoder, similarity, toy_clip
from ..inference.gpu import free_memory
from ..inference.hybrid import generate
from ..inference.lora import add_lora
from ..inference.models import SETTINGS, Model, load_model, save_half, weights_digest
from ..inference.sampling import Sampling
from .cohort import CLUSTER, Cohort, User
from .dreambooth import Examples, encode, make_job
from .loop import check_processes, make_accelerator, train
from .photos import PLAIN, Photos, read_photos, save_image

BATCH = 8
"""Pictures made at once."""
RECORD = "gate.json"
FIRST_SAMPLE_SEED = 10_000
"""Of the gate's samples; class images have the seeds from 0."""
NOT_VALUES = {
    "base": "a base of other weights",
    "photos": "other photos or captions",
    "prior": "other class images",
}
"""Settings that are kept as a digest, in words for a message."""


@dataclass
class Gate:
    """How similar a model's samples are to every user's photos.

    Attributes:
        name: "cluster", or the user.
        before: user -> similarity of the base's samples of the same prompts and seeds.
        after: user -> similarity of this model's samples.
        reused: the model was finished before this run.
    """

    name: str
    before: dict[str, float]
    after: dict[str, float]
    reused: bool = False

    @property
    def gains(self) -> dict[str, float]:
        """user -> after - before."""
        return {user: self.after[user] - self.before[user] for user in self.after}

    @property
    def others_gain(self) -> float:
        """The largest gain for another user's subject; minus infinity where there is none."""
        return max((gain for user, gain in self.gains.items() if user != self.name), default=float("-inf"))

    @property
    def is_its_own(self) -> bool:
        """Whether a user's model became more like its own subject, and more so than like any other's."""
        return self.gains[self.name] > max(0.0, self.others_gain)

    def as_json(self) -> dict[str, Any]:
        """For the record and for machines."""
        return {"model": self.name, "before": self.before, "after": self.after, "gains": self.gains}


@dataclass
class Job:
    """A cohort and all that its models share.

    Attributes:
        cohort: what the file says.
        path: the file; its relative paths start in its folder.
        output: where the models go.
        device: "cpu", "cuda:0".
        progress: makes a callback for one model's training steps, given its name and number of steps.
        base: what all models start from.
        base_digest: of all its weights.
        photos: of each user.
        further: the photos of `cluster.photos`.
        encoder: of the gate.
        features: of each user's photos.
    """

    cohort: Cohort
    path: Path
    output: Path
    device: str
    progress: Callable[[str, int], Any]
    base: Model = field(init=False)
    base_digest: str = field(init=False)
    photos: dict[str, Photos] = field(init=False)
    further: list[Photos] = field(init=False)
    encoder: ImageEncoder = field(init=False)
    features: dict[str, Tensor] = field(init=False)

    def prepare(self) -> None:
        """Load and check everything, before anything is trained.

        Raises:
            InputError: one line naming the file and the field.
        """
        check_processes()
        cohort = self.cohort
        with self._field("training.mixed_precision"):
            make_accelerator(self.device, cohort.training.mixed_precision)
        with self._field("base"):
            self.base = load_model(self.base_reference, subject=cohort.class_word, device=self.device)
        self._check_words()
        self.photos = {u.name: self._photos(f"users.{i}.photos", u.photos) for i, u in enumerate(cohort.users)}
        self.further = [self._photos(f"cluster.photos.{i}", folder) for i, folder in enumerate(cohort.cluster.photos)]
        with self._field("gate.clip"):
            self.encoder = load_image_encoder(self._clip_reference, self.device)
        self.features = {name: self.encoder.features((p.images + 1) / 2) for name, p in self.photos.items()}
        self.base_digest = weights_digest(self.base.unet, self.base.text_encoder, self.base.vae)
        make_folder(self.output / ".state")

    @contextmanager
    def _field(self, name: str) -> Iterator[None]:
        """Names the file and the field in a refusal."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.path}: field {name!r}: {error}") from error

    def _photos(self, name: str, folder: str) -> Photos:
        with self._field(name):
            photos = read_photos(self.folder / folder, self.side)
            self._check_prompts(photos.templates, self.cohort.class_word, self.cohort.subject)
        return photos

    def _check_words(self) -> None:
        """Every word that is drawn or trained with is one that the base reads, and whole."""
        cohort = self.cohort
        with self._field("sampling_steps"):
            self.sampling.make_scheduler(self.base.scheduler_config)
        with self._field("class_word"):
            self.base.tokens([cohort.class_word])
        with self._field("token"):
            _check_token(self.base, cohort.token)
        with self._field("class.prompts"):
            self._check_prompts(cohort.class_.prompts or [PLAIN], cohort.class_word)
        for i, generated in enumerate(cohort.cluster.generated):
            with self._field(f"cluster.generated.{i}"):
                self._check_prompts([generated.template], cohort.class_word, generated.description)

    def _check_prompts(self, templates: Sequence[str], *subjects: str) -> None:
        self.base.tokens([template.replace("{subject}", words) for template in templates for words in subjects])

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.parent

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
    orders = list(_orders(job))
    for order in orders:
        if order.folder.exists():
            _finished(order.folder, _settings(job, order))  # before anything is trained
    for order in orders:
        yield _make_model(job, order)
    shutil.rmtree(job.output / ".state", ignore_errors=True)


@dataclass(frozen=True)
class Prior:
    """The class images.

    Attributes:
        digest: of the pictures and their captions.
        examples: their latents, encoded on the first call.
    """

    digest: str
    examples: Callable[[], Examples]


@dataclass(frozen=True)
class Order:
    """A model to make.

    Attributes:
        name: of the user, or "cluster".
        folder: where it goes.
        photos: what it is trained on.
        subject: the words that come to mean what is on them.
        prior: class images beside them.
        user: whose it is; None for the cluster-wide model.
    """

    name: str
    folder: Path
    photos: Photos
    subject: str
    prior: Prior | None = None
    user: User | None = None


def _orders(job: Job) -> Iterator[Order]:
    cohort, prior = job.cohort, _prior(job)
    yield Order(CLUSTER, job.output / CLUSTER, _cluster_photos(job), cohort.class_word)
    for user in cohort.users:
        folder = job.output / "users" / user.name
        yield Order(user.name, folder, job.photos[user.name], cohort.subject, prior, user)


def _prior(job: Job) -> Prior | None:
    photos = _class_images(job)
    if photos is None:
        return None
    return Prior(_photos_digest(photos), cache(lambda: encode(job.base, photos, job.cohort.class_word)))


def _make_model(job: Job, order: Order) -> Gate:
    settings, judged_by = _settings(job, order), _judged_by(job)
    if order.folder.exists():
        record = _finished(order.folder, settings)
        if record["judged_by"] == judged_by:
            return Gate(order.name, record["before"], record["after"], reused=True)
        gate = _judge(job, order, order.folder, reused=True)
        _write_record(order.folder, settings, judged_by, gate)
        return gate
    checkpoint = job.output / ".state" / f"{order.name}-{_digest(settings)}.safetensors"
    modules = _fine_tuned(job, order, checkpoint)
    with _whole_folder(order.folder) as unfinished:
        _save_model(job, order, modules, unfinished)
        gate = _judge(job, order, unfinished)
        _write_record(unfinished, settings, judged_by, gate)
    checkpoint.unlink(missing_ok=True)
    return gate


def _fine_tuned(job: Job, order: Order, checkpoint: Path) -> dict[str, Any]:
    """The trained UNet and text encoder, or their LoRAs."""
    how = job.cohort.training
    free_memory()  # of the user before
    torch.manual_seed(how.seed)
    modules = _trainable(job)
    own = encode(job.base, order.photos, order.subject)
    training = make_job(job.base, modules, own, order.prior.examples() if order.prior else None, how)
    with job.progress(order.name, how.steps) as progress:
        trained = train(training, checkpoint, make_accelerator(job.device, how.mixed_precision), progress)
    modules |= trained
    del training, trained
    free_memory()  # of the optimizer
    return modules


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


def _save_model(job: Job, order: Order, modules: dict[str, Any], folder: Path) -> None:
    """A diffusers folder in fp16; or the LoRAs and which base they belong to."""
    settings = {"subject": order.subject}
    if order.user and order.user.description:
        settings["description"] = order.user.description
    if job.cohort.training.method == "lora":
        for part, module in modules.items():
            if hasattr(module, "peft_config"):
                module.save_pretrained(folder / part, safe_serialization=True)
        settings["base"] = _lasting_reference(job, order.folder)
        settings["base_digest"] = weights_digest(job.base.unet, job.base.text_encoder)
    else:
        save_half(_pipeline(job.base, modules), folder)
    _write_json(folder / SETTINGS, settings)


def _lasting_reference(job: Job, folder: Path) -> str:
    """The base as seen from a model: relative where both move together, absolute or by name otherwise."""
    base = Path(job.base_reference).resolve()
    if not base.is_dir():
        return job.base_reference
    if base.is_relative_to(job.output.resolve()):
        return os.path.relpath(base, folder.resolve())
    return data.portable(str(base))


def _pipeline(base: Model, modules: dict[str, Any]) -> Any:
    """Copies, as the number format of a pipeline changes in place."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=copy.deepcopy(base.vae),
        text_encoder=copy.deepcopy(modules["text_encoder"]),
        tokenizer=base.tokenizer,
        unet=copy.deepcopy(modules["unet"]),
        scheduler=DDIMScheduler.from_config(base.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


# -- images that the base makes -----------------------------------------------------------------------------


def _class_images(job: Job) -> Photos | None:
    """The shared class images, made once."""
    wanted = job.cohort.class_
    if not wanted.images or not job.cohort.training.prior_weight:
        return None
    templates = wanted.prompts or [PLAIN]
    return _made_images(job, "class", [templates[i % len(templates)] for i in range(wanted.images)], None)


def _cluster_photos(job: Job) -> Photos:
    """Shared, further and generated pictures for the cluster-wide model."""
    cluster = job.cohort.cluster
    names = cluster.shared if cluster.shared is not None else list(job.photos)
    parts = [job.photos[name] for name in names] + job.further
    for number, generated in enumerate(cluster.generated):
        templates = [generated.template] * generated.images
        parts.append(_made_images(job, f"generated-{number}", templates, generated.description))
    return reduce(Photos.__add__, parts)


def _made_images(job: Job, name: str, templates: Sequence[str], description: str | None) -> Photos:
    """Pictures by the base, kept in the output so that they are made once; number i has seed i."""
    words = description or job.base.subject
    settings = [list(templates), words, job.base_digest, job.cohort.sampling_steps, job.cohort.guidance_scale]
    folder = job.output / "images" / f"{name}-{_digest(settings)}"
    make_folder(folder)
    missing = [i for i in range(len(templates)) if not (folder / f"{i:05d}.png").exists()]
    with job.progress(f"{name} images", len(templates)) as progress:
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            prompts = [templates[i].replace("{subject}", words) for i in part]
            for i, image in zip(part, generate(job.base, prompts, part, job.sampling), strict=True):
                with whole_file(folder / f"{i:05d}.txt") as handle:
                    handle.write(templates[i] + "\n")
                save_image(folder / f"{i:05d}.png", image)
            progress(len(templates) - len(missing) + start + len(part), 0.0)
    return read_photos(folder, job.side)


# -- the gate -----------------------------------------------------------------------------------------------


def _judge(job: Job, order: Order, folder: Path, reused: bool = False) -> Gate:
    """The base and the model as it stands in its folder, on the same prompts and seeds."""
    model = load_model(folder, subject=order.subject, device=job.device)
    before, after = (_similarities(job, made, order.photos.templates) for made in (job.base, model))
    return Gate(order.name, before, after, reused)


def _similarities(job: Job, model: Model, templates: Sequence[str]) -> dict[str, float]:
    """User -> similarity of a model's samples of captions to the user's photos."""
    count = job.cohort.gate.samples
    prompts = [model.prompt(templates[i * len(templates) // count % len(templates)]) for i in range(count)]
    images = generate(model, prompts, range(FIRST_SAMPLE_SEED, FIRST_SAMPLE_SEED + count), job.sampling)
    seen = job.encoder.features(images)
    return {name: similarity(seen, photos) for name, photos in job.features.items()}


def _finished(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of a model that was finished with these settings."""
    try:
        record = json.loads(read_text(folder / RECORD))
        found, _ = dict(record["settings"]), (record["before"], record["after"])
    except (InputError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: found no readable {RECORD}; remove this folder to train it again") from error
    for key, value in settings.items():
        if found.get(key) != value:
            was = NOT_VALUES.get(key) or f"{key} {shown(found.get(key))}, and it is {shown(value)} now"
            raise InputError(f"{folder}: was trained with {was}; remove the folder or choose another output")
    known: dict[str, Any] = {"judged_by": None} | record
    return known


def _write_record(folder: Path, settings: dict[str, Any], judged_by: dict[str, Any], gate: Gate) -> None:
    clip = judged_by["clip"]
    _write_json(folder / RECORD, {"settings": settings, "judged_by": judged_by, "clip": clip, **gate.as_json()})


# -- files --------------------------------------------------------------------------------------------------


def _settings(job: Job, order: Order) -> dict[str, Any]:
    """All that decides a model, flat."""
    return {
        "base": job.base_digest,
        "subject": order.subject,
        "photos": _photos_digest(order.photos),
        "prior": order.prior.digest if order.prior else None,
        **job.cohort.training.model_dump(exclude={"save_every"}),
    }


def _judged_by(job: Job) -> dict[str, Any]:
    """All that decides a gate beside the model: where it changed, finished models are judged again."""
    return {
        "clip": job.clip_name,
        "clip_digest": weights_digest(job.encoder.clip),
        "samples": job.cohort.gate.samples,
        "sampling_steps": job.cohort.sampling_steps,
        "guidance_scale": job.cohort.guidance_scale,
        "users": {name: _photos_digest(photos) for name, photos in job.photos.items()},
    }


def _photos_digest(photos: Photos) -> str:
    return _digest([hashlib.sha256(photos.images.numpy().tobytes()).hexdigest(), photos.templates])


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
