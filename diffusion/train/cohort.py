"""`cohort.toml`: whose photos make which models, and how."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ... import data
from ...common.errors import InputError, reason_of, shown
from ...common.files import Record, first_problem, read_text
from ..inference.references import NAME
from ..inference.sampling import Sampling
from ..inference.templates import PLAIN, check_template, with_subject

CLUSTER = "cluster"
"""The name of the cluster-wide model."""
TOY = "toyworld"
"""What `base` says for the shipped toy world."""
GATE_CLIP = "ViT-B-32/openai"
"""The CLIP that judges models of real pictures, unless the file names another."""
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Text = Annotated[str, Field(min_length=1)]
Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Training(Record):
    """How every model of the cohort is trained.

    Attributes:
        method: what is trained: "full" for all weights, "lora" for a LoRA.
        rank: rank of the LoRA's matrices.
        steps: number of optimizer steps per model.
        batch_size: number of photos per step; as many class images come on top.
        learning_rate: learning rate of the UNet; 0 for the method's default, 5e-6 (full) or 1e-4 (lora).
        text_encoder_learning_rate: learning rate of the text encoder; 0 to leave it as it is.
        prior_weight: weight of the class images' loss, against forgetting the class; the cluster-wide model has none.
        caption_dropout: share of pictures that are trained without their caption, which keeps guidance working.
        average: decay of the moving average of the weights; 0 for no average.
        mixed_precision: number format of the computation, as accelerate calls it: "no", "fp16" or "bf16".
        gradient_checkpointing: whether activations are computed twice, which takes less memory and more time.
        save_every: number of steps between checkpoints.
        seed: seed of all random numbers of the training.
    """

    method: Literal["full", "lora"] = "full"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    steps: Count = 400
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 4
    learning_rate: Rate = 0.0
    text_encoder_learning_rate: Rate = 0.0
    prior_weight: Annotated[float, Field(ge=0, le=100)] = 1.0
    caption_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: bool = False
    save_every: Count = 50
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0

    def rates(self, network: str) -> dict[str, float]:
        """Part of the model -> its learning rate; the network's name is its family's. 0 for what is left as it is."""
        usual = {"full": 5e-6, "lora": 1e-4}[self.method]
        return {network: self.learning_rate or usual, "text_encoder": self.text_encoder_learning_rate}


class Class(Record):
    """The class images, which the base makes once for prior preservation.

    Attributes:
        prompts: templates that are used in turn, with `{subject}` or the subject's words.
        images: number of images in all.
    """

    prompts: list[Text] = Field(default_factory=list)
    images: Annotated[int, Field(ge=0, le=100_000)] = 50


class Generated(Record):
    """Images for the cluster-wide model that the base makes from a prompt.

    Attributes:
        template: caption that the images are trained with, with `{subject}` or the subject's words.
        description: words for `{subject}` while the images are made, such as "a white corgi puppy".
        images: number of images.
    """

    template: Text = PLAIN
    description: Text
    images: Count = 8


class Cluster(Record):
    """What the cluster-wide model is trained on.

    Attributes:
        shared: names of the users who share their photos; None for all users.
        photos: further folders of photos, relative to the file.
        generated: groups of images that the base makes.
    """

    shared: list[Name] | None = None
    photos: list[Text] = Field(default_factory=list)
    generated: list[Generated] = Field(default_factory=list)


class User(Record):
    """A user and the folder of photos of the user's subject.

    Attributes:
        name: name of the user, and of the model's folder.
        photos: folder of photos, relative to the file.
        description: looks of the subject, such as "a golden dog with floppy ears"; these words stand for `{subject}`
            where CLIP compares pictures with the prompt, as the rare token means nothing to CLIP.
    """

    name: Name
    photos: Text
    description: Text | None = None


class Judging(Record):
    """How the gate judges a model.

    Attributes:
        clip: CLIP of the gate, an open_clip model as NAME/PRETRAINED or a folder; None for the toy world's CLIP where
            the toy world is the base, else for ViT-B-32/openai.
        samples: number of pictures that each model makes for its gate.
    """

    clip: Text | None = None
    samples: Annotated[int, Field(ge=1, le=1000)] = 8


class Cohort(Record):
    """What the file says.

    Attributes:
        base: model that all models start from: a folder (relative to the file), a hub id, or "toyworld".
        class_word: word for what the subjects are, such as "dog"; it stands for the subject at the edge.
        token: rare word that comes to mean a user's own subject; one token of the base's tokenizer.
        resolution: side of the pictures in pixels; None for the base's own.
        sampling_steps: number of denoising steps of the pictures that are made.
        guidance_scale: guidance scale of the pictures that are made.
        training: how every model is trained.
        class_: the class images; the file calls this section "class".
        cluster: what the cluster-wide model is trained on.
        gate: how every model is judged.
        users: the users, at least one.
    """

    base: Text = "toyworld"
    class_word: Text = "dog"
    token: Text = "sks"  # noqa: S105 - a word
    resolution: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] | None = None
    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 30
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = 5.0
    training: Training = Field(default_factory=Training)
    class_: Class = Field(default_factory=Class, alias="class")
    cluster: Cluster = Field(default_factory=Cluster)
    gate: Judging = Field(default_factory=Judging)
    users: Annotated[list[User], Field(min_length=1)]

    @property
    def subject(self) -> str:
        """The words for a user's own subject, such as "sks dog"."""
        return f"{self.token} {self.class_word}"

    @property
    def words(self) -> tuple[str, str]:
        """Words that mean the subject in a caption or a template, the user's own first."""
        return self.subject, self.class_word


