"""The measurement on this machine's processor, and the path of a GPU with its parts replaced."""

import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from edgesplit.common.errors import InputError
from edgesplit.diffusion.inference import threads
from edgesplit.fitting.names import slug
from edgesplit.profiler import bench, devices, profiles
from edgesplit.profiler.devices import Instruments
from edgesplit.profiler.journal import Journal
from edgesplit.profiler.quantize import check_fp8
from edgesplit.profiler.telemetry import NOTHING, NoTelemetry, Reading
from edgesplit.profiler.timed_network import TimedNetwork
from edgesplit.profiler.timing import CpuTimer, TimingSettings, Visit
from edgesplit.profiler.workload import Workload

TINY = Workload(model="tiny", device="cpu", dtype="fp32")


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", {})
    yield journal
    journal.close(remove=True)


class FakeGpu:
    """Telemetry of a GPU that was throttled once and whose energy counter moves by 30 J every tenth look."""

    missing = ("power_w",)

    def __init__(self):
        self.looks = 0

    def read(self):
        self.looks += 1
        reasons = ["hardware slowdown"] if self.looks == 3 else []
        energy = 30.0 * (self.looks // 10)
        return Reading(**NOTHING.as_json() | {"throttled_by": reasons, "energy_j": energy, "other_processes": 2})


def measure(journal, instruments, batches=(1, 2, 4, 8), settings=TimingSettings(max_seconds=0.15, precision=1e-6)):  # noqa: B008
    said = []
    run = bench.measure(TimedNetwork(TINY), instruments, batches, settings, journal, said.append, lambda *_: None)
    return profiles.make_profile(run, TINY, settings, 64, "mine"), said


def test_the_gpu_path_measures_what_fits_and_keeps_its_telemetry(journal):
    instruments = Instruments(CpuTimer(), FakeGpu(), lambda timed, batch: batch <= 5)
    profile, said = measure(journal, instruments)
    assert [sample.batch for sample in profile.samples] == [1, 2, 4]
    assert profile.max_batch == 5
    assert "2 other process(es)" in said[0]
    assert "batches above 5 do not fit" in said[1]
    assert profile.telemetry["throttled_visits"] == 1
    assert profile.telemetry["first_call_s"] > 0
    for words in ("1 of ", "does not report: power_w", "the time was up before every median was known to +-0.0%"):
        assert any(words in note for note in profile.provenance.notes), words


def test_energy_per_step_is_right_though_the_counter_moves_less_often_than_visits():
    """A counter that moves every 0.1 s by what was spent, beside visits of 10 to 40 ms."""
    rng, now, run = np.random.default_rng(0), 0.0, bench.TimedRun()
    for number in range(3000):
        batch = int(rng.integers(1, 5))
        now += 0.01 * batch
        run.samples.visits.append(Visit(round=number, batch=batch, durations_s=[0.005 * batch] * 2))
        counter = 300.0 * (now // 0.1) * 0.1  # 300 W
        run.readings.append(Reading(**NOTHING.as_json() | {"energy_j": counter}))
    joules = profiles.energy_per_step(run)
    assert [joules[str(b)] for b in (1, 2, 3, 4)] == pytest.approx([1.5 * b for b in (1, 2, 3, 4)], rel=0.15)


def test_the_pause_before_a_resume_is_no_energy_of_a_step(tmp_path):
    path = tmp_path / "journal.jsonl"
    first = Journal(path, {})
    first.add(Visit(round=0, batch=1, durations_s=[0.1]), Reading(**NOTHING.as_json() | {"energy_j": -1e9}))
    first.close(remove=False)
    again = Journal(path, {})
    profile, _ = measure(again, Instruments(CpuTimer(), FakeGpu()), batches=(1, 2))
    again.close(remove=True)
    assert max(profile.telemetry["energy_per_step_j"].values()) < 1e3


def test_steps_run_with_the_threads_that_a_trial_chose_and_that_an_interrupted_run_had(tmp_path, monkeypatch):
    tried, before = [], torch.get_num_threads()

    def chosen(step, command):
        step()
        tried.append(command)
        torch.set_num_threads(2)
        return 2

    monkeypatch.setattr(threads, "fastest_threads", chosen)
    path = tmp_path / "journal.jsonl"
    try:
        first = Journal(path, {})
        profile, _ = measure(first, Instruments(CpuTimer()), batches=(1, 2))
        first.close(remove=False)
        assert (tried, profile.telemetry["threads"]) == (["hwprof"], 2)
        torch.set_num_threads(1)
        again = Journal(path, {})
        profile, _ = measure(again, Instruments(CpuTimer()), batches=(1, 2))
        again.close(remove=True)
        assert (tried, profile.telemetry["threads"]) == (["hwprof"], 2)
    finally:
        torch.set_num_threads(before)


def test_without_nvml_that_is_said_once(journal):
    profile, _ = measure(journal, Instruments(CpuTimer(), NoTelemetry()), batches=(1, 2))
    assert sum("NVML is absent" in note for note in profile.provenance.notes) == 1
    assert profile.telemetry["energy_per_step_j"] is None


@pytest.mark.parametrize(("batches", "most"), [((1, 2, 4), 1), ((8, 16), 4), ((8, 16), 8)])
def test_memory_for_fewer_than_two_of_the_sizes_is_refused(journal, batches, most):
    with pytest.raises(InputError, match=f"--batches: found .* but {most} image"):
        measure(journal, Instruments(CpuTimer(), None, lambda timed, batch: batch <= most), batches)


def test_a_search_that_ended_at_its_limit_says_so(journal, monkeypatch):
    monkeypatch.setattr(bench, "BATCH_LIMIT", 16)
    monkeypatch.setattr(profiles, "BATCH_LIMIT", 16)
    profile, _ = measure(journal, Instruments(CpuTimer(), None, lambda timed, batch: True), batches=(1, 2))
    assert profile.max_batch == 16
    assert any("ended at 16 images; more may fit" in note for note in profile.provenance.notes)


def test_running_out_of_memory_while_sampling_is_one_line(journal):
    class Leaking(CpuTimer):
        def durations(self, step, count):
            if journal.used:  # the first visit is over
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().durations(step, count)

    with pytest.raises(InputError, match=r"tiny does not fit into memory .* use a smaller"):
        measure(journal, Instruments(Leaking()))


@pytest.mark.parametrize(("kind", "holder"), [("cuda", torch.cuda), ("xpu", torch.xpu), ("mps", torch.mps.event)])
def test_the_timer_of_a_gpu_reads_all_its_events_after_one_synchronisation(monkeypatch, kind, holder):
    log, clock = [], [0.0]

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = clock[0]
            log.append("record")

        def elapsed_time(self, other):
            log.append("read")
            return 1e3 * (other.at - self.at)

    monkeypatch.setattr(holder, "Event", Event)
    monkeypatch.setattr(devices.torch_module(kind), "synchronize", lambda: log.append("synchronize"))

    def step():
        clock[0] += 0.25 * (1 + log.count("record"))

    assert devices.event_timer(kind).durations(step, 3) == pytest.approx([0.5, 0.75, 1.0])
    assert log == ["record"] * 4 + ["synchronize"] + ["read"] * 3


@pytest.mark.parametrize("module", [torch.cuda, torch.xpu])
def test_out_of_memory_is_caught_and_freed(monkeypatch, module):
    freed = []
    monkeypatch.setattr(module, "synchronize", lambda: None)
    monkeypatch.setattr(module, "empty_cache", lambda: freed.append(1))

    class Full:
        def make_step(self, batch):
            def step():
                if batch > 5:
                    raise RuntimeError("canUse32BitIndexMath: input has more than INT_MAX elements")
                if batch > 3:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            return step

    assert [devices.fits_gpu(module, Full(), batch) for batch in (1, 3, 4, 6)] == [True, True, False, False]
    assert len(freed) == 4


def test_each_device_has_its_instruments(monkeypatch):
    """Apple's GPUs share the machine's memory, so that nobody fills it; NVML knows NVIDIA's alone."""
    monkeypatch.setattr(devices, "open_gpu_telemetry", lambda device: device)
    named = {
        name: devices.instruments_for(Workload(model="tiny", device=name)) for name in ("cpu", "cuda:1", "xpu:0", "mps")
    }
    assert {name: made.telemetry for name, made in named.items()} == {
        "cpu": None,
        "cuda:1": "cuda:1",
        "xpu:0": None,
        "mps": None,
    }
    assert [name for name, made in named.items() if made.fits] == ["cuda:1", "xpu:0"]
    assert [name for name, made in named.items() if made.control] == ["cpu"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "tiny does not fit into memory"),
        (RuntimeError("\"conv\" not implemented for 'Half'"), "cannot run tiny as fp32 .*use another --dtype"),
    ],
)
def test_what_the_device_cannot_do_is_one_line(error, says):
    class Broken:
        workload = TINY

        def make_step(self, batch):
            raise error

    with pytest.raises(InputError, match=says):
        bench.first_call(Broken(), CpuTimer())


