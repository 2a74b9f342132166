"""The UNets whose steps are timed: shipped configurations with random weights, or any diffusers UNet."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..fitting.resolution import sides_of
from .attention import attention_of
from .configs import config_path, picture_size, read_config, vae_factor
from .networks import make_network
from .quantize import quantized
from .workload import Workload

TOKENS = 77
"""Tokens of a prompt, the same in every Stable Diffusion."""
SDXL_SIZES = 6
"""Numbers of SDXL that describe the picture: height and width, place of the crop, target height and width."""
GUIDANCE_SCALE = 7.5


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
    """A UNet on a device, ready to make steps of any batch size.

    Attributes:
        network: UNet as it was made, which `unet` runs, compiled where that was asked for.
        resolution: size of the pictures, pixels.
        factor: pixels per element of the latents along a side.
    """

    def __init__(self, workload: Workload) -> None:
        import torch
        from diffusers import DDIMScheduler

        self.workload, self.config = workload, read_config(workload.model)
        self.resolution = picture_size(workload, self.config)
        self.factor = vae_factor(workload.model)
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[workload.dtype]
        self.network = self._make_network()
        self.unet = torch.compile(self.network) if workload.compile else self.network
        self.scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
        self.scheduler.set_timesteps(50)
        self._side: Any = None
        self._captured_last: Callable[[], Any] = lambda: None

    def make_step(self, batch: int) -> Callable[[], object]:
        """A step of `batch` images with its inputs allocated; running it changes none of them."""
        import torch

        step = torch.inference_mode()(self._step(self.unet, batch))
        return self._captured(step) if self.workload.cuda_graph else step

    def _step(self, unet: Any, batch: int) -> Callable[[], object]:
        from ..diffusion.inference.families.known import family_of_unet
        from ..diffusion.inference.step import Timestep, denoise_step

        latents, conditions, family = self._latents(batch), self._conditions(batch), family_of_unet(self.config)
        middle = self.scheduler.timesteps[len(self.scheduler.timesteps) // 2]
        timestep = Timestep(middle, middle.to(self.workload.device))
        scale = GUIDANCE_SCALE if self.workload.guidance else None

        def step() -> object:
            return denoise_step(family, unet, self.scheduler, latents, timestep, conditions, scale)

        return step

    def attention(self) -> str:
        """Names of the kernels that compute the attention, found by running a step of one image."""
        return attention_of(self._step(self.network, 1))

    def _make_network(self) -> Any:
        import torch
        from diffusers import UNet2DConditionModel

        path, device = config_path(self.workload.model), self.workload.device
        network = make_network(path, lambda: UNet2DConditionModel.from_config(self.config), device, self.dtype)
        if self.workload.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return quantized(network, self.workload.quantize) if self.workload.quantize else network

    def _latents(self, batch: int) -> Any:
        import torch

        latents = self.latents(batch)
        return latents.to(memory_format=torch.channels_last) if self.workload.channels_last else latents

    def _conditions(self, batch: int) -> dict[str, Any]:
        """Random conditions by the names of the UNet's family, a row for each image and each half of the guidance."""
        import torch

        rows, place = batch * (2 if self.workload.guidance else 1), self._place()
        width = self.config["cross_attention_dim"]
        width = width if isinstance(width, int) else width[0]
        return {"text": torch.randn(rows, TOKENS, width, **place)} | self._added(rows, place)

    def _place(self) -> dict[str, Any]:
        return {"device": self.workload.device, "dtype": self.dtype}

    def latents(self, batch: int) -> Any:
        """Random latents, shape (batch, channels, height, width)."""
        import torch

        width, height = (side // self.factor for side in sides_of(self.resolution))
        return torch.randn(batch, self.config.get("in_channels", 4), height, width, **self._place())

    def _added(self, rows: int, place: dict[str, Any]) -> dict[str, Any]:
        """SDXL's pooled text and sizes of the picture; nothing for other UNets."""
        import torch

        if self.config.get("addition_embed_type") != "text_time":
            return {}
        sizes = SDXL_SIZES * self.config["addition_time_embed_dim"]
        pooled = self.config["projection_class_embeddings_input_dim"] - sizes
        width, height = map(float, sides_of(self.resolution))
        time_ids = torch.tensor([[height, width, 0, 0, height, width]] * rows, **place)
        return {"pooled": torch.randn(rows, pooled, **place), "sizes": time_ids}

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
