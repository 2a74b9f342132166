"""What the GPU was doing while it was timed. NVML tells it, and is asked between visits, never inside a timed step."""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

THROTTLING = {
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""NVML's clock event reasons that slow a running kernel down (nvml.h, nvmlClocksEventReason*)."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at the GPU; a field is None where NVML does not answer.

    Attributes:
        sm_clock_mhz: clock of the streaming multiprocessors, MHz.
        memory_clock_mhz: clock of the memory, MHz.
        temperature_c: temperature of the chip, degrees Celsius.
        power_w: power drawn now, watts.
        throttled_by: reasons why the clocks are slowed down now; empty where they are not.
        memory_used_bytes: memory used on the whole GPU, by all processes.
        other_processes: number of processes with memory on the GPU, without this one.
        energy_j: energy drawn since the driver was loaded, joules.
    """

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttled_by: list[str] | None
    memory_used_bytes: int | None
    other_processes: int | None
    energy_j: float | None

    def as_json(self) -> dict[str, Any]:
        """The reading as JSON values."""
        return asdict(self)


NOTHING = Reading(**dict.fromkeys(Reading.__annotations__))
"""The reading where nothing is known."""


class Telemetry:
    """Readings of one GPU.

    Attributes:
        missing: names of the fields that NVML has refused so far, each once.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self.missing: list[str] = []

    def read(self) -> Reading:
        """Look at the GPU now."""
        nvml, handle = self._nvml, self._handle
        return Reading(
            sm_clock_mhz=self._ask("sm_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            memory_clock_mhz=self._ask(
                "memory_clock_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)
            ),
            temperature_c=self._ask(
                "temperature_c", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            power_w=self._ask("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
            throttled_by=self._ask("throttled_by", self._throttled_by),
            memory_used_bytes=self._ask("memory_used_bytes", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            other_processes=self._ask("other_processes", self._other_processes),
            energy_j=self._ask("energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
        )

    def _ask(self, name: str, question: Callable[[], Any]) -> Any:
        if name in self.missing:
            return None
        try:
            return question()
        except (self._nvml.NVMLError, AttributeError, TypeError):  # a VM, MIG, an old driver or an old module
            self.missing.append(name)
            return None

    def _throttled_by(self) -> list[str]:
        reasons = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        return [name for bit, name in THROTTLING.items() if reasons & bit]

    def _other_processes(self) -> int:
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        pids = {process.pid for process in running}
        return max(0, len(pids) - 1)  # without ours, which has another number inside a container


class NoTelemetry:
    """The telemetry of a GPU without NVML: nothing is known."""

    missing = (
        "anything about clocks, power and memory (NVML is absent: install nvidia-ml-py and the driver's library)",
    )

    def read(self) -> Reading:
        """The reading where nothing is known."""
        return NOTHING


def open_telemetry(nvml: Any, uuid: str) -> Telemetry | NoTelemetry:
    """The telemetry of the GPU with this UUID, which CUDA gives without a prefix.

    A GPU's number would not do: CUDA and NVML count the GPUs in different orders.
    """
    if nvml is None:
        return NoTelemetry()
    for kind in ("GPU", "MIG"):
        try:
            nvml.nvmlInit()
            return Telemetry(nvml, _handle(nvml, f"{kind}-{uuid}"))
        except nvml.NVMLError:
            continue
    return NoTelemetry()


def _handle(nvml: Any, uuid: str) -> Any:
    """NVML's handle of a GPU; the old module `pynvml`, which may lie in the new one's place, takes bytes alone."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    except TypeError:
        return nvml.nvmlDeviceGetHandleByUUID(uuid.encode())


def load_nvml() -> Any:
    """The module of `nvidia-ml-py`, or the old `pynvml` in its place; None where neither can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old one says that it is old
            import pynvml
    except (ImportError, SyntaxError, OSError):
        return None
    return pynvml if hasattr(pynvml, "nvmlInit") else None
