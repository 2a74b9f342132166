"""The measurement of `pai-sweep`, paper section 3.4.2, block by block.

For every group (one prompt, one seed) the edge runs once, every user's model finishes from the same intermediates, and
CLIP and LPIPS judge the pictures.
"""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from .. import data
from ..common.capacity import largest_batch
from ..common.errors import InputError, shown
from ..diffusion.inference.batch import StepCount, denoise, intermediates
from ..diffusion.inference.families.base import Model
from ..diffusion.inference.gpu import free_memory, gpu_memory, out_of_memory
from ..diffusion.inference.in_flight import NotFiniteError
from ..diffusion.inference.models import load_model, paired, weights_digest
from ..diffusion.inference.noise import initial_noise
from ..diffusion.inference.pictures import as_pil
from ..diffusion.inference.threads import fastest_threads
from .clip import Clip, load_clip, similarity
from .lpips import Lpips, load_lpips
from .prompts import described
from .settings import BLOCK, Block, Group, SweepSettings, chunks

HEADROOM = 0.8
"""Share that is used of the largest batch that fits: other programs and fragments take memory as well."""
LPIPS_AT_ONCE = 12
"""Pictures whose LPIPS features are held at once; those of VGG are large."""


TRIAL_PIXELS = 2048
"""Latent pixels of all pictures of a step whose threads are chosen: fourteen of the toy world, or one of SD."""


