"""The settings of a sweep, and the units that it is measured in.

A *group* is one prompt with one seed: its pictures all begin with the same noise. Groups are measured in *blocks*,
several at a time; which groups share a block follows from the settings alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from ..diffusion.inference.sampling import Sampling

BACKBONES = ("alex", "vgg", "squeeze", "toyworld")
"""The backbones that LPIPS may have."""
REAL_CLIP = "ViT-L-14/openai"
"""The CLIP that judges pictures of real models."""
ENGINES = ("local", "ray")
"""Where blocks may be measured."""
T = TypeVar("T")
Group = tuple[int, int]
"""Number of the prompt, and the seed."""
Block = list[Group]
BLOCK = 64
"""Most pictures of one user that are measured together: a UNet is no faster with more, and a kill then costs little."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """All that decides the measurements; two runs with equal settings measure the same.

    Attributes:
        cluster: reference of the cluster-wide model.
        users: user -> reference of the personal model.
        words: user -> words that stand for the subject on the user's own model, such as "sks dog".
        descriptions: user -> what the user's subject looks like; CLIP compares pictures with it.
        weights: model or metric -> fingerprint of the files behind its reference.
        class_word: word that stands for the subject at the edge.
        templates: prompts with `{subject}`.
        seeds: number of initial noises per prompt; they have the seeds 0 to seeds - 1.
        splits: local steps n of every split, ascending.
        total_steps: N.
        guidance_scale: scale of classifier-free guidance; 1 for no guidance.
        scheduler: name of the scheduler, one of `sampling.SCHEDULERS`.
        dtype: number format of the models.
        clip: reference of the CLIP model.
        lpips: backbone of LPIPS.
        long_prompts: what CLIP does with texts that it cannot read whole.
        device: kind of device, "cpu" or "cuda"; empty until it is known. On one kind of machine equal settings give
            equal rows; on GPUs they are equal but for rounding.
        threads: number of torch's threads on a CPU, which the order of a sum's terms depends on; 0 until it is known.
        batch: most pictures in one pass of a UNet; 0 until it is known.
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
    clip: str
    lpips: str
    long_prompts: Literal["refuse", "window"]
    device: str = ""
    threads: int = 0
    batch: int = 0

    @property
    def sampling(self) -> Sampling:
        """The sampling that edge and devices share."""
        return Sampling(total_steps=self.total_steps, guidance_scale=self.guidance_scale, scheduler=self.scheduler)

    @property
    def groups(self) -> list[Group]:
        """Every prompt with every seed, prompt by prompt."""
        return [(prompt, seed) for prompt in range(len(self.templates)) for seed in range(self.seeds)]

    @property
    def blocks(self) -> list[Block]:
        """The groups that are measured together, and again after a kill: as many as one batch can finish."""
        local = sum(n > 0 for n in self.splits)
        return chunks(self.groups, max(1, min(self.batch, BLOCK) // local))

    @property
    def group_steps(self) -> int:
        """Steps of single pictures that a group takes: N - min n at the edge, and the sum of all n on each device."""
        return self.total_steps - min(self.splits) + len(self.users) * sum(self.splits)

    @property
    def group_pictures(self) -> int:
        """Number of pictures of a group."""
        return len(self.users) * len(self.splits)


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """The items in lists of this size, the last one shorter."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
