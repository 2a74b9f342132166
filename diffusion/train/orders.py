"""Which models a cohort needs, and the pictures that each is trained on: photos, and images that the base makes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path

from ...common.files import make_folder, whole_file
from ..inference.batch import generate
from ..inference.pictures import save_image
from ..inference.templates import PLAIN, fill
from .cohort import CLUSTER, User
from .dreambooth import Examples, encode
from .job import Job
from .photos import Photos, read_photos
from .records import digest, photos_digest

USERS = "users"
"""Folder in the output for the users' models."""
AT_ONCE = 8
"""Number of pictures that the base makes in one batch."""


@dataclass(frozen=True)
class Prior:
    """The class images.

    Attributes:
        digest: digest of the pictures and their captions.
        examples: function that returns their latents, which it encodes on the first call.
    """

    digest: str
    examples: Callable[[], Examples]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A model to make.

    Attributes:
        name: name of the user, or "cluster".
        folder: folder for the model.
        photos: pictures to train it on.
        subject: words that come to mean what the pictures show.
        prior: class images to train it on beside them; None for none.
        user: the user whose model it is; None for the cluster-wide model.
    """

    name: str
    folder: Path
    photos: Photos
    subject: str
    prior: Prior | None = None
    user: User | None = None


def make_orders(job: Job) -> Iterator[Order]:
    """The cluster-wide model, then every user's; pictures that the base has to make for them are made first."""
    cohort, prior = job.cohort, _prior(job)
    yield Order(name=CLUSTER, folder=job.output / CLUSTER, photos=_cluster_photos(job), subject=cohort.class_word)
    for user in cohort.users:
        yield Order(
            name=user.name,
            folder=job.output / USERS / user.name,
            photos=job.photos[user.name],
            subject=cohort.subject,
            prior=prior,
            user=user,
        )


def _prior(job: Job) -> Prior | None:
    photos = _class_images(job)
    if photos is None:
        return None
    return Prior(photos_digest(photos), cache(lambda: encode(job.base, photos, job.cohort.class_word)))


def _class_images(job: Job) -> Photos | None:
    """The class images, which all users' models share; None where they are not used."""
    section = job.cohort.class_
    if not section.images or not job.cohort.training.prior_weight:
        return None
    templates = section.prompts or [PLAIN]
    return _made_images(job, "class", [templates[i % len(templates)] for i in range(section.images)], None)


def _cluster_photos(job: Job) -> Photos:
    """The pictures for the cluster-wide model: shared photos, further folders, images that the base makes."""
    cluster = job.cohort.cluster
    names = cluster.shared if cluster.shared is not None else list(job.photos)
    parts = [job.photos[name] for name in names] + job.further
    for number, generated in enumerate(cluster.generated):
        templates = [generated.template] * generated.images
        parts.append(_made_images(job, f"generated-{number}", templates, generated.description))
    return reduce(Photos.__add__, parts)


def _made_images(job: Job, name: str, templates: Sequence[str], description: str | None) -> Photos:
    """One picture by the base per template; number i has seed i.

    They are kept in the output, in a folder named after all that decides them, so that they are made once.
    """
    words = description or job.base.subject
    sampling = [job.cohort.sampling_steps, job.cohort.guidance_scale, job.scheduler_digest]
    settings = [list(templates), words, job.base_digest, *sampling]
    folder = job.output / "images" / f"{name}-{digest(settings)}"
    make_folder(folder)
    missing = [i for i in range(len(templates)) if not (folder / f"{i:05d}.png").exists()]
    with job.progress(f"{name} images", len(templates), "pictures") as progress:
        for start in range(0, len(missing), AT_ONCE):
            numbers = missing[start : start + AT_ONCE]
            prompts = [fill(templates[i], words) for i in numbers]
            for i, image in zip(numbers, generate(job.base, prompts, numbers, job.sampling), strict=True):
                with whole_file(folder / f"{i:05d}.txt") as handle:
                    handle.write(templates[i] + "\n")
                save_image(folder / f"{i:05d}.png", image)
            progress(len(templates) - len(missing) + start + len(numbers))
    return read_photos(folder, job.side)