def test_a_broken_installation_is_not_taken_for_a_device_that_cannot_run_the_model(monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("Failed to import diffusers.models because of\na missing docstring")

    monkeypatch.setitem(sys.modules, "diffusers", Broken())
    with pytest.raises(InputError, match=r"diffusers cannot be imported \(Failed to .* docstring\); pip install"):
        bench.load_network(TINY)


@pytest.mark.parametrize(
    ("count", "device", "says"),
    [
        (0, "cuda:0", "no NVIDIA GPU is usable here; use --device cpu --model tiny"),
        (2, "cuda:2", "accepted: 0 to 1"),
        (0, "xpu:0", "--device: found xpu, but no Intel GPU is usable here; use --device cpu --model tiny"),
        (2, "xpu:2", "accepted: 0 to 1"),
        (0, "mps", "--device: found mps, but no Apple GPU is usable here; use --device cpu --model tiny"),
    ],
)
def test_a_missing_gpu_is_refused_with_what_to_do(monkeypatch, count, device, says):
    for module in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(module, "is_available", lambda: count > 0)
        monkeypatch.setattr(module, "device_count", lambda: count, raising=False)
    with pytest.raises(InputError, match=says):
        devices.check_device(Workload(model="tiny", device=device))


@pytest.mark.parametrize("device", ["cpu", "mps", "xpu:0"])
def test_what_only_cuda_has_is_refused_elsewhere(device):
    with pytest.raises(InputError, match=f"--cuda-graph: found --device {device[:3]}, accepted: an NVIDIA GPU"):
        devices.check_device(Workload(model="tiny", device=device, cuda_graph=True))
    with pytest.raises(InputError, match=r"--quantize: found fp8, accepted on .*: int8"):
        check_fp8("fp8", device)


@pytest.mark.parametrize(("capability", "refused"), [((8, 6), True), ((8, 9), False), ((9, 0), False)])
def test_fp8_is_refused_on_gpus_that_do_not_multiply_in_it(monkeypatch, capability, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 3090")
    with (
        pytest.raises(InputError, match="which NVIDIA GeForce RTX 3090 lacks; use --quantize int8")
        if refused
        else nullcontext()
    ):
        check_fp8("fp8", "cuda:0")
    check_fp8("int8", "cuda:0")


def test_a_number_format_that_the_gpu_lacks_is_refused_after_that_gpu_was_made_the_current_one(monkeypatch):
    current = [0]
    for module in (torch.cuda, torch.xpu):
        monkeypatch.setattr(module, "is_available", lambda: True)
        monkeypatch.setattr(module, "device_count", lambda: 2)
        monkeypatch.setattr(module, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] != 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA GeForce GTX 1080")
    with pytest.raises(InputError, match="--dtype: found bf16, which NVIDIA GeForce GTX 1080 lacks; use --dtype fp16"):
        devices.check_device(Workload(model="tiny", device="cuda:1", dtype="bf16"))
    devices.check_device(Workload(model="tiny", device="cuda:0", dtype="bf16"))
    devices.check_device(Workload(model="tiny", device="xpu:1", dtype="bf16"))
    assert current == [0, 1, 0, 1]


def test_names_come_from_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 4090")
    assert devices.device_name("cuda:0") == "RTX 4090"
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda device: "Intel(R) Arc(TM) A770 Graphics")
    assert slug(devices.device_name("xpu:0")) == "intel-arc-a770-graphics"
    monkeypatch.setattr(devices, "_processor", lambda: "Apple M2")
    assert devices.device_name("mps") == "Apple M2"
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slug("???") == "device"
