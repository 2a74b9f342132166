"""The device that is measured: whether it is there, what it is called, and with which instruments it is measured."""

import gc
import platform
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from ..common.errors import InputError
from .quantize import check_fp8
from .telemetry import NoTelemetry, Telemetry, load_nvml, open_telemetry
from .timed_network import TimedNetwork
from .timing import CpuTimer, EventTimer, Timer, cpu_control
from .workload import Workload

MAKERS = {"cuda": "NVIDIA", "xpu": "Intel", "mps": "Apple"}
"""Kind of device in torch -> maker of such GPUs."""


@dataclass(frozen=True)
class Instruments:
    """What a device is measured with.

    Attributes:
        timer: how steps are timed.
        telemetry: readings of the GPU; None where there are none.
        fits: function of a network and a batch size that says whether the batch fits into memory; None where nobody
            tries.
        control: function that times the control, see `timing`; None where telemetry shows a disturbed device.
    """

    timer: Timer
    telemetry: Telemetry | NoTelemetry | None = None
    fits: Callable[[TimedNetwork, int], bool] | None = None
    control: Callable[[], float] | None = None


def instruments_for(workload: Workload) -> Instruments:
    """The instruments of the workload's device.

    What fits into memory is tried on GPUs with a memory of their own. On a CPU trying would end this process, and on
    Apple's GPUs, which share the memory, it would slow the whole machine down.
    """
    kind = workload.device_kind
    if kind == "cpu":
        return Instruments(CpuTimer(), control=cpu_control)
    if kind == "mps":
        return Instruments(event_timer(kind))
    telemetry = open_gpu_telemetry(workload.device) if kind == "cuda" else None
    return Instruments(event_timer(kind), telemetry, partial(fits_gpu, torch_module(kind)))


def torch_module(kind: str) -> Any:
    """Torch's module of a kind of GPU: `torch.cuda`, `torch.mps` or `torch.xpu`."""
    import torch

    return getattr(torch, kind)


def event_timer(kind: str) -> EventTimer:
    """The timer of a kind of GPU, by its own events."""
    module = torch_module(kind)
    event = module.event.Event if kind == "mps" else module.Event
    return EventTimer(partial(event, enable_timing=True), module.synchronize)


def open_gpu_telemetry(device: str) -> Telemetry | NoTelemetry:
    """NVML's view of the CUDA device."""
    import torch

    return open_telemetry(load_nvml(), str(torch.cuda.get_device_properties(device).uuid))


def fits_gpu(module: Any, timed: TimedNetwork, batch: int) -> bool:
    """Whether a step of this batch runs on the GPU; the memory that it took is freed either way.

    One image ran before, so any failure is a matter of size: of memory, of a library's workspace, or of a tensor that
    is too long for a kernel's index.

    Args:
        module: torch's module of the GPU's kind.
        timed: network whose steps are timed.
        batch: batch size to try.
    """
    try:
        timed.make_step(batch)()
        module.synchronize()
        return True
    except RuntimeError:  # torch's error of a full memory is one, too
        return False
    finally:
        gc.collect()
        module.empty_cache()


def check_device(workload: Workload) -> None:
    """Refuse a device or number format that is not there, and make a GPU the current one.

    Events, synchronisation and graphs belong to the current GPU; on another GPU they would time its idle queue.

    Raises:
        InputError: naming the option and what to use instead.
    """
    kind = workload.device_kind
    if workload.cuda_graph and kind != "cuda":
        raise InputError(f"--cuda-graph: found --device {kind}, accepted: an NVIDIA GPU; leave it out")
    if kind == "mps":
        _check_apple_gpu()
    elif kind != "cpu":
        _check_gpu(workload, torch_module(kind))
    check_fp8(workload.quantize, workload.device)


def _check_apple_gpu() -> None:
    import torch

    if not torch.backends.mps.is_available():
        raise InputError("--device: found mps, but no Apple GPU is usable here; use --device cpu --model tiny")


def _check_gpu(workload: Workload, module: Any) -> None:
    kind, _, number = workload.device.partition(":")
    index, count = int(number), module.device_count() if module.is_available() else 0
    if count == 0:
        option = f"--gpu: found {index}" if kind == "cuda" else f"--device: found {kind}"
        raise InputError(f"{option}, but no {MAKERS[kind]} GPU is usable here; use --device cpu --model tiny")
    if index >= count:
        raise InputError(f"--gpu: found {index}, accepted: 0 to {count - 1} (torch sees {count} GPUs)")
    module.set_device(index)
    if kind == "cuda" and workload.dtype == "bf16" and not module.is_bf16_supported(including_emulation=False):
        raise InputError(f"--dtype: found bf16, which {module.get_device_name(index)} lacks; use --dtype fp16")


def device_name(device: str) -> str:
    """The name of a GPU, or of this machine's processor, of which Apple's GPUs are a part."""
    if device in ("cpu", "mps"):
        return _processor() or platform.machine() or "cpu"
    return re.sub(r"^NVIDIA (GeForce )?", "", torch_module(device.partition(":")[0]).get_device_name(device))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return _apple_processor() or platform.processor()


def _apple_processor() -> str:
    """The chip's name on macOS, such as "Apple M2"; empty elsewhere."""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - as it is
        return told.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def versions(workload: Workload) -> dict[str, str]:
    """The versions of everything that a latency depends on, by name."""
    import torch

    names = ["edgesplit", "torch", "diffusers", *(["torchao"] if workload.quantize else [])]
    cudnn = str(torch.backends.cudnn.version() or "none")
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or "none", "cudnn": cudnn}
    own = {"mps": ("macos", platform.mac_ver()[0]), "xpu": ("xpu", str(getattr(torch.version, "xpu", None)))}
    return {name: version(name) for name in names} | found | dict([own[k] for k in own if k == workload.device_kind])
