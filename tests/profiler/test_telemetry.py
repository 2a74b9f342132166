"""NVML paths against a fake library that answers, refuses a field, or is absent."""

import sys
import warnings
from types import SimpleNamespace

import pytest

from edgesplit.profiler.telemetry import THROTTLING, load_nvml, open_telemetry


class FakeNvml:
    """The functions of pynvml that are used; `refused` ones raise as NVML does where a field is not supported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        pass

    def __init__(self, refused=(), reasons=0, pids=(1,)):
        self.refused, self.reasons, self.pids, self.asked = set(refused), reasons, pids, []

    def __getattribute__(self, name):
        if name.startswith("nvml"):
            self.asked.append(name)
            if name in self.refused:
                raise self.NVMLError("Not Supported")
        return super().__getattribute__(name)

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return {1: 1980, 2: 3201}[kind]

    def nvmlDeviceGetTemperature(self, handle, kind):
        return 61

    def nvmlDeviceGetPowerUsage(self, handle):
        return 412_500

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self.reasons

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=5 * 2**30)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return 9_000


def test_a_reading_has_every_field_in_its_unit():
    reading = open_telemetry(FakeNvml(pids=(1, 7, 8)), "x").read()
    assert (reading.sm_clock_mhz, reading.memory_clock_mhz, reading.temperature_c) == (1980, 3201, 61)
    assert (reading.power_w, reading.energy_j, reading.memory_used_bytes) == (412.5, 9.0, 5 * 2**30)
    assert (reading.throttled_by, reading.other_processes) == ([], 2)


@pytest.mark.parametrize(("pids", "others"), [((), 0), ((1,), 0), ((1, 1), 0), ((1, 7, 8), 2)])
def test_this_process_is_not_counted_whatever_number_it_has(pids, others):
    assert open_telemetry(FakeNvml(pids=pids), "x").read().other_processes == others


@pytest.mark.parametrize(("bit", "name"), [*THROTTLING.items()])
def test_each_throttle_reason_is_named(bit, name):
    assert open_telemetry(FakeNvml(reasons=bit | 0x1), "x").read().throttled_by == [name]


def test_a_refused_field_is_null_and_named_and_asked_for_once():
    nvml = FakeNvml(refused=["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"])
    telemetry = open_telemetry(nvml, "x")
    for _ in range(3):
        reading = telemetry.read()
        assert (reading.energy_j, reading.power_w, reading.temperature_c) == (None, None, 61)
    assert telemetry.missing == ["power_w", "energy_j"]
    assert nvml.asked.count("nvmlDeviceGetPowerUsage") == 1


@pytest.mark.parametrize(
    "nvml", [None, FakeNvml(refused=["nvmlInit"]), FakeNvml(refused=["nvmlDeviceGetHandleByUUID"])]
)
def test_without_nvml_there_is_no_telemetry(nvml):
    telemetry = open_telemetry(nvml, "x")
    assert set(telemetry.read().as_json().values()) == {None}
    assert len(telemetry.missing) == 1


def test_a_part_of_a_gpu_is_found_by_its_own_uuid():
    class Mig(FakeNvml):
        def nvmlDeviceGetHandleByUUID(self, uuid):
            if uuid != "MIG-x":
                raise self.NVMLError("Not Found")
            return uuid

    assert open_telemetry(Mig(), "x").read().temperature_c == 61


def test_the_old_module_which_takes_bytes_alone_serves_too():
    class Old(FakeNvml):
        def nvmlDeviceGetHandleByUUID(self, uuid):
            if isinstance(uuid, str):
                raise TypeError("bytes or integer address expected instead of str instance")
            return uuid

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):
            raise TypeError("an argument of a newer driver")

    telemetry = open_telemetry(Old(), "x")
    assert (telemetry.read().temperature_c, telemetry.missing) == (61, ["energy_j"])


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that puts a module in pynvml's place."""
    before = sys.modules.pop("pynvml", None)
    monkeypatch.syspath_prepend(tmp_path)
    yield (tmp_path / "pynvml.py").write_text
    sys.modules.pop("pynvml", None)
    if before:
        sys.modules["pynvml"] = before


@pytest.mark.parametrize(
    "content",
    ["print 'an old language'", "raise OSError('no library')", "raise ImportError", "nothing = True"],
)
def test_a_module_that_cannot_be_used_is_none(installed, content):
    installed(content)
    assert load_nvml() is None


def test_the_old_module_s_own_warning_is_not_shown(installed):
    installed("import warnings\nwarnings.warn('old', FutureWarning)\nnvmlInit = 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_nvml().nvmlInit == 1


def test_no_clock_is_ever_changed():
    nvml = FakeNvml()
    open_telemetry(nvml, "x").read()
    assert not [name for name in nvml.asked if "Set" in name or "Reset" in name]