@dataclass(frozen=True)
class CohortFile:
    """A cohort file and what its references mean, which depends on the folder that it lies in.

    Attributes:
        path: path of the file.
        cohort: content of the file.
    """

    path: Path
    cohort: Cohort

    @property
    def folder(self) -> Path:
        """The folder that relative paths start in."""
        return self.path.parent

    @property
    def base_reference(self) -> str:
        """The base's folder or hub id."""
        if self.cohort.base == TOY:
            return data.located("toyworld/base")
        beside = self.folder / self.cohort.base
        return str(beside) if beside.exists() else self.cohort.base

    @property
    def clip_name(self) -> str:
        """The gate's CLIP as a record names it."""
        return self.cohort.gate.clip or (TOY if self.cohort.base == TOY else GATE_CLIP)

    @property
    def clip_reference(self) -> str:
        """The gate's CLIP: a folder, or NAME/PRETRAINED."""
        if self.cohort.gate.clip is None:
            return data.located("toyworld/clip") if self.cohort.base == TOY else GATE_CLIP
        beside = self.folder / self.cohort.gate.clip
        return str(beside) if beside.is_dir() else self.cohort.gate.clip

    @property
    def sampling(self) -> Sampling:
        """Settings of all pictures that are made."""
        return Sampling(total_steps=self.cohort.sampling_steps, guidance_scale=self.cohort.guidance_scale)

    @contextmanager
    def field(self, name: str) -> Iterator[None]:
        """Put the file and a field before the message of any refusal inside.

        Raises:
            InputError: instead of the one inside.
        """
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.path}: field {name!r}: {error}") from error


def read_cohort(path: Path) -> CohortFile:
    """Read and check a cohort file.

    Raises:
        InputError: one line naming the file and the field or line.
    """
    text = read_text(path)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError, OverflowError) as error:  # TOML's own errors are ValueErrors
        raise InputError(f"{path}: not valid TOML ({reason_of(error)}); mend that line") from error
    try:
        cohort = Cohort.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error, Cohort)}") from error
    _check_names(path, cohort)
    if cohort.token.casefold() in cohort.class_word.casefold().split():
        raise InputError(
            f"{path}: field 'token': found {shown(cohort.token)}, which the class word says already, accepted: a rare "
            "word, such as 'sks'"
        )
    return _with_templates(CohortFile(path, cohort))


def _with_templates(file: CohortFile) -> CohortFile:
    """The file with `{subject}` in all templates, where it has the subject's words."""
    cohort = file.cohort
    prompts = [_template(file, f"class.prompts.{i}", text) for i, text in enumerate(cohort.class_.prompts)]
    generated = [
        group.model_copy(update={"template": _template(file, f"cluster.generated.{i}.template", group.template)})
        for i, group in enumerate(cohort.cluster.generated)
    ]
    changed = {
        "class_": cohort.class_.model_copy(update={"prompts": prompts}),
        "cluster": cohort.cluster.model_copy(update={"generated": generated}),
    }
    return CohortFile(file.path, cohort.model_copy(update=changed))


def _template(file: CohortFile, field: str, text: str) -> str:
    with file.field(field):
        return check_template(with_subject(text, file.cohort.words))


def _check_names(path: Path, cohort: Cohort) -> None:
    """Refuse users and sources of the cluster-wide model that do not go together."""
    names = [user.name for user in cohort.users]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{path}: field 'users': found {twice!r} twice, accepted: each name once")
    unknown = next((name for name in cohort.cluster.shared or [] if name not in names), None)
    if unknown:
        raise InputError(f"{path}: field 'cluster.shared': found {unknown!r}, accepted: names of users")
    if cohort.cluster.shared == [] and not cohort.cluster.photos + cohort.cluster.generated:
        raise InputError(
            f"{path}: field 'cluster': found no pictures, accepted: shared users, photos or generated images; add some"
        )
    if CLUSTER in names:
        raise InputError(f"{path}: field 'users': found the name {CLUSTER!r}, which the cluster-wide model has")
