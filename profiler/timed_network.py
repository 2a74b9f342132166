"""The networks whose steps are timed: shipped configurations with random weights, or those of any diffusers folder."""

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..fitting.resolution import sides_of
from .attention import attention_of
from .configs import config_path, family_of, picture_size, read_config, vae_factor
from .networks import make_network
from .quantize import quantized
from .workload import Workload

TOTAL_STEPS = 50
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


class TimedNetwork:
    """A network on a device, ready to make steps of any batch size.

    Attributes:
        network: network as it was made.
        module: the same, compiled where that was asked for.
        resolution: size of the pictures, pixels.
        factor: pixels per element of the latents along a side.
    """

    def __init__(self, workload: Workload) -> None:
        import torch

        from ..diffusion.inference.sampling import Sampling

        self.workload, self.config = workload, read_config(workload.model)
        self.family = family_of(self.config)
        self.resolution = picture_size(workload, self.config)
        self.factor = vae_factor(workload.model)
        self.dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[workload.dtype]
        self.network = self._make_network()
        self.module = torch.compile(self.network) if workload.compile else self.network
        self.scheduler = Sampling(total_steps=TOTAL_STEPS, scheduler=self.family.SCHEDULERS[0]).make_scheduler({})
        self._side: Any = None
        self._captured_last: Callable[[], Any] = lambda: None

    def make_step(self, batch: int) -> Callable[[], object]:
        """A step of `batch` images with its inputs allocated; running it changes none of them."""
        import torch

        step = torch.inference_mode()(self._step(self.module, batch))
        return self._captured(step) if self.workload.cuda_graph else step

    def _step(self, module: Any, batch: int) -> Callable[[], object]:
        from ..diffusion.inference.step import Timestep, denoise_step

        latents, conditions, family = self._latents(batch), self._conditions(batch), self.family
        middle = self.scheduler.timesteps[TOTAL_STEPS // 2]
        timestep = Timestep(middle, middle.to(self.workload.device))
        scale = GUIDANCE_SCALE if self.workload.guidance else None

        def step() -> object:
            scheduler = copy.copy(self.scheduler)  # some count their steps, and this one is always the same
            return denoise_step(family, module, scheduler, latents, timestep, conditions, scale)

        return step

    def attention(self) -> str:
        """Names of the kernels that compute the attention, found by running a step of one image."""
        return attention_of(self._step(self.network, 1))

    def _make_network(self) -> Any:
        import diffusers
        import torch

        path, device = config_path(self.workload.model), self.workload.device
        kind = getattr(diffusers, self.family.PARTS[self.family.NETWORK].classes[0])
        network = make_network(path, lambda: kind.from_config(self.config), device, self.dtype)
        if self.workload.channels_last:
            network = network.to(memory_format=torch.channels_last)
        return quantized(network, self.workload.quantize) if self.workload.quantize else network

    def _latents(self, batch: int) -> Any:
        import torch

        latents = self.latents(batch)
        return latents.to(memory_format=torch.channels_last) if self.workload.channels_last else latents

    def _conditions(self, batch: int) -> dict[str, Any]:
        """Random conditions as the network's family names them, a row for each image and each half of the guidance."""
        width, height = sides_of(self.resolution)
        rows = batch * (2 if self.workload.guidance else 1)
        drawn = self.family.drawn_conditions(self.network.config, rows, (height, width), self._place())
        return dict(drawn)

    def _place(self) -> dict[str, Any]:
        return {"device": self.workload.device, "dtype": self.dtype}

    def latents(self, batch: int) -> Any:
        """Random latents, shape (batch, channels, height, width)."""
        import torch

        width, height = (side // self.factor for side in sides_of(self.resolution))
        return torch.randn(batch, self.family.channels_of(self.network.config), height, width, **self._place())

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
