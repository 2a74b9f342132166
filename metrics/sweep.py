"""The measurement of `pai-sweep`, paper section 3.4.2: one edge pass per (prompt, seed), every user's finish, metrics.

A cluster is one (prompt, seed): the pictures that come from one initial noise, so that they are not independent of each
other. Clusters are measured in blocks; which clusters share a batch follows from the settings alone.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, TypeVar

import torch
from torch import Tensor

from .. import data
from ..common.capacity import largest_batch
from ..common.errors import InputError
from ..diffusion.inference.gpu import free_memory, gpu_memory, out_of_memory
from ..diffusion.inference.hybrid import denoise, intermediates
from ..diffusion.inference.models import Model, check_pair, load_model, weights_digest
from ..diffusion.inference.sampling import Sampling
from ..diffusion.train.photos import as_pil
from .clip import Clip, load_clip
from .lpips import Lpips, load_lpips
from .prompts import described

T = TypeVar("T")
Cluster = tuple[int, int]
"""Number of the prompt, seed."""
Block = list[Cluster]
StepCount = Callable[[int], None]
BLOCK = 64
"""Pictures of one user that are measured together: where a UNet is no faster with more, and a kill costs little."""
HEADROOM = 0.8
"""Share of the largest batch that fits which is used: other programs and fragments take memory as well."""
LPIPS_AT_ONCE = 12
"""Pictures whose LPIPS features are held at once; those of VGG are large."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """All that decides the measurements; two runs with equal settings measure the same.

    Attributes:
        cluster: reference of the cluster-wide model.
        users: name -> reference of the personal model.
        words: name -> what stands for the subject on the user's own model, such as "sks dog".
        descriptions: name -> what the user's subject looks like, which CLIP compares pictures with.
        weights: of each model and metric, a fingerprint of the files behind its reference.
        class_word: stands for the subject at the edge.
        templates: prompts with `{subject}`.
        seeds: how many initial noises per prompt, 0 to seeds - 1.
        splits: local steps n, ascending.
        total_steps: N.
        guidance_scale: 1 for none.
        scheduler: a key of `sampling.SCHEDULERS`.
        dtype: of the models.
        device: "cpu" or "cuda"; the kind only: on one kind of machine equal settings give equal rows,
            on GPUs but for rounding.
        threads: of torch on a CPU, as the order of a sum's terms depends on them.
        batch: most pictures in one pass of a UNet; 0 until it is known.
        clip: reference of the CLIP.
        lpips: backbone.
        long_prompts: what CLIP does with texts that it cannot read whole.
    """

    cluster: str
    users: dict[str, str]
    words: dict[str, str]
    descriptions: dict[str, str]
    weights: dict[str, str]
    class_word: str
    templates: list[str]
    seeds: int
    splits: list[int]
    total_steps: int
    guidance_scale: float
    scheduler: str
    dtype: str
    device: str
    threads: int
    batch: int
    clip: str
    lpips: str
    long_prompts: Literal["refuse", "window"]

    @property
    def sampling(self) -> Sampling:
        """Shared by edge and devices."""
        return Sampling(total_steps=self.total_steps, guidance_scale=self.guidance_scale, scheduler=self.scheduler)

    @property
    def clusters(self) -> list[Cluster]:
        """Every (prompt, seed), prompt by prompt."""
        return [(prompt, seed) for prompt in range(len(self.templates)) for seed in range(self.seeds)]

    @property
    def blocks(self) -> list[Block]:
        """The clusters that are measured together, and again after a kill: as many as one batch can finish."""
        local = sum(n > 0 for n in self.splits)
        return chunks(self.clusters, max(1, min(self.batch, BLOCK) // local))

    @property
    def cluster_steps(self) -> int:
        """Sample-steps of a cluster: (N - min n) at the edge and the sum of all n on each device."""
        return self.total_steps - min(self.splits) + len(self.users) * sum(self.splits)

    @property
    def pictures(self) -> int:
        """How many there will be."""
        return len(self.clusters) * len(self.users) * len(self.splits)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One finished picture.

    Attributes:
        prompt: number of the prompt.
        seed: of the initial noise.
        local_steps: n.
        user: name.
        clip: similarity of the picture and the user's described prompt.
        lpips: mean distance to the other users' pictures of the same cluster and split; its mean over the users is
            LPIPS-bar.
        png: the picture.
    """

    prompt: int
    seed: int
    local_steps: int
    user: str
    clip: float
    lpips: float
    png: bytes


