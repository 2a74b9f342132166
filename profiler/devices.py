"""The device that is measured: whether it is there, what it is called, and with which instruments it is measured."""

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from ..common.errors import InputError
from .telemetry import NoTelemetry, Telemetry, load_nvml, open_telemetry
from .timing import CpuTimer, CudaTimer, Timer, cpu_control
from .unets import TimedUnet
from .workload import Workload


@dataclass(frozen=True)
class Instruments:
    """What a device is measured with.

    Attributes:
        timer: how steps are timed.
        telemetry: readings of the GPU; None where there are none.
        fits: function of a UNet and a batch size that says whether the batch fits into memory; None where nobody tries.
        control: function that times the control, see `timing`; None where telemetry shows a disturbed device.
    """

    timer: Timer
    telemetry: Telemetry | NoTelemetry | None = None
    fits: Callable[[TimedUnet, int], bool] | None = None
    control: Callable[[], float] | None = None


def instruments_for(device: str) -> Instruments:
    """The instruments of a GPU, or of a CPU, where trying what fits into memory would end this process."""
    if device == "cpu":
        return Instruments(CpuTimer(), control=cpu_control)
    return Instruments(CudaTimer(), open_gpu_telemetry(device), fits_gpu)


def open_gpu_telemetry(device: str) -> Telemetry | NoTelemetry:
    """NVML's view of the CUDA device."""
    import torch

    return open_telemetry(load_nvml(), str(torch.cuda.get_device_properties(device).uuid))


def fits_gpu(unet: TimedUnet, batch: int) -> bool:
    """Whether a step of this batch runs on the GPU; the memory that it took is freed either way.

    One image ran before, so any failure is a matter of size: of memory, of a library's workspace, or of a tensor that
    is too long for a kernel's index.
    """
    import torch

    from ..diffusion.inference.gpu import free_memory

    try:
        unet.make_step(batch)()
        torch.cuda.synchronize()
        return True
    except RuntimeError:  # torch's error of a full memory is one, too
        return False
    finally:
        free_memory()


def check_device(workload: Workload) -> None:
    """Refuse a device or number format that is not there, and make a GPU the current one.

    Events, synchronisation and graphs belong to the current GPU; on another GPU they would time its idle queue.

    Raises:
        InputError: naming the option and what to use instead.
    """
    if workload.device != "cpu":
        _check_gpu(workload)
    elif workload.cuda_graph:
        raise InputError("--cuda-graph: found --device cpu, accepted: an NVIDIA GPU; leave it out")


def _check_gpu(workload: Workload) -> None:
    import torch

    index = int(workload.device.partition(":")[2])
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise InputError(f"--gpu: found {index}, but no NVIDIA GPU is usable here; use --device cpu --model tiny")
    if index >= count:
        raise InputError(f"--gpu: found {index}, accepted: 0 to {count - 1} (torch sees {count} GPUs)")
    torch.cuda.set_device(index)
    if workload.dtype == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(f"--dtype: found bf16, which {torch.cuda.get_device_name(index)} lacks; use --dtype fp16")


def device_name(device: str) -> str:
    """The name of a GPU, or of this machine's processor."""
    if device != "cpu":
        import torch

        return re.sub(r"^NVIDIA (GeForce )?", "", torch.cuda.get_device_name(device))
    return _processor() or platform.machine() or "cpu"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def versions() -> dict[str, str]:
    """The versions of everything that a latency depends on, by name."""
    import torch

    packages = {name: version(name) for name in ("edgesplit", "torch", "diffusers")}
    cudnn = str(torch.backends.cudnn.version() or "none")
    return packages | {"python": platform.python_version(), "cuda": torch.version.cuda or "none", "cudnn": cudnn}
