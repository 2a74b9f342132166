"""The sweep on this machine's processor, and the path of a GPU with its parts replaced."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from commands import BIN, refused, run

from edgesplit.common.errors import InputError
from edgesplit.common.files import read_record
from edgesplit.fitting.library import slug
from edgesplit.fitting.schemas import LatencyProfile
from edgesplit.profiler import bench
from edgesplit.profiler.journal import Journal
from edgesplit.profiler.telemetry import NOTHING, Reading
from edgesplit.profiler.timing import CpuTimer, Settings, Visit
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
    """Telemetry of a GPU whose energy counter rises by 3 J a look, and which was throttled once."""

    missing = ("power_w",)

    def __init__(self):
        self.looks = 0

    def read(self):
        self.looks += 1
        reasons = ["hardware slowdown"] if self.looks == 3 else []
        return Reading(
            **NOTHING.as_json() | {"throttled_by": reasons, "energy_j": 3.0 * self.looks, "other_processes": 2}
        )


def measure(journal, machine, batches=(1, 2, 4, 8), said=None):
    said = [] if said is None else said
    settings = Settings(max_seconds=0.5)
    done = bench.measure(Bench(TINY), machine, batches, settings, journal, said.append, lambda *_: None)
    return bench.make_profile(done, TINY, settings, 64, "mine"), done, said


def test_the_gpu_path_measures_what_fits_and_keeps_its_telemetry(journal):
    machine = bench.Machine(CpuTimer(), FakeGpu(), lambda unet, batch: batch <= 5)
    (profile, fit), done, said = measure(journal, machine)
    assert [sample.batch for sample in profile.samples] == [1, 2, 4]
    assert profile.max_batch == 5
    assert "2 other process(es)" in said[0]
    assert "batches above 5 do not fit" in said[1]
    assert profile.telemetry["throttled_visits"] == 1
    assert any(line.startswith("1 of ") and "throttled" in line for line in bench.notices(done, fit))
    assert any("does not report: power_w" in line for line in bench.notices(done, fit))
    per_step = profile.telemetry["energy_per_step_j"]
    counts = {visit["batch"]: visit["steps"] for visit in profile.telemetry["visits"]}
    assert {int(batch): joules for batch, joules in per_step.items()} == {b: 3 / counts[b] for b in (1, 2, 4)}


def test_a_gpu_without_memory_for_one_image_is_refused(journal):
    with pytest.raises(InputError, match="not even one image fits"):
        measure(journal, bench.Machine(CpuTimer(), None, lambda unet, batch: False))


def test_out_of_memory_is_caught_and_freed(monkeypatch):
    freed = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))

    class Full:
        def make_step(self, batch):
            def step():
                if batch > 3:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            return step

    assert [bench.fits_gpu(Full(), batch) for batch in (1, 3, 4)] == [True, True, False]
    assert len(freed) == 3


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "not even one image of tiny fits into memory"),
        (RuntimeError("\"conv\" not implemented for 'Half'"), "cannot run tiny as fp32 .*use another --dtype"),
    ],
)
def test_what_the_device_cannot_do_is_one_line(error, says):
    class Broken:
        workload = TINY

        def make_step(self, batch):
            raise error

    with pytest.raises(InputError, match=says):
        bench.probe(Broken())


@pytest.mark.parametrize(
    ("count", "device", "says"),
    [(0, "cuda:0", "no NVIDIA GPU is usable here; use --device cpu --model tiny"), (2, "cuda:2", "accepted: 0 to 1")],
)
def test_a_missing_gpu_is_refused_with_what_to_do(monkeypatch, count, device, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=says):
        bench.check_device(Workload(model="tiny", device=device))


def test_a_number_format_that_the_gpu_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA GeForce GTX 1080")
    with pytest.raises(InputError, match="--dtype: found bf16, which NVIDIA GeForce GTX 1080 lacks; use --dtype fp16"):
        bench.check_device(Workload(model="tiny", device="cuda:0", dtype="bf16"))


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
    # On a busy machine too few undisturbed visits may be left for an interval.
    low, high = profile.fit.slope_ci_s or (profile.fit.slope_s, profile.fit.slope_s)
    assert low <= profile.fit.slope_s <= high
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
    assert (again.visits(), again.readings()) == ([visit], [HOT])
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
