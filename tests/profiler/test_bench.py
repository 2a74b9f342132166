"""The sweep on this machine's processor, and the path of a GPU with its parts replaced."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import BIN, refused, run

from edgesplit.common.errors import InputError
from edgesplit.common.files import read_record
from edgesplit.fitting.library import slug
from edgesplit.fitting.schemas import LatencyProfile
from edgesplit.profiler import bench
from edgesplit.profiler.journal import Journal
from edgesplit.profiler.telemetry import NOTHING, NoTelemetry, Reading
from edgesplit.profiler.timing import CpuTimer, CudaTimer, Settings, Visit
from edgesplit.profiler.workloads import Bench, Workload

QUICK = ["bench", "--device", "cpu", "--model", "tiny", "--batches", "1,2,4", "--max-seconds", "3"]
TINY = Workload(model="tiny", device="cpu", dtype="fp32")
HOT = Reading(**NOTHING.as_json() | {"throttled_by": ["hardware slowdown"], "energy_j": 1.0})


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", {}, resume=False)
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


def measure(journal, machine, batches=(1, 2, 4, 8), settings=Settings(max_seconds=0.5, precision=1e-6)):  # noqa: B008
    said = []
    done = bench.measure(Bench(TINY), machine, batches, settings, journal, said.append, lambda *_: None)
    return bench.make_profile(done, TINY, settings, 64, "mine"), said


def test_the_gpu_path_measures_what_fits_and_keeps_its_telemetry(journal):
    machine = bench.Machine(CpuTimer(), FakeGpu(), lambda unet, batch: batch <= 5)
    profile, said = measure(journal, machine)
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
    rng, now, measurement = np.random.default_rng(0), 0.0, bench.Measurement()
    for number in range(3000):
        batch = int(rng.integers(1, 5))
        now += 0.01 * batch
        measurement.samples.visits.append(Visit(round=number, batch=batch, durations_s=[0.005 * batch] * 2))
        counter = 300.0 * (now // 0.1) * 0.1  # 300 W
        measurement.readings.append(Reading(**NOTHING.as_json() | {"energy_j": counter}))
    joules = bench.energy_per_step(measurement)
    assert [joules[str(b)] for b in (1, 2, 3, 4)] == pytest.approx([1.5 * b for b in (1, 2, 3, 4)], rel=0.15)


def test_the_pause_before_a_resume_is_no_energy_of_a_step(tmp_path):
    path = tmp_path / "journal.jsonl"
    first = Journal(path, {}, resume=False)
    first.add(Visit(round=0, batch=1, durations_s=[0.1]), Reading(**NOTHING.as_json() | {"energy_j": -1e9}))
    first.close(remove=False)
    again = Journal(path, {}, resume=True)
    profile, _ = measure(again, bench.Machine(CpuTimer(), FakeGpu()), batches=(1, 2))
    again.close(remove=True)
    assert max(profile.telemetry["energy_per_step_j"].values()) < 1e3


def test_without_nvml_that_is_said_once(journal):
    profile, _ = measure(journal, bench.Machine(CpuTimer(), NoTelemetry()), batches=(1, 2))
    assert sum("NVML is absent" in note for note in profile.provenance.notes) == 1
    assert profile.telemetry["energy_per_step_j"] is None


@pytest.mark.parametrize(("batches", "most"), [((1, 2, 4), 1), ((8, 16), 4), ((8, 16), 8)])
def test_memory_for_fewer_than_two_of_the_sizes_is_refused(journal, batches, most):
    with pytest.raises(InputError, match=f"--batches: found .* but {most} image"):
        measure(journal, bench.Machine(CpuTimer(), None, lambda unet, batch: batch <= most), batches)


def test_a_search_that_ended_at_its_limit_says_so(journal, monkeypatch):
    monkeypatch.setattr(bench, "BATCH_LIMIT", 16)
    profile, _ = measure(journal, bench.Machine(CpuTimer(), None, lambda unet, batch: True), batches=(1, 2))
    assert profile.max_batch == 16
    assert any("ended at 16 images; more may fit" in note for note in profile.provenance.notes)


def test_running_out_of_memory_while_sampling_is_one_line(journal):
    class Leaking(CpuTimer):
        calls = 0

        def durations(self, step, count):
            self.calls += 1
            if self.calls > 20:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().durations(step, count)

    with pytest.raises(InputError, match=r"tiny does not fit into memory .* use a smaller"):
        measure(journal, bench.Machine(Leaking()))


def test_the_cuda_timer_reads_all_events_after_one_synchronisation(monkeypatch):
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

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))

    def step():
        clock[0] += 0.25 * (1 + log.count("record"))

    assert CudaTimer().durations(step, 3) == pytest.approx([0.5, 0.75, 1.0])
    assert log == ["record"] * 4 + ["synchronize"] + ["read"] * 3


def test_out_of_memory_is_caught_and_freed(monkeypatch):
    freed = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))

    class Full:
        def make_step(self, batch):
            def step():
                if batch > 5:
                    raise RuntimeError("canUse32BitIndexMath: input has more than INT_MAX elements")
                if batch > 3:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            return step

    assert [bench.fits_gpu(Full(), batch) for batch in (1, 3, 4, 6)] == [True, True, False, False]
    assert len(freed) == 4


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
        bench.probe(Broken(), CpuTimer())


@pytest.mark.parametrize(
    ("count", "device", "says"),
    [(0, "cuda:0", "no NVIDIA GPU is usable here; use --device cpu --model tiny"), (2, "cuda:2", "accepted: 0 to 1")],
)
def test_a_missing_gpu_is_refused_with_what_to_do(monkeypatch, count, device, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=says):
        bench.check_device(Workload(model="tiny", device=device))


def test_a_number_format_that_the_gpu_lacks_is_refused_after_that_gpu_was_made_the_current_one(monkeypatch):
    current = [0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: current[-1] != 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA GeForce GTX 1080")
    with pytest.raises(InputError, match="--dtype: found bf16, which NVIDIA GeForce GTX 1080 lacks; use --dtype fp16"):
        bench.check_device(Workload(model="tiny", device="cuda:1", dtype="bf16"))
    bench.check_device(Workload(model="tiny", device="cuda:0", dtype="bf16"))
    assert current == [0, 1, 0]


def test_names_come_from_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GeForce RTX 4090")
    assert bench.device_name("cuda:0") == "RTX 4090"
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert slug("???") == "device"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    result = run("hwprof", *QUICK, "--name", "My Laptop", XDG_DATA_HOME=str(home))
    assert result.returncode == 0, result.stderr
    return home, result


def test_bench_writes_an_own_profile_with_pictures_that_plan_and_show_find(measured):
    home, result = measured
    folder = home / "edgesplit" / "profiles"
    assert sorted(path.name for path in folder.iterdir()) == ["my-laptop.json", "my-laptop.png", "my-laptop.svg"]
    profile = read_record(folder / "my-laptop.json", LatencyProfile)
    assert [sample.batch for sample in profile.samples] == [1, 2, 4]
    assert all(len(sample.durations_s) == sample.n for sample in profile.samples)
    assert profile.provenance.kind == "measured"
    assert profile.telemetry["stopped_by"] in ("precision", "time")
    if profile.fit.slope_ci_s:  # on a busy machine too few undisturbed visits may be left for an interval
        assert profile.fit.slope_ci_s[0] <= profile.fit.slope_s <= profile.fit.slope_ci_s[1]
    shown = run("hwprof", "show", "My Laptop", XDG_DATA_HOME=str(home))
    assert shown.stdout == result.stdout
    planned = run("plan", "--users", users(home), "--edge", "my-laptop", "--json", XDG_DATA_HOME=str(home))
    assert json.loads(planned.stdout)["scenario"]["edge"]["slope_s"] == profile.fit.slope_s
    listed = run("hwprof", "list", XDG_DATA_HOME=str(home)).stdout.splitlines()
    assert listed[-1].split()[0] == "my-laptop"
    assert listed[-1].endswith("own, measured")
    assert max(map(len, listed)) <= 80


def users(folder):
    path = folder / "users.csv"
    path.write_text("user_id,device\na,rtx-3060\n")
    return path


def test_compare_tables_and_draws(measured, tmp_path):
    home, _ = measured
    picture = tmp_path / "two.png"
    result = run("hwprof", "compare", "my-laptop", "h200", "-o", picture, XDG_DATA_HOME=str(home))
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "my-laptop", "h200"]
    assert picture.exists()
    assert picture.with_suffix(".svg").exists()
    entries = json.loads(
        run("hwprof", "compare", "my-laptop", "h200", "-o", picture, "--json", XDG_DATA_HOME=str(home)).stdout
    )
    assert [entry["name"] for entry in entries] == ["my-laptop", "h200"]


def test_fit_takes_measurements_from_elsewhere(measured, tmp_path):
    home, _ = measured
    own = read_record(home / "edgesplit" / "profiles" / "my-laptop.json", LatencyProfile)
    rows = [f"{sample.batch},{seconds}" for sample in own.samples for seconds in sample.durations_s]
    (tmp_path / "theirs.csv").write_text("batch,duration_s\n" + "\n".join(rows))
    result = run("hwprof", "fit", tmp_path / "theirs.csv", "-o", tmp_path / "theirs.json", "--json")
    profile = json.loads(result.stdout)
    assert profile["name"] == "theirs"
    assert [s["median_s"] for s in profile["samples"]] == [s.median_s for s in own.samples]
    assert (tmp_path / "theirs.json").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "header: found '', accepted: columns batch and duration_s"),
        ("batch,seconds\n", "header: found 'batch,seconds'"),
        ("batch,duration_s\n", "no rows below the header"),
        ("batch,duration_s\n1,0.1\n", "found one batch size, accepted: two or more"),
        ("batch,duration_s\n1,0.1\nx,0.1\n", "line 3, column 'batch': found 'x', accepted: 1 to 4096"),
        ("batch,duration_s\n1,-1\n", "line 2, column 'duration_s': found '-1', accepted: a number"),
        ("batch,duration_s\n1\n", "line 2, column 'duration_s': found None"),
        ("batch,duration_s\n1,1e-13\n", "line 2, column 'duration_s': found '1e-13'"),
        ("batch,duration_s\n2_0,0.1\n", "line 2, column 'batch': found '2_0'"),
        ("batch,duration_s\n1,0.1,7\n", "line 2: found more fields than the header has, accepted: 2"),
        ("batch,duration_s\n1," + "1" * 140_000, "line 2: not CSV (field larger than field limit"),
    ],
)
def test_bad_samples_are_refused_in_one_line(tmp_path, text, says):
    (tmp_path / "theirs.csv").write_text(text)
    assert says in refused(run("hwprof", "fit", tmp_path / "theirs.csv", "-o", tmp_path / "x.json"))
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench", "--model", "tiny"], "no NVIDIA GPU is usable here"),
        (["bench", "--device", "cpu", "--model", "sd-15"], "did you mean 'sd15'?"),
        (["bench", "--device", "tpu"], "'--device'"),
        (
            ["bench", "--device", "cpu", "--batches", "4"],
            "--batches: found '4', accepted: 2 numbers or more",
        ),
        (["bench", "--device", "cpu", "--batches", "4:1"], "--batches: found '4:1'"),
        (["bench", "--device", "cpu", "--batches", "1,x"], "--batches: found '1,x'"),
        (["bench", "--device", "cpu", "--model", "tiny", "--cuda-graph"], "--cuda-graph: found --device cpu"),
        (["bench", "--device", "cpu", "--resolution", "100"], "--resolution: found 100, accepted: a multiple of 64"),
        (["bench", "--gpu", "-1"], "'--gpu'"),
        (["bench", "--device", "cpu", "--precision", "0"], "--precision: found 0.0"),
        (["bench", "--device", "cpu", "--max-seconds", "-1"], "--max-seconds: found -1.0"),
        ([*QUICK, "-o", "x.txt"], "x.txt: found suffix '.txt', accepted: .json"),
        ([*QUICK, "-o", "/dev/null/x.json"], "cannot make this folder"),
        (["show", "rtx-409"], "did you mean 'rtx-4090'?"),
        (["compare", "rtx-4090"], "found 1 profile, accepted: two or more"),
    ],
)
def test_wrong_use_is_one_line_with_exit_code_2(tmp_path, arguments, says):
    if torch.cuda.is_available() and "--device" not in arguments and arguments[0] == "bench":
        pytest.skip("this machine has the GPU whose absence is tested")
    assert says in refused(run("hwprof", *arguments, cwd=tmp_path, XDG_DATA_HOME=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "says"), [("--device", "--device: found ''"), ("--model", "--model: found ''")])
def test_fit_without_a_name_of_what_was_measured_is_refused(tmp_path, option, says):
    (tmp_path / "theirs.csv").write_text("batch,duration_s\n1,0.1\n2,0.2\n")
    assert says in refused(run("hwprof", "fit", tmp_path / "theirs.csv", option, "", "-o", tmp_path / "x.json"))


def test_fit_of_medians_alone_may_take_the_floor_model(tmp_path):
    """The public medians of an H200, seconds."""
    rows = "".join(f"{b},{s}\n" for b, s in [(1, 0.0249), (2, 0.0261), (4, 0.0388), (8, 0.0709), (16, 0.1272)])
    (tmp_path / "h200.csv").write_text("batch,duration_s\n" + rows)
    fit = json.loads(run("hwprof", "fit", tmp_path / "h200.csv", "-o", tmp_path / "x.json", "--json").stdout)["fit"]
    assert 0.0249 < fit["floor_s"] < 0.0261
    assert fit["slope_ci_s"] is None


@pytest.mark.parametrize("name", ["p.json", "p.png"])
def test_a_place_that_cannot_be_written_is_refused_before_the_measurement(tmp_path, name):
    (tmp_path / name).mkdir()
    assert f"{name}: cannot write" in refused(run("hwprof", *QUICK, "-o", tmp_path / "p.json"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("content", "says"), [("", "not a journal"), ("5\n", "not a journal"), (None, "cannot read")])
def test_what_is_no_journal_is_not_resumed(tmp_path, content, says):
    path = tmp_path / "p.journal.jsonl"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=says):
        Journal(path, {}, resume=True)


def test_a_spoiled_line_ends_what_is_resumed(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"config": {}}\n5\n{"visit": {}}\n')
    journal = Journal(path, {}, resume=True)
    journal.close(remove=True)
    assert journal.done == []


def test_a_spoiled_own_profile_does_not_hide_the_others(tmp_path):
    (tmp_path / "edgesplit" / "profiles").mkdir(parents=True)
    (tmp_path / "edgesplit" / "profiles" / "mine.json").write_text("{}")
    result = run("hwprof", "list", XDG_DATA_HOME=str(tmp_path))
    assert result.returncode == 0
    assert "mine.json" in result.stderr
    assert "rtx-4090" in result.stdout


def test_a_killed_run_resumes_from_its_journal(tmp_path):
    profile, journal = tmp_path / "p.json", tmp_path / "p.journal.jsonl"
    command = [BIN / "hwprof", *QUICK[:-1], "30", "-o", profile]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: journal.exists() and journal.read_text().count("\n") > 20, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not profile.exists()
    whole = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    journal.write_text(journal.read_text() + '{"visit": {"round"')  # a line cut short
    other = run("hwprof", *QUICK[:-3], "1,2", "--max-seconds", "3", "-o", profile, "--resume")
    assert "the interrupted run had other options: batches was [1, 2, 4] and is [1, 2]" in refused(other)
    result = run("hwprof", *QUICK, "-o", profile, "--resume")
    assert result.returncode == 0, result.stderr
    assert not journal.exists()
    visits = read_record(profile, LatencyProfile).telemetry["visits"]
    before = [entry["visit"] for entry in whole[1:]]
    assert [v["batch"] for v in visits[: len(before)]] == [v["batch"] for v in before]
    assert len(visits) > len(before)
    finished = profile.read_bytes()
    again = run("hwprof", *QUICK, "-o", profile, "--resume")
    assert "there is nothing to resume" in again.stderr
    assert (again.stdout, profile.read_bytes()) == (result.stdout, finished)


def wait_for(condition, process):
    for _ in range(600):
        if condition():
            return
        assert process.poll() is None, "the command ended early"
        time.sleep(0.1)
    raise TimeoutError


def test_a_journal_keeps_visits_and_readings(tmp_path):
    path, config = tmp_path / "j.jsonl", {"batches": [1, 2]}
    first = Journal(path, config, resume=False)
    visit = Visit(round=0, batch=2, durations_s=[0.1, 0.25])
    first.add(visit, HOT)
    first.close(remove=False)
    again = Journal(path, config, resume=True)
    assert again.done == [(visit, HOT)]
    again.close(remove=True)
    assert not Path(path).exists()


def test_without_the_extra_bench_says_what_to_install(tmp_path):
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        f"sys.argv = ['hwprof', *{QUICK!r}]\n"
        "from edgesplit.profiler.cli import main; main()"
    )
    assert "pip install 'edgesplit[models]'" in refused(run("python", "-c", code, cwd=tmp_path))
