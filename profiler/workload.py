"""What `hwprof` times: one denoising step of one model on one device."""

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["fp16", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one step is.

    Attributes:
        model: name of a shipped configuration, or folder of a diffusers UNet or pipeline.
        device: device that the step runs on, such as "cuda:0" or "cpu".
        resolution: side of the square pictures, pixels; None for the configuration's own.
        dtype: number format of weights and latents.
        guidance: whether the UNet sees every image twice, with and without its prompt; a batch of b counts b images.
        channels_last: whether tensors lie in memory with the channels last.
        compile: whether the UNet goes through torch.compile.
        cuda_graph: whether a step is captured as a CUDA graph and replayed.
    """

    model: str
    device: str
    resolution: int | None = None
    dtype: Dtype = "fp16"
    guidance: bool = True
    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False
