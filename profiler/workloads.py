"""The UNets whose steps are timed: shipped configurations with random weights, or any diffusers UNet."""

import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import data
from ..common.errors import InputError, nearest, shown
from ..common.files import read_text

Dtype = Literal["fp16", "bf16", "fp32"]

VAE_FACTOR = 8
"""Pixels per latent element, of every Stable Diffusion."""
TOKENS = 77
GUIDANCE_SCALE = 7.5
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one step is.

    Attributes:
        model: a shipped configuration's name, or the folder of a diffusers UNet (or of a pipeline).
        device: "cuda:0", "cpu".
        resolution: pixels, square; None for the configuration's own.
        dtype: "fp16", "bf16" or "fp32".
        guidance: the UNet sees 2 b; b counts images.
        channels_last: memory format.
        compile: through torch.compile.
        cuda_graph: replay a captured step.
    """

    model: str
    device: str
    resolution: int | None = None
    dtype: Dtype = "fp16"
    guidance: bool = True
    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False


def model_names() -> dict[str, Path]:
    """The shipped configurations."""
    return data.shipped("unets")


def read_config(model: str) -> dict[str, Any]:
    """The UNet configuration of a shipped model or a folder.

    Raises:
        InputError: for an unknown name, with the nearest, or a folder without a UNet that can be timed.
    """
    known = model_names()
    folder = Path(model)
    if model in known:
        path = known[model]
    elif folder.is_dir():
        path = folder / "unet" / "config.json" if (folder / "unet").is_dir() else folder / "config.json"
    else:
        raise InputError(f"--model: found {shown(model)}, accepted: a name or a folder; {nearest(model, known)}")
    try:
        config = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); name a diffusers UNet folder") from error
    _check_config(path, config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict) or "cross_attention_dim" not in config:
        raise InputError(f"{path}: not a text-conditioned UNet's configuration; name a diffusers UNet folder")
    added = config.get("addition_embed_type")
    if added not in (None, "text_time") or config.get("class_embed_type") or config.get("encoder_hid_dim"):
        raise InputError(f"{path}: found conditions beyond text and SDXL's sizes, accepted: SD 1.x, 2.x, XL UNets")
    channels = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels[0] != channels[1]:
        raise InputError(
            f"{path}: found in_channels {channels[0]} and out_channels {channels[1]}, accepted: as many out as in "
            "(an inpainting UNet also needs a mask and a picture); name a text-to-image UNet"
        )


def resolution_of(workload: Workload, config: dict[str, Any]) -> int:
    """Pixels of a side."""
    own = config.get("sample_size") or 64
    return workload.resolution or VAE_FACTOR * int(own if isinstance(own, int) else own[0])


@contextmanager
def default_dtype(dtype: Any) -> Iterator[None]:
    """Make new tensors of this number format."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Replay:
    """A captured step, and the step itself: the graph reads its inputs where they lie."""

    graph: Any
    step: Callable[[], object]

    def __call__(self) -> None:
        """Run it again."""
        self.graph.replay()


class Bench:
    """A UNet on a device, ready to make steps of any batch size."""

    def __init__(self, workload: Workload) -> None:
        import torch
        from diffusers import DDIMScheduler, UNet2DConditionModel
        from diffusers.utils import logging

        logging.set_verbosity_error()  # its advice is about loading weights, and these are random
        self.workload, self.config = workload, read_config(workload.model)
        self.resolution = resolution_of(workload, self.config)
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[workload.dtype]
        if workload.device == "cpu" and workload.model == "tiny":
            torch.set_num_threads(1)  # too small for more: they would only wait for each other
        torch.manual_seed(SEED)
        with torch.device(workload.device), default_dtype(self.dtype):  # never fp32 in a memory that fp16 just fits
            unet = UNet2DConditionModel.from_config(self.config)
        unet = unet.eval().requires_grad_(False)
        if workload.channels_last:
            unet = unet.to(memory_format=torch.channels_last)
        self.unet = torch.compile(unet) if workload.compile else unet
        self.scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
        self.scheduler.set_timesteps(50)
        self._side: Any = None
        self._captured_last: Callable[[], Any] = lambda: None

    def make_step(self, batch: int) -> Callable[[], object]:
        """A step of `batch` images, inputs allocated; running it changes none of them."""
        import torch

        from ..diffusion.inference.step import Timestep, denoise_step

        inputs = self._inputs(batch)
        middle = self.scheduler.timesteps[len(self.scheduler.timesteps) // 2]
        timestep = Timestep(middle, middle.to(self.workload.device))
        scale = GUIDANCE_SCALE if self.workload.guidance else None

        def step() -> object:
            with torch.inference_mode():
                return denoise_step(
                    self.unet, self.scheduler, inputs["latents"], timestep, inputs["embeddings"], scale, inputs["added"]
                )

        return self._captured(step) if self.workload.cuda_graph else step

    def _inputs(self, batch: int) -> dict[str, Any]:
        import torch

        side, rows = self.resolution // VAE_FACTOR, batch * (2 if self.workload.guidance else 1)
        place: dict[str, Any] = {"device": self.workload.device, "dtype": self.dtype}
        latents = torch.randn(batch, self.config.get("in_channels", 4), side, side, **place)
        if self.workload.channels_last:
            latents = latents.to(memory_format=torch.channels_last)
        width = self.config["cross_attention_dim"]
        width = width if isinstance(width, int) else width[0]
        embeddings = torch.randn(rows, TOKENS, width, **place)
        return {"latents": latents, "embeddings": embeddings, "added": self._added(rows, place)}

    def _added(self, rows: int, place: dict[str, Any]) -> dict[str, Any] | None:
        """SDXL's pooled text and its sizes and crops."""
        import torch

        if self.config.get("addition_embed_type") != "text_time":
            return None
        sizes = 6
        pooled = self.config["projection_class_embeddings_input_dim"] - sizes * self.config["addition_time_embed_dim"]
        side = float(self.resolution)
        time_ids = torch.tensor([[side, side, 0, 0, side, side]] * rows, **place)
        return {"text_embeds": torch.randn(rows, pooled, **place), "time_ids": time_ids}

    def _captured(self, step: Callable[[], object]) -> Callable[[], object]:
        """The step as a CUDA graph, warmed up on a side stream as capture demands."""
        import torch

        side = self._side = self._side or torch.cuda.Stream()  # every further one would have a workspace of its own
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        last, graph = self._captured_last(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=last.pool() if last else None):  # a pool ends with the last graph in it
            step()
        self._captured_last = weakref.ref(graph)
        return Replay(graph, step)
