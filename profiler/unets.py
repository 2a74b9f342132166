"""The UNets whose steps are timed: shipped configurations with random weights, or any diffusers UNet."""

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import data
from ..common.errors import InputError, nearest, reason_of, shown
from ..common.files import read_text
from ..common.json_text import parse_json
from .workload import Workload

VAE_FACTOR = 8
"""Pixels per latent element along a side, the same in every Stable Diffusion."""
TOKENS = 77
"""Tokens of a prompt, the same in every Stable Diffusion."""
SDXL_SIZES = 6
"""Numbers of SDXL that describe the picture: height and width, place of the crop, target height and width."""
LARGEST_SIDE, MOST_LAYERS, MOST_BLOCKS, MOST_CHANNELS = 4096, 200, 100, 1_000_000
"""Bounds that no UNet comes near: side of its latents, layers of a block, blocks, and all other numbers."""
GUIDANCE_SCALE = 7.5
SEED = 0


def model_names() -> dict[str, Path]:
    """The shipped configurations: name -> file."""
    return data.shipped("unets")


def read_config(model: str) -> dict[str, Any]:
    """The UNet configuration of a shipped model or of a folder.

    Raises:
        InputError: for an unknown name, naming the nearest one, or for a folder without a UNet that can be timed.
    """
    path = _config_path(model)
    try:
        config = parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); name a diffusers UNet folder") from error
    _check_config(path, config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _config_path(model: str) -> Path:
    known, folder = model_names(), Path(model)
    if model in known:
        return known[model]
    if not model or not os.path.isdir(model):  # whatever the name
        raise InputError(f"--model: found {shown(model)}, accepted: a name or a folder; {nearest(model, known)}")
    return folder / "unet" / "config.json" if (folder / "unet").is_dir() else folder / "config.json"


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict) or "cross_attention_dim" not in config:
        raise InputError(f"{path}: not a text-conditioned UNet's configuration; name a diffusers UNet folder")
    added = config.get("addition_embed_type")
    if added not in (None, "text_time") or config.get("class_embed_type") or config.get("encoder_hid_dim"):
        raise InputError(f"{path}: found conditions beyond text and SDXL's sizes, accepted: SD 1.x, 2.x, XL UNets")
    _check_sizes(path, config)
    channels = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels[0] != channels[1]:
        raise InputError(
            f"{path}: found in_channels {channels[0]} and out_channels {channels[1]}, accepted: as many out as in "
            "(an inpainting UNet also needs a mask and a picture); name a text-to-image UNet"
        )


def _check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse sizes that no UNet has, and of which one would take hours to make."""
    side = config.get("sample_size")
    for number in side if isinstance(side, list) and side else [side]:
        if not (side is None or (type(number) is int and 0 < number <= LARGEST_SIDE)):
            raise InputError(f"{path}: sample_size: found {shown(side)}, accepted: 1 to {LARGEST_SIDE}")
    for name, value in config.items():
        most = MOST_LAYERS if name.endswith("layers_per_block") else MOST_CHANNELS
        values = [value, *value] if isinstance(value, list) else [value]
        if len(values) > MOST_BLOCKS or any(isinstance(each, int) and abs(each) > most for each in values):
            raise InputError(
                f"{path}: {name}: found {shown(value)}, accepted: {most} at most; name another UNet folder"
            )


def resolution_of(workload: Workload, config: Mapping[str, Any]) -> int:
    """Side of the pictures, in pixels."""
    own = config.get("sample_size") or 64
    return workload.resolution or VAE_FACTOR * int(own if isinstance(own, int) else own[0])


@dataclass(frozen=True)
class CapturedStep:
    """A step as a CUDA graph.

    Attributes:
        graph: captured graph, which reads its inputs where they lie in memory.
        step: step that was captured; it keeps the inputs alive.
    """

    graph: Any
    step: Callable[[], object]

    def __call__(self) -> None:
        """Replay the graph."""
        self.graph.replay()


class TimedUnet:
    """A UNet on a device, ready to make steps of any batch size."""

    def __init__(self, workload: Workload) -> None:
        import torch
        from diffusers import DDIMScheduler

        self.workload, self.config = workload, read_config(workload.model)
        self.resolution = resolution_of(workload, self.config)
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[workload.dtype]
        self.unet = self._make_unet()
        self.scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
        self.scheduler.set_timesteps(50)
        self._side: Any = None
        self._captured_last: Callable[[], Any] = lambda: None

    def make_step(self, batch: int) -> Callable[[], object]:
        """A step of `batch` images with its inputs allocated; running it changes none of them."""
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

    def _make_unet(self) -> Any:
        import torch
        from diffusers import UNet2DConditionModel
        from diffusers.utils import logging

        logging.set_verbosity_error()  # its advice is about loading weights, and these are random
        torch.manual_seed(SEED)
        with torch.device(self.workload.device), _default_dtype(self.dtype):  # memory may just hold fp16, never fp32
            try:
                unet = UNet2DConditionModel.from_config(self.config)
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
                raise InputError(
                    f"{_config_path(self.workload.model)}: diffusers can make no UNet of it ({reason_of(error)}); name "
                    "another UNet folder"
                ) from error
        unet = unet.eval().requires_grad_(False)
        if self.workload.channels_last:
            unet = unet.to(memory_format=torch.channels_last)
        return torch.compile(unet) if self.workload.compile else unet

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
        """SDXL's pooled text and sizes of the picture; None for other UNets."""
        import torch

        if self.config.get("addition_embed_type") != "text_time":
            return None
        sizes = SDXL_SIZES * self.config["addition_time_embed_dim"]
        pooled = self.config["projection_class_embeddings_input_dim"] - sizes
        side = float(self.resolution)
        time_ids = torch.tensor([[side, side, 0, 0, side, side]] * rows, **place)
        return {"text_embeds": torch.randn(rows, pooled, **place), "time_ids": time_ids}

    def _captured(self, step: Callable[[], object]) -> CapturedStep:
        """The step as a CUDA graph, warmed up on a side stream as capturing demands."""
        import torch

        side = self._side = self._side or torch.cuda.Stream()  # each further stream would have its own workspace
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        last, graph = self._captured_last(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=last.pool() if last else None):  # a pool ends with the last graph in it
            step()
        self._captured_last = weakref.ref(graph)
        return CapturedStep(graph, step)


@contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    """Make new tensors of this number format."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
