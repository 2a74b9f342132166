"""`cohort.toml`: whose photos make which models."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ...common.errors import InputError, shown
from ...common.files import Record, first_problem, read_text

CLUSTER = "cluster"
"""The name of the cluster-wide model."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Text = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(pattern=r"^[^{}]*\{subject\}[^{}]*$")]
Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Training(Record):
    """How every model of the cohort is trained.

    Attributes:
        method: all weights, or a LoRA.
        rank: of the LoRA.
        steps: optimizer steps per model.
        batch_size: photos per step; as many class images come on top.
        learning_rate: of the UNet; 0 for the method's default.
        text_encoder_learning_rate: 0 leaves the text encoder alone.
        prior_weight: of the class images' loss, against forgetting the class; not used for the cluster-wide model.
        caption_dropout: share of photos trained without caption, which keeps guidance working.
        average: decay of the weights' moving average; 0 for none.
        mixed_precision: of accelerate.
        gradient_checkpointing: less memory, more time.
        save_every: steps between checkpoints.
        seed: of everything random.
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

    @property
    def rate(self) -> float:
        """The UNet's learning rate."""
        return self.learning_rate or {"full": 5e-6, "lora": 1e-4}[self.method]


class Class(Record):
    """The class images that the base makes once, for prior preservation.

    Attributes:
        prompts: each in turn, `{subject}` standing for the class word.
        images: how many in all.
    """

    prompts: list[Template] = Field(default_factory=list)
    images: Annotated[int, Field(ge=0, le=100_000)] = 50


class Generated(Record):
    """Images for the cluster-wide model that the base makes from a prompt.

    Attributes:
        template: the caption that they are trained with, `{subject}` standing for the class word.
        description: what stands for `{subject}` while they are made, such as "a white corgi puppy".
        images: how many.
    """

    template: Template = "a photo of {subject}"
    description: Text
    images: Count = 8


class Cluster(Record):
    """What the cluster-wide model is trained on.

    Attributes:
        shared: users who share their photos; None for all of them.
        photos: further folders.
        generated: images that the base makes.
    """

    shared: list[Name] | None = None
    photos: list[Text] = Field(default_factory=list)
    generated: list[Generated] = Field(default_factory=list)


class User(Record):
    """A user and the folder of photos of the user's subject.

    Attributes:
        name: of the model's folder.
        photos: a folder, relative to the file.
        description: what the subject looks like, such as "a golden dog with floppy ears"; stands for `{subject}` where
            CLIP judges pictures against the prompt, as the rare token means nothing to it.
    """

    name: Name
    photos: Text
    description: Text | None = None


class Gate(Record):
    """How the result is judged.

    Attributes:
        clip: an open_clip model as NAME/PRETRAINED, or a folder; None for the toy world's, or ViT-B-32/openai.
        samples: pictures made of each model.
    """

    clip: Text | None = None
    samples: Annotated[int, Field(ge=1, le=1000)] = 8


class Cohort(Record):
    """The file.

    Attributes:
        base: what all models start from: a folder (relative to the file), a hub id, or "toyworld".
        class_word: what the subjects are; stands for the subject at the edge.
        token: the rare word that comes to mean a user's own subject; one token of the tokenizer.
        resolution: pixels of a side; None for the base's own.
        sampling_steps: denoising steps of the images that are made.
        guidance_scale: of the same.
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
    gate: Gate = Field(default_factory=Gate)
    users: Annotated[list[User], Field(min_length=1)]

    @property
    def subject(self) -> str:
        """The words for a user's own subject, such as "sks dog"."""
        return f"{self.token} {self.class_word}"


def read_cohort(path: Path) -> Cohort:
    """Read and check a cohort file.

    Raises:
        InputError: one line naming the file and the field or line.
    """
    try:
        cohort = Cohort.model_validate(tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML ({error}); mend that line") from error
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error, Cohort)}") from error
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
    if cohort.token.casefold() in cohort.class_word.casefold().split():
        raise InputError(
            f"{path}: field 'token': found {shown(cohort.token)}, which the class word says already, accepted: a rare "
            "word, such as 'sks'"
        )
    return cohort