def uncounted(pictures: int) -> None:
    """Count no steps."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPicture:
    """One finished picture and what the metrics say of it.

    Attributes:
        prompt: number of the prompt.
        seed: seed of the initial noise.
        local_steps: n.
        user: name of the user whose model finished it.
        clip: similarity of the picture and the user's described prompt.
        lpips: mean LPIPS to the other users' pictures of the same group and split; its mean over the users is
            LPIPS-bar, see `pai.lpips_bar`.
        png: the picture, as the bytes of a PNG file.
    """

    prompt: int
    seed: int
    local_steps: int
    user: str
    clip: float
    lpips: float
    png: bytes


@dataclass(frozen=True)
class FinishedPictures:
    """All users' pictures of a block at one split.

    Attributes:
        images: the different pictures, shape (pictures, 3, height, width).
        numbers: for each user and each group the picture's number in `images`, shape (users, groups).
    """

    images: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class SweepModels:
    """The loaded models and metrics of a sweep, ready to measure blocks.

    Attributes:
        settings: settings of the sweep.
        edge: cluster-wide model.
        personal: user -> personal model.
        clip: CLIP model, which compares pictures with prompts.
        lpips: LPIPS network, which compares pictures with each other.
        decoders: user -> fingerprint of the decoder; equal decoders make equal pictures of equal latents.
        count: function that is called after every step of a UNet with the number of pictures in it.
    """

    settings: SweepSettings
    edge: Model
    personal: Mapping[str, Model]
    clip: Clip
    lpips: Lpips
    decoders: Mapping[str, str]
    count: StepCount = field(default=uncounted)

    def measure(self, block: Block) -> list[MeasuredPicture]:
        """Measure a block: one picture for every user, split and group.

        Raises:
            InputError: where a GPU's memory does not suffice.
        """
        remedy = "free some and repeat, or give a smaller --batch (where results are kept already, with another -o)"
        with gpu_memory(f"passes of {self.settings.batch} pictures", remedy):
            return self.rows(block)

    def rows(self, block: Block) -> list[MeasuredPicture]:
        """What `measure` returns; where memory does not suffice, with torch's own error."""
        settings = self.settings
        prompts, seeds = [self.edge.prompt(settings.templates[p]) for p, _ in block], [seed for _, seed in block]
        places = {(i, n): (None, group) for i, group in enumerate(block) for n in settings.splits}
        with self._named("the cluster-wide model", places):
            kept = intermediates(self.edge, prompts, seeds, settings.splits, settings.sampling, self.count)
        latents = {name: self._finish(name, kept, block) for name in self.personal}
        rows: list[MeasuredPicture] = []
        for split in settings.splits:
            finished = self._decode(split, block, {name: of_user[split] for name, of_user in latents.items()})
            rows += self._judge(split, block, finished)
        return rows

    def _finish(self, name: str, kept: Mapping[int, Tensor], block: Block) -> dict[int, Tensor]:
        """x_0 of every split on one user's model; several splits share a pass as far as the batch allows."""
        settings, model = self.settings, self.personal[name]
        hand_offs = [(n, i) for n in settings.splits if n > 0 for i in range(len(block))]
        prompts = [model.prompt(settings.templates[p]) for p, _ in block]
        done: dict[tuple[int, int], Tensor] = {(0, i): x for i, x in enumerate(kept.get(0, ()))}
        for part in chunks(hand_offs, settings.batch):
            x = torch.stack([kept[n][i] for n, i in part])
            steps, texts, noise = [n for n, _ in part], [prompts[i] for _, i in part], [block[i][1] for _, i in part]
            with self._named(f"user {name!r}", dict(enumerate((n, block[i]) for n, i in part))):
                finished = denoise(model, x, texts, steps, 0, settings.sampling, noise, self.count)
            done |= dict(zip(part, finished, strict=True))
        return {n: torch.stack([done[n, i] for i in range(len(block))]) for n in settings.splits}

    def _decode(self, split: int, block: Block, latents: Mapping[str, Tensor]) -> FinishedPictures:
        """Pictures of all users; at n = 0 the latents are shared, and all users with one decoder have one picture."""
        images: list[Tensor] = []
        first: dict[str, int] = {}
        numbers = []
        for name, x in latents.items():
            key = self.decoders[name] if split == 0 else name
            if key not in first:
                first[key] = sum(map(len, images))
                images.append(self._pictures(name, x, split, block))
            numbers.append([first[key] + i for i in range(len(x))])
        return FinishedPictures(torch.cat(images), torch.tensor(numbers))

    def _pictures(self, name: str, latents: Tensor, split: int, block: Block) -> Tensor:
        """One user's pictures of a block at one split.

        Raises:
            InputError: for a picture that is not finite, naming it.
        """
        model = self.personal[name]
        try:
            return torch.cat([model.decode(part).cpu() for part in latents.split(self.settings.batch)])
        except InputError as error:
            first = next((i for i, x in enumerate(latents) if not _can_decode(model, x)), 0)
            place = self._place(f"user {name!r}", split, block[first])
            raise InputError(f"{place}: {error}") from error

    def _judge(self, split: int, block: Block, finished: FinishedPictures) -> Iterator[MeasuredPicture]:
        seen = self.clip.image_features(finished.images)
        distance = self._distances(finished)
        png = [_png(image) for image in finished.images]
        for u, name in enumerate(self.settings.users):
            texts = [described(self.settings.templates[p], self.settings.descriptions[name]) for p, _ in block]
            clip = similarity(seen[finished.numbers[u]], self.clip.text_features(texts))
            for i, (prompt, seed) in enumerate(block):
                row = MeasuredPicture(
                    prompt=prompt,
                    seed=seed,
                    local_steps=split,
                    user=name,
                    clip=float(clip[i]),
                    lpips=float(distance[u, i]),
                    png=png[int(finished.numbers[u, i])],
                )
                self._check_scores(row)
                yield row

    def _check_scores(self, row: MeasuredPicture) -> None:
        """Refuse NaN and infinity of a metric, whose weights must then be damaged."""
        for metric, reference, score in (
            ("CLIP", self.settings.clip, row.clip),
            ("LPIPS", self.settings.lpips, row.lpips),
        ):
            if not math.isfinite(score):
                where = self._place(f"user {row.user!r}", row.local_steps, (row.prompt, row.seed))
                raise InputError(f"{where}: {metric} {reference} gave {score}; its weights may be damaged")

    @contextmanager
    def _named(self, whose: str, places: Mapping[Any, tuple[int | None, Group]]) -> Iterator[None]:
        """Name the picture whose latents stopped being finite.

        Args:
            whose: words for the model that runs the steps.
            places: image -> its split, if it has one, and its group.
        """
        try:
            yield
        except NotFiniteError as error:
            raise InputError(f"{self._place(whose, *places[error.image])}: {error}") from error

    def _place(self, whose: str, split: int | None, group: Group) -> str:
        prompt, seed = group
        at = "" if split is None else f", n = {split}"
        return f"{whose}{at}, prompt {shown(self.settings.templates[prompt])}, seed {seed}"

    def _distances(self, finished: FinishedPictures) -> Tensor:
        """Mean LPIPS of each user's picture to those of the other users, shape (users, groups)."""
        users, groups = finished.numbers.shape
        total = torch.zeros(users, groups, dtype=torch.float64)
        for part in chunks(range(groups), max(1, LPIPS_AT_ONCE // users)):
            features = self.lpips.features(finished.images[finished.numbers[:, part].flatten()])
            for u, v in combinations(range(users), 2):
                pairs = [(u * len(part) + i, v * len(part) + i) for i in range(len(part))]
                between = self.lpips.distances(features, pairs)
                total[u, part] += between
                total[v, part] += between
        return total / (users - 1)


def load_sweep_models(settings: SweepSettings, device: str, count: StepCount = uncounted) -> SweepModels:
    """Load everything that a sweep needs, and check that it fits together.

    Args:
        settings: settings of the sweep.
        device: device to load it onto, such as "cpu" or "cuda:0".
        count: function that is called after every step of a UNet with the number of pictures in it.

    Raises:
        InputError: one line, for models that cannot be had, cannot hand off or do not fit into a GPU's memory.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with gpu_memory("the models", "free some, or try --dtype fp16"):
        edge, *others = (_load(settings, device, name) for name in (None, *settings.users))
        edge, others = paired(edge, others, settings.sampling)
        personal = dict(zip(settings.users, others, strict=True))
        clip = load_clip(data.located(settings.clip), device, settings.long_prompts)
        decoders = {name: weights_digest(model.vae) for name, model in personal.items()}
        models = SweepModels(settings, edge, personal, clip, load_lpips(settings.lpips, device), decoders, count)
    check_texts(models)
    return models


def _load(settings: SweepSettings, device: str, user: str | None) -> Model:
    """A user's model; without a user, the cluster-wide one."""
    reference = settings.users[user] if user else settings.cluster
    words = settings.words[user] if user else settings.class_word
    try:
        return load_model(data.located(reference), subject=words, dtype=settings.dtype, device=device)
    except InputError as error:
        raise InputError(f"user {user!r}: {error}" if user else f"the cluster-wide model: {error}") from error


def check_texts(models: SweepModels) -> None:
    """Refuse prompts that one of the models or CLIP cannot read whole, before any step runs.

    Raises:
        InputError: naming the prompt.
    """
    for template in models.settings.templates:
        for model in (models.edge, *models.personal.values()):
            model.check_prompts([model.prompt(template)])
        models.clip.text_features([described(template, text) for text in models.settings.descriptions.values()])


def fastest_cpu_threads(models: SweepModels) -> int:
    """The number of CPU threads with which a step of the cluster-wide model is fastest; torch then uses it."""
    edge, settings = models.edge, models.settings
    pictures = max(1, TRIAL_PIXELS // math.prod(edge.latent_shape[1:]))
    seeds, steps = list(range(pictures)), settings.total_steps
    prompts = [edge.prompt(settings.templates[0])] * pictures
    noise = initial_noise(edge, seeds, settings.sampling)
    return fastest_threads(
        lambda: denoise(edge, noise, prompts, steps, steps - 1, settings.sampling, seeds), "pai-sweep"
    )


def automatic_batch(models: SweepModels) -> int:
    """The largest batch that fits into a GPU's memory beside the models, less some headroom, and at most a block.

    Raises:
        InputError: where not even one picture fits.
    """
    largest = largest_batch(_batch_trial(models), int(BLOCK / HEADROOM))
    if not largest:
        raise InputError("--batch: not even one picture fits into the GPU's memory; free some, or try --dtype fp16")
    return max(1, int(HEADROOM * largest))


def _batch_trial(models: SweepModels) -> Callable[[int], bool]:
    """A function that says whether a batch fits: it tries a step on every model, the decoders and the metrics."""
    prompt = models.settings.templates[:1]

    def fits(batch: int) -> bool:
        trial = replace(models.settings, templates=prompt, seeds=batch, total_steps=1, splits=[0, 1], batch=batch)
        try:
            replace(models, settings=trial).rows(trial.groups)
            return True
        except RuntimeError as error:
            if batch == 1 and not out_of_memory(error):  # an error that only larger batches raise is a matter of size
                raise
            return False
        finally:
            free_memory()

    return fits


def _can_decode(model: Model, latents: Tensor) -> bool:
    """Whether the picture of the latents of one sample is finite."""
    try:
        model.decode(latents[None])
        return True
    except InputError:
        return False


def _png(image: Tensor) -> bytes:
    buffer = io.BytesIO()
    as_pil(image).save(buffer, format="PNG")
    return buffer.getvalue()