@dataclass(frozen=True)
class Finished:
    """All users' pictures of a block at one split.

    Attributes:
        images: different ones, shape (pictures, 3, height, width).
        of: for each user the picture of each cluster: indices into images, shape (users, clusters).
    """

    images: Tensor
    of: Tensor


@dataclass(frozen=True)
class Bench:
    """Loaded models and metrics, ready to measure blocks.

    Attributes:
        settings: of the sweep.
        edge: the cluster-wide model.
        personal: name -> the user's model.
        clip: of pictures and prompts.
        lpips: of pairs of pictures.
        decoders: name -> fingerprint of the user's decoder: equal ones make equal pictures of equal latents.
        count: called after every step of a UNet with the number of pictures in it.
    """

    settings: SweepSettings
    edge: Model
    personal: Mapping[str, Model]
    clip: Clip
    lpips: Lpips
    decoders: Mapping[str, str]
    count: StepCount = field(default=lambda _: None)

    def measure(self, block: Block) -> list[Measurement]:
        """Measure a block: users x splits x clusters pictures.

        Raises:
            InputError: where a GPU's memory does not suffice.
        """
        remedy = "free some and repeat, or give a smaller --batch (where results are kept already, with another -o)"
        with gpu_memory(f"passes of {self.settings.batch} pictures", remedy):
            return self.rows(block)

    def rows(self, block: Block) -> list[Measurement]:
        """The same, whatever the memory."""
        settings = self.settings
        templates, seeds = [settings.templates[p] for p, _ in block], [seed for _, seed in block]
        prompts = [self.edge.prompt(template) for template in templates]
        kept = intermediates(self.edge, prompts, seeds, settings.splits, settings.sampling, self.count)
        latents = {name: self._finish(model, kept, templates, seeds) for name, model in self.personal.items()}
        rows: list[Measurement] = []
        for split in settings.splits:
            finished = self._decode({name: of_user[split] for name, of_user in latents.items()}, shared=split == 0)
            rows += self._judge(split, block, finished)
        return rows

    def _finish(
        self, model: Model, kept: Mapping[int, Tensor], templates: Sequence[str], seeds: Sequence[int]
    ) -> dict[int, Tensor]:
        """x_0 of every split on one user's model; later splits join the same pass, as far as the batch allows."""
        clusters = len(templates)
        hand_offs = [(n, i) for n in self.settings.splits if n > 0 for i in range(clusters)]
        prompts = [model.prompt(template) for template in templates]
        done: dict[tuple[int, int], Tensor] = {(0, i): x for i, x in enumerate(kept.get(0, ()))}
        for part in chunks(hand_offs, self.settings.batch):
            x = torch.stack([kept[n][i] for n, i in part])
            steps, texts, noise = [n for n, _ in part], [prompts[i] for _, i in part], [seeds[i] for _, i in part]
            finished = denoise(model, x, texts, steps, 0, self.settings.sampling, noise, self.count)
            done |= dict(zip(part, finished, strict=True))
        return {n: torch.stack([done[n, i] for i in range(clusters)]) for n in self.settings.splits}

    def _decode(self, latents: Mapping[str, Tensor], shared: bool) -> Finished:
        """Pictures of all users; shared latents are decoded once for all users with the same decoder."""
        images: list[Tensor] = []
        first: dict[str, int] = {}
        of = []
        for name, x in latents.items():
            key = self.decoders[name] if shared else name
            if key not in first:
                first[key] = sum(map(len, images))
                images.append(self._pictures(self.personal[name], x))
            of.append([first[key] + i for i in range(len(x))])
        return Finished(torch.cat(images), torch.tensor(of))

    def _pictures(self, model: Model, latents: Tensor) -> Tensor:
        return torch.cat([model.decode(part).cpu() for part in latents.split(self.settings.batch)])

    def _judge(self, split: int, block: Block, finished: Finished) -> Iterator[Measurement]:
        seen = self.clip.image_features(finished.images)
        distance = self._distances(finished)
        png = [_png(image) for image in finished.images]
        for u, name in enumerate(self.settings.users):
            texts = [described(self.settings.templates[p], self.settings.descriptions[name]) for p, _ in block]
            clip = (seen[finished.of[u]] * self.clip.text_features(texts)).sum(dim=1)
            for i, (prompt, seed) in enumerate(block):
                yield Measurement(
                    prompt=prompt,
                    seed=seed,
                    local_steps=split,
                    user=name,
                    clip=float(clip[i]),
                    lpips=float(distance[u, i]),
                    png=png[int(finished.of[u, i])],
                )

    def _distances(self, finished: Finished) -> Tensor:
        """Mean LPIPS of each user's picture to the others', shape (users, clusters)."""
        users, clusters = finished.of.shape
        total = torch.zeros(users, clusters, dtype=torch.float64)
        for part in chunks(range(clusters), max(1, LPIPS_AT_ONCE // users)):
            features = self.lpips.features(finished.images[finished.of[:, part].flatten()])
            for u, v in combinations(range(users), 2):
                pairs = [(u * len(part) + i, v * len(part) + i) for i in range(len(part))]
                between = self.lpips.distances(features, pairs)
                total[u, part] += between
                total[v, part] += between
        return total / (users - 1)


def load_bench(settings: SweepSettings, device: str, count: StepCount = lambda _: None) -> Bench:
    """Load everything that a sweep needs, and check that it fits together.

    Raises:
        InputError: one line, for models that cannot be had, cannot hand off or do not fit into a GPU's memory.
    """
    torch.set_num_threads(settings.threads)
    with gpu_memory("the models", "free some, or try --dtype fp16"):
        edge, *others = (_load(settings, device, name) for name in (None, *settings.users))
        personal = dict(zip(settings.users, others, strict=True))
        for model in others:
            check_pair(edge, model, settings.sampling)
        clip = load_clip(data.located(settings.clip), device, settings.long_prompts)
        decoders = {name: weights_digest(model.vae) for name, model in personal.items()}
        bench = Bench(settings, edge, personal, clip, load_lpips(settings.lpips, device), decoders, count)
    check_texts(bench)
    return bench


def _load(settings: SweepSettings, device: str, user: str | None) -> Model:
    """A user's model, or the cluster-wide one."""
    reference = settings.users[user] if user else settings.cluster
    words = settings.words[user] if user else settings.class_word
    return load_model(data.located(reference), subject=words, dtype=settings.dtype, device=device)


def check_texts(bench: Bench) -> None:
    """Refuse prompts that one of the models or CLIP cannot read whole, before any step runs.

    Raises:
        InputError: naming the prompt.
    """
    for template in bench.settings.templates:
        for model in (bench.edge, *bench.personal.values()):
            model.tokens([model.prompt(template)])
        bench.clip.text_features([described(template, text) for text in bench.settings.descriptions.values()])


def automatic_batch(bench: Bench) -> int:
    """The largest batch that fits into a GPU's memory beside all that is loaded, less some headroom, up to a block.

    Raises:
        InputError: where not even one picture fits.
    """

    def fits(batch: int) -> bool:
        """Try one step on every model, then the decoders and metrics, all with pictures of one prompt."""
        prompt = bench.settings.templates[:1]
        one = replace(bench.settings, templates=prompt, seeds=batch, total_steps=1, splits=[0, 1], batch=batch)
        try:
            replace(bench, settings=one).rows(one.clusters)
            return True
        except RuntimeError as error:
            if batch == 1 and not out_of_memory(error):  # what fails with more only is a matter of size
                raise
            return False
        finally:
            free_memory()

    found = largest_batch(fits, int(BLOCK / HEADROOM))
    if not found:
        raise InputError("--batch: not even one picture fits into the GPU's memory; free some, or try --dtype fp16")
    return max(1, int(HEADROOM * found))


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """The items in lists of this size, the last one shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _png(image: Tensor) -> bytes:
    buffer = io.BytesIO()
    as_pil(image).save(buffer, format="PNG")
    return buffer.getvalue()
