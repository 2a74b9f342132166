"""What all models of a cohort share, loaded and checked before anything is trained."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ...common.errors import InputError, shown
from ...common.files import make_folder
from ...common.progress import Progress
from ..inference.clip_images import ImageEncoder, load_image_encoder
from ..inference.families.base import CLIP_TOKENS, Model
from ..inference.models import load_model, weights_digest
from ..inference.sampling import Sampling
from ..inference.templates import PLAIN, fill
from .cohort import Cohort, CohortFile
from .loop import check_processes, make_accelerator
from .photos import Photos, read_photos

STATE = ".state"
"""Folder in the output for the checkpoints of models in training."""
ProgressMaker = Callable[[str, float, str], AbstractContextManager[Progress]]
"""Makes the progress bar of a piece of work from its name, its total and the total's unit."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cohort and what all its models share.

    Attributes:
        file: the cohort file.
        output: folder for the models.
        device: device to train on, such as "cpu" or "cuda:0".
        progress: maker of progress bars.
        base: the model that all models start from.
        base_digest: digest of all weights of the base.
        photos: user -> photos of the user's subject.
        further: photos of every folder in `cluster.photos`.
        encoder: image encoder of the gate.
        features: user -> features of the user's photos, shape (photos, width).
    """

    file: CohortFile
    output: Path
    device: str
    progress: ProgressMaker
    base: Model
    base_digest: str
    photos: dict[str, Photos]
    further: list[Photos]
    encoder: ImageEncoder
    features: dict[str, Tensor]

    @property
    def cohort(self) -> Cohort:
        """What the cohort file says."""
        return self.file.cohort

    @property
    def sampling(self) -> Sampling:
        """Settings of all pictures that are made."""
        return sampling_of(self.file, self.base)

    @property
    def scheduler_digest(self) -> str:
        """A digest of the options of the base's scheduler that decide its pictures, and its training."""
        return self.sampling.fingerprint(self.base.scheduler_config)

    @property
    def side(self) -> int:
        """Side of the pictures, in pixels."""
        return _side(self.file, self.base)


def prepare_job(file: CohortFile, output: Path, device: str, progress: ProgressMaker) -> Job:
    """Load and check everything, then make the output's folder.

    Args:
        file: the cohort file.
        output: folder for the models.
        device: device to train on, such as "cpu" or "cuda:0".
        progress: maker of progress bars.

    Raises:
        InputError: one line naming the file and the field.
    """
    check_processes()
    cohort = file.cohort
    with file.field("training.mixed_precision"):
        make_accelerator(device, cohort.training.mixed_precision)
    with file.field("base"):
        base = load_model(file.base_reference, subject=cohort.class_word, device=device)
    _check_words(file, base)
    photos = {u.name: _photos(file, base, f"users.{i}.photos", u.photos) for i, u in enumerate(cohort.users)}
    further = [_photos(file, base, f"cluster.photos.{i}", folder) for i, folder in enumerate(cohort.cluster.photos)]
    with file.field("gate.clip"):
        encoder = load_image_encoder(file.clip_reference, device)
    job = Job(
        file=file,
        output=output,
        device=device,
        progress=progress,
        base=base,
        base_digest=weights_digest(base.network, *base.text_encoders.values(), base.vae),
        photos=photos,
        further=further,
        encoder=encoder,
        features={name: encoder.features((own.images + 1) / 2) for name, own in photos.items()},
    )
    make_folder(output / STATE)
    return job


def sampling_of(file: CohortFile, base: Model) -> Sampling:
    """How pictures are made while a cohort is trained: as the file says, with the base's usual scheduler."""
    return replace(file.sampling, scheduler=base.SCHEDULERS[0])


def _check_words(file: CohortFile, base: Model) -> None:
    """Check that the base can read every prompt that is drawn or trained with, and reads the token as one."""
    cohort = file.cohort
    with file.field("sampling_steps"):
        sampling_of(file, base).make_scheduler(base.scheduler_config)
    with file.field("training.text_encoder_learning_rate"):
        if cohort.training.text_encoder_learning_rate and len(base.text_encoders) > 1:
            raise InputError(f"found a rate, accepted for {base.KIND}: 0, as its text encoders stay as they are")
    with file.field("class_word"):
        base.check_prompts([cohort.class_word])
    with file.field("token"):
        _check_token(base, cohort.token)
    with file.field("class.prompts"):
        _check_prompts(base, cohort.class_.prompts or [PLAIN], cohort.class_word)
    for i, generated in enumerate(cohort.cluster.generated):
        with file.field(f"cluster.generated.{i}"):
            _check_prompts(base, [generated.template], cohort.class_word, generated.description)


def _check_token(base: Model, token: str) -> None:
    """Refuse a token that a CLIP reads as several; a T5 reads words in pieces."""
    clips = [base.parts[name] for name, part in base.PARTS.items() if part == CLIP_TOKENS]
    for tokenizer in clips:
        ids = tokenizer(token).input_ids[1:-1]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise InputError(
                f"field 'token': found {shown(token)}, which {base.name} reads as {len(ids)} tokens, accepted: a word "
                "that is one token, such as 'sks'"
            )


def _photos(file: CohortFile, base: Model, name: str, folder: str) -> Photos:
    """The photos of a folder that a field of the cohort file names, with captions that the base can read."""
    with file.field(name):
        photos = read_photos(file.folder / folder, _side(file, base), file.cohort.words)
        _check_prompts(base, photos.templates, file.cohort.class_word, file.cohort.subject)
    return photos


def _check_prompts(base: Model, templates: Sequence[str], *subjects: str) -> None:
    base.check_prompts([fill(template, words) for template in templates for words in subjects])


def _side(file: CohortFile, base: Model) -> int:
    return file.cohort.resolution or base.picture_side
