"""What `hwprof` times: one denoising step of one model on one device."""

from dataclasses import dataclass
from typing import Literal

from ..fitting.resolution import Resolution

Dtype = Literal["fp16", "bf16", "fp32"]
Quantized = Literal["int8", "fp8"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one step is.

    Attributes:
        model: name of a shipped configuration, or folder of a diffusers network or pipeline.
        device: device that the step runs on: "cpu", "mps", or with a number "cuda:0" or "xpu:0".
        resolution: size of the pictures, pixels; None for the configuration's own.
        dtype: number format of weights and latents.
        quantize: number format of quantised weights; None where they have the dtype's.
        guidance: whether the network sees every image twice, with and without its prompt; a batch of b counts b images.
        channels_last: whether tensors lie in memory with the channels last.
        compile: whether the network goes through torch.compile.
        cuda_graph: whether a step is captured as a CUDA graph and replayed.
    """

    model: str
    device: str
    resolution: Resolution | None = None
    dtype: Dtype = "fp16"
    quantize: Quantized | None = None
    guidance: bool = True
    channels_last: bool = False
    compile: bool = False
    cuda_graph: bool = False

    @property
    def device_kind(self) -> str:
        """The device without its number: "cpu", "cuda", "mps" or "xpu"."""
        return self.device.partition(":")[0]
