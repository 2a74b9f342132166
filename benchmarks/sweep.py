"""A sweep over splits against a plain loop of diffusers pipelines, `lpips` per pair and open_clip per picture.

`python benchmarks/sweep.py`: both make the same pictures of the toy world from the same models and seeds, one after the
other. Prints seconds, sample-steps (one picture, one step), their ratio, and how far the scores of the two are apart.
"""

import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn import functional
from torchvision.transforms.functional import to_pil_image

from edgesplit import data
from edgesplit.common.tables import plain_table
from edgesplit.diffusion.inference.references import read_settings
from edgesplit.metrics.lpips import TOY_SIDE, load_lpips
from edgesplit.metrics.prompts import described
from edgesplit.metrics.settings import SweepSettings
from edgesplit.metrics.sweep import load_sweep_models

TOY = data.FOLDER / "toyworld"
USERS = ("anna", "ben", "cleo")
Key = tuple[int, int, str]
SETTINGS = SweepSettings(
    cluster="toyworld/cluster",
    users={name: f"toyworld/users/{name}" for name in USERS},
    words=dict.fromkeys(USERS, "sks dog"),
    descriptions={name: read_settings(TOY / "users" / name)["description"] for name in USERS},
    weights={},
    class_word="dog",
    templates=["a photo of {subject} on the beach"],
    seeds=4,
    splits=list(range(0, 51, 5)),
    total_steps=50,
    guidance_scale=3.0,
    scheduler="ddim",
    dtype="fp32",
    device="cpu",
    threads=torch.get_num_threads(),
    batch=64,
    clip="toyworld/clip",
    lpips="toyworld",
    long_prompts="refuse",
)


def sweep() -> tuple[dict[Key, tuple[float, float]], int, float]:
    """Ours: CLIP and mean LPIPS by (seed, split, user), sample-steps, and seconds after loading."""
    steps: list[int] = []
    models = load_sweep_models(SETTINGS, "cpu", steps.append)
    start = time.perf_counter()
    rows = [row for block in SETTINGS.blocks for row in models.measure(block)]
    scores = {(row.seed, row.local_steps, row.user): (row.clip, row.lpips) for row in rows}
    return scores, sum(steps), time.perf_counter() - start


class PlainLoop:
    """What one writes with the libraries alone."""

    def __init__(self) -> None:
        import open_clip
        from diffusers import StableDiffusionPipeline

        folders: dict[str, Path] = {"cluster": TOY / "cluster"} | {name: TOY / "users" / name for name in USERS}
        self.pipelines = {
            name: StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
            for name, folder in folders.items()
        }
        for pipeline in self.pipelines.values():
            pipeline.set_progress_bar_config(disable=True)
        self.unet = self.pipelines["cluster"].unet
        self.clip, _, self.preprocess = open_clip.create_model_and_transforms(f"local-dir:{TOY / 'clip'}")
        self.clip.eval()
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{TOY / 'clip'}")
        self.lpips = load_lpips("toyworld").network  # the package's module with the toy backbone
        self.steps = 0

    def picture(self, template: str, seed: int, split: int, user: str) -> torch.Tensor:
        """One picture: the cluster's pipeline, whose UNet and embeddings are changed after step N - n."""
        total, cluster, own = SETTINGS.total_steps, self.pipelines["cluster"], self.pipelines[user]
        embeddings = torch.cat(own.encode_prompt(template.format(subject="sks dog"), "cpu", 1, True)[::-1])
        pipeline, words = (own, "sks dog") if split == total else (cluster, "dog")

        def hand_over(pipe: Any, index: int, _: Any, kept: dict[str, Any]) -> dict[str, Any]:
            self.steps += 1
            if index + 1 == total - split and split:
                pipe.unet = own.unet
                kept["prompt_embeds"] = embeddings
            return kept

        images = pipeline(
            template.format(subject=words),
            num_inference_steps=total,
            guidance_scale=SETTINGS.guidance_scale,
            height=48,
            width=48,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
            callback_on_step_end=hand_over,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        ).images
        cluster.unet = self.unet
        return torch.as_tensor(images[0])

    @torch.inference_mode()
    def similarity(self, picture: torch.Tensor, text: str) -> float:
        """CLIP of one picture and its text."""
        seen = self.clip.encode_image(self.preprocess(to_pil_image(picture))[None], normalize=True)
        return float((seen * self.clip.encode_text(self.tokenizer([text]), normalize=True)).sum())

    @torch.inference_mode()
    def distance(self, one: torch.Tensor, other: torch.Tensor) -> float:
        """LPIPS of one pair."""
        enlarged = (functional.interpolate(2 * x[None] - 1, size=TOY_SIDE, mode="bilinear") for x in (one, other))
        return float(self.lpips(*enlarged))

    def run(self) -> tuple[dict[Key, tuple[float, float]], int, float]:
        """The same as `sweep`."""
        start, scores = time.perf_counter(), {}
        for template in SETTINGS.templates:
            for seed in range(SETTINGS.seeds):
                for split in SETTINGS.splits:
                    pictures = {user: self.picture(template, seed, split, user) for user in USERS}
                    pairs = {pair: self.distance(*(pictures[user] for user in pair)) for pair in combinations(USERS, 2)}
                    for user in USERS:
                        clip = self.similarity(pictures[user], described(template, SETTINGS.descriptions[user]))
                        mine = [d for pair, d in pairs.items() if user in pair]
                        scores[seed, split, user] = clip, sum(mine) / len(mine)
        return scores, self.steps, time.perf_counter() - start


def main() -> None:
    """One table."""
    warnings.simplefilter("ignore")
    plain = PlainLoop()
    results = {"pai-sweep": sweep(), "plain loop": plain.run()}
    table = plain_table("what", "seconds", "sample-steps", "pictures per second", right_from=1)
    for name, (scores, steps, took) in results.items():
        table.add_row(name, f"{took:.1f}", str(steps), f"{len(scores) / took:.2f}")
    ours, theirs = (scores for scores, _, _ in results.values())
    apart = [max(abs(ours[key][i] - theirs[key][i]) for key in ours) for i in (0, 1)]
    console = Console(highlight=False)
    sizes = f"{len(SETTINGS.groups)} noises, {len(SETTINGS.splits)} splits, {len(USERS)} users"
    console.print(f"{sizes}, {SETTINGS.total_steps} steps:")
    console.print(table)
    console.print(f"plain loop / pai-sweep, wall time: {results['plain loop'][2] / results['pai-sweep'][2]:.2f}")
    console.print(f"largest difference: CLIP {apart[0]:.1e} (its PIL pictures are rounded), LPIPS {apart[1]:.1e}")


if __name__ == "__main__":
    main()
