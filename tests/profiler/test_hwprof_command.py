"""`hwprof` from its options to its exit code; killed and resumed as the installed command."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from commands import BIN, call, refused, run
from inprocess import run_here

from edgesplit import data
from edgesplit.common.files import read_record
from edgesplit.fitting.schemas import LatencyProfile
from edgesplit.optimizer.cli import main as plan_main
from edgesplit.profiler import devices, hwprof_command, quantize
from edgesplit.profiler.cli import main

QUICK = ["bench", "--device", "cpu", "--model", "tiny", "--batches", "1,2,4", "--max-seconds", "1"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    result = run_here(main, *QUICK, "--name", "My Laptop", XDG_DATA_HOME=str(home))
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
    shown = run_here(main, "show", "My Laptop", XDG_DATA_HOME=str(home))
    assert shown.stdout == result.stdout
    planned = run_here(plan_main, "--users", users(home), "--edge", "my-laptop", "--json", XDG_DATA_HOME=str(home))
    assert json.loads(planned.stdout)["scenario"]["edge"]["slope_s"] == profile.fit.slope_s
    listed = run_here(main, "list", XDG_DATA_HOME=str(home)).stdout.splitlines()
    assert listed[-1].split()[0] == "my-laptop"
    assert listed[-1].endswith("own, measured")
    assert max(map(len, listed)) <= 80


def users(folder):
    path = folder / "users.csv"
    path.write_text("user_id,device\na,rtx-3060\n")
    return path


def test_list_has_a_group_for_each_network_and_resolution_within_80_columns(tmp_path):
    listed = run_here(main, "list", XDG_DATA_HOME=str(tmp_path), COLUMNS="80").stdout.splitlines()
    assert max(map(len, listed)) <= 80
    groups, title = {}, ""
    for line in listed[1:]:
        title = line.strip() if line.strip().endswith(":") else title
        groups.setdefault(title, []).append(line.split()[0])
    assert [*groups] == ["SD 1.x, 512 px:", "SDXL, 1024 px:", "PixArt-Sigma, 1024 px:", "SD 2.x, 512 px:"]
    assert groups["SDXL, 1024 px:"][1:] == ["a100-80gb-sdxl", "a100-sxm4-40gb-sdxl"]
    assert {"rtx-4090", "h100-nvl", "snapdragon-x-elite"} <= {*groups["SD 1.x, 512 px:"]}
    phone = next(line for line in listed if line.startswith("iphone-14 "))
    assert phone.split() == ["iphone-14", "fp16", "389.00", "-", "-", "-", "published"]


def test_show_tells_how_far_the_fit_is_off_what_others_measured(tmp_path):
    lines = run_here(main, "show", "a100-sxm4-40gb", XDG_DATA_HOME=str(tmp_path)).stdout.splitlines()
    start = lines.index("measured by others, and no part of the fit:")
    assert lines[start + 3].split() == ["2", "35.30", "46.90", "+32.8%", "E1", "diffusers"]
    assert any(
        line.startswith("fit -8.3% to +32.8% off A100-SXM4-40GB, SD1.5 (openjourney-v4)") for line in lines[start:]
    )
    assert "measured by others" not in run_here(main, "show", "l4", XDG_DATA_HOME=str(tmp_path)).stdout
    assert "decoding a picture takes 31.0 ms" in run_here(main, "show", "rtx-4090").stdout


def test_compare_tables_and_draws(measured, tmp_path):
    home, _ = measured
    picture = tmp_path / "two.png"
    result = run_here(main, "compare", "my-laptop", "h200", "-o", picture, XDG_DATA_HOME=str(home))
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "my-laptop", "h200"]
    assert picture.exists()
    assert picture.with_suffix(".svg").exists()
    entries = json.loads(
        run_here(main, "compare", "my-laptop", "h200", "-o", picture, "--json", XDG_DATA_HOME=str(home)).stdout
    )
    assert [entry["name"] for entry in entries] == ["my-laptop", "h200"]


def test_compare_leaves_out_what_one_batch_size_does_not_tell(tmp_path):
    names = ["iphone-14", "h100-sxm5-80gb-pixart-sigma", "a100-80gb-sdxl"]
    printed = run_here(main, "compare", *names, "-o", tmp_path / "c.png", COLUMNS="80").stdout.splitlines()
    assert max(map(len, printed)) <= 80
    assert printed[1].split() == ["iphone-14", "-", "-", "-", "389.0", "-", "-", "-"]
    assert [line.split()[-1] for line in printed[2:]] == ["-", "-"]
    again = run_here(main, "compare", *names[::-1], "-o", tmp_path / "c.png").stdout.splitlines()
    assert [line.split()[-1] for line in again[1:]] == ["1.00", "0.52", "-"]


def test_fit_takes_measurements_from_elsewhere(measured, tmp_path):
    home, _ = measured
    own = read_record(home / "edgesplit" / "profiles" / "my-laptop.json", LatencyProfile)
    rows = [f"{sample.batch},{seconds}" for sample in own.samples for seconds in sample.durations_s]
    (tmp_path / "theirs.csv").write_text("batch,duration_s\n" + "\n".join(rows))
    result = run_here(main, "fit", tmp_path / "theirs.csv", "-o", tmp_path / "theirs.json", "--json")
    profile = json.loads(result.stdout)
    assert profile["name"] == "theirs"
    assert [s["median_s"] for s in profile["samples"]] == [s.median_s for s in own.samples]
    assert (tmp_path / "theirs.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bench", "--model", "tiny"], "no NVIDIA GPU is usable here"),
        (["bench", "--device", "cpu", "--model", "sd-15"], "did you mean 'sd15'?"),
        (["bench", "--device", "tpu"], "--device: found 'tpu', accepted: cuda, mps, xpu, cpu; see hwprof bench --help"),
        (
            ["bench", "--device", "cpu", "--batches", "4"],
            "--batches: found '4', accepted: 2 numbers or more",
        ),
        (["bench", "--device", "cpu", "--batches", "4:1"], "--batches: found '4:1'"),
        (["bench", "--device", "cpu", "--batches", "1,x"], "--batches: found '1,x'"),
        (["bench", "--device", "cpu", "--model", "tiny", "--cuda-graph"], "--cuda-graph: found --device cpu"),
        (["bench", "--device", "cpu", "--resolution", "100"], "found '100', accepted: multiples of 64"),
        (["bench", "--device", "cpu", "--resolution", "1024x700"], "found '1024x700', accepted: multiples of 64"),
        (["bench", "--device", "cpu", "--resolution", "1024x"], "found '1024x', accepted: multiples of 64"),
        (["bench", "--device", "cpu", "--resolution", "64x64x64"], "found '64x64x64', accepted: multiples of 64"),
        (
            ["bench", "--device", "cpu", "--resolution", "4160x64"],
            "found '4160x64', accepted: multiples of 64 up to 4096",
        ),
        (["bench", "--device", "cpu", "--quantize", "int4"], "--quantize: found 'int4', accepted: int8, fp8"),
        (["bench", "--device", "mps", "--cuda-graph"], "--cuda-graph: found --device mps, accepted: an NVIDIA GPU"),
        (["bench", "--gpu", "-1"], "--gpu: found '-1', accepted: 0 or more"),
        (["bench", "--device", "cpu", "--precision", "0"], "--precision: found 0.0"),
        (["bench", "--device", "cpu", "--max-seconds", "-1"], "--max-seconds: found -1.0"),
        ([*QUICK, "-o", "x.txt"], "x.txt: found suffix '.txt', accepted: .json"),
        ([*QUICK, "-o", "/dev/null/x.json"], "cannot make this folder"),
        (["show", "rtx-409"], "did you mean 'rtx-4090'?"),
        (["bench", "--device", "cpu", "--model", ""], "--model: found ''"),
        (["compare", "rtx-4090"], "found 1 profile, accepted: two or more"),
        (["compare", "rtx-4090", "h200", "-o", "/dev/stdout"], "/dev/stdout: found no file of pictures"),
        (["compare", "rtx-4090", "h200", "-o", "."], ".: found no file of pictures"),
        (["show", "x.json"], "x.json: cannot read: No such file or directory"),
        (["fit", "s.csv", "--resolution", "99999999999"], "found '99999999999', accepted: pixels up to 1000000"),
        (["fit", "s.csv", "-o", "p.txt"], "p.txt: found suffix '.txt', accepted: .json"),
    ],
)
def test_wrong_use_is_one_line_with_exit_code_2(tmp_path, arguments, says):
    if torch.cuda.is_available() and "--device" not in arguments and arguments[0] == "bench":
        pytest.skip("this machine has the GPU whose absence is tested")
    assert says in refused(run_here(main, *arguments, cwd=tmp_path, XDG_DATA_HOME=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "says"), [("--device", "--device: found ''"), ("--model", "--model: found ''")])
def test_fit_without_a_name_of_what_was_measured_is_refused(tmp_path, option, says):
    (tmp_path / "theirs.csv").write_text("batch,duration_s\n1,0.1\n2,0.2\n")
    assert says in refused(run_here(main, "fit", tmp_path / "theirs.csv", option, "", "-o", tmp_path / "x.json"))


@pytest.mark.parametrize(("text", "kept"), [("1024x768", "1024x768"), ("768x768", 768), ("768", 768)])
def test_a_resolution_is_a_square_s_side_or_width_and_height(tmp_path, text, kept):
    profile, _ = fitted(tmp_path, [(1, 0.05), (2, 0.07), (4, 0.11)], "--resolution", text)
    assert profile["resolution"] == kept
    assert f"sd15, {kept} px, fp16" in run_here(main, "show", tmp_path / "p.json").stdout
    talk = run_here(plan_main, "--users", users(tmp_path), "--edge", tmp_path / "p.json").stderr
    assert f"is of sd15 at {kept} pixels with guidance" in talk


def test_bench_measures_pictures_that_are_no_squares_and_what_a_user_waits_for_beside_the_steps(tmp_path):
    base = ["bench", "--device", "cpu", "--model", data.sample("toyworld/base"), "--resolution", "96x64"]
    result = run_here(main, *base, "--batches", "1,2", "--max-seconds", "0.5", "-o", tmp_path / "p.json", "--json")
    profile = json.loads(result.stdout)
    assert (profile["resolution"], profile["attention"], profile["quantization"]) == ("96x64", "flash", None)
    assert profile["decode_s"] == np.median(profile["telemetry"]["parts_s"]["decode_s"]) > 0
    assert profile["encode_s"] == np.median(profile["telemetry"]["parts_s"]["encode_s"]) > 0
    shown = run_here(main, "show", tmp_path / "p.json").stdout
    assert "96x64 px, fp32, with guidance, flash attention" in shown
    assert f"decoding a picture takes {1e3 * profile['decode_s']:.1f} ms" in shown


def test_quantising_without_torchao_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    line = refused(run_here(main, *QUICK, "--quantize", "int8", cwd=tmp_path))
    assert "--quantize: found int8, which needs torchao; pip install torchao" in line


def test_quantised_weights_are_named_in_the_profile(tmp_path, monkeypatch):
    """torchao in the place of its name; what it does to the weights is its own."""
    seen = []
    ao = types.ModuleType("torchao.quantization")
    ao.Int8WeightOnlyConfig, ao.quantize_ = (lambda: "int8 weights"), (lambda network, config: seen.append(config))
    monkeypatch.setitem(sys.modules, "torchao.quantization", ao)
    monkeypatch.setattr(quantize, "find_spec", lambda name: True)
    monkeypatch.setattr(devices, "version", lambda name: f"{name} 1")
    result = run_here(main, *QUICK, "--quantize", "int8", "-o", tmp_path / "p.json", "--json")
    profile = json.loads(result.stdout)
    assert (profile["quantization"], profile["provenance"]["versions"]["torchao"]) == ("int8", "torchao 1")
    assert seen == ["int8 weights"]
    assert "64 px, int8, with guidance" in run_here(main, "show", tmp_path / "p.json").stdout


def test_fit_of_medians_alone_may_take_the_floor_model(tmp_path):
    """The public medians of an H200, seconds."""
    rows = "".join(f"{b},{s}\n" for b, s in [(1, 0.0249), (2, 0.0261), (4, 0.0388), (8, 0.0709), (16, 0.1272)])
    (tmp_path / "h200.csv").write_text("batch,duration_s\n" + rows)
    fit = json.loads(run_here(main, "fit", tmp_path / "h200.csv", "-o", tmp_path / "x.json", "--json").stdout)["fit"]
    assert 0.0249 < fit["floor_s"] < 0.0261
    assert fit["slope_ci_s"] is None


def fitted(folder, rows, *options, **environment):
    """The profile that `hwprof fit` makes of (batch, seconds) rows, and what it said on stderr."""
    (folder / "theirs.csv").write_text("batch,duration_s\n" + "".join(f"{b},{s}\n" for b, s in rows))
    result = run_here(main, "fit", folder / "theirs.csv", "-o", folder / "p.json", "--json", *options, **environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(1, 500.0), (2, 800.0), (4, 1400.0)], "one step of one image takes 500 s by this profile"),
        ([(1, 0.05), (2, 0.07)], "a line goes through two batch sizes whatever was measured"),
        ([(1, 0.05), (2, 0.05), (4, 0.05)], "further images in a batch take no time (k = 0)"),
        ([(1, 0.05), (2, 0.07), (4, 0.5)], "the fit is poor"),
        ([(1, 0.05), (2, 0.07), (4, 0.11)], None),
    ],
)
def test_what_is_implausible_is_said_and_kept_with_the_profile(tmp_path, rows, says):
    profile, talk = fitted(tmp_path, rows)
    assert len(profile["provenance"]["notes"]) == (says is not None)
    if says:
        assert says in profile["provenance"]["notes"][0]
        assert says in talk
        assert says in run_here(main, "show", tmp_path / "p.json").stdout


def test_names_in_any_script_stay_apart_and_are_found_and_numbers_are_whole(tmp_path):
    (tmp_path / "s.csv").write_text("batch,duration_s\n1,1301.5\n2,1401.5\n4,1601.5\n")
    home = {"XDG_DATA_HOME": str(tmp_path)}
    for name in ("显卡一", "显卡二", "видеокарта"):
        result = run_here(main, "fit", tmp_path / "s.csv", "--name", name, "--model", "模型" * 20, **home)
        assert result.returncode == 0, result.stderr
        assert run_here(main, "show", name, **home).stdout == result.stdout
    listed = run_here(main, "list", COLUMNS="40", **home).stdout.splitlines()
    assert len({line.split()[0] for line in listed[-3:]}) == 3
    assert listed[-4].strip() == "模型模型模型~, 512 px:"
    assert all(line.endswith("own, measured") for line in listed[-3:])
    assert all(line.split()[-5:-3] == ["100000.00", "1201500.00"] for line in listed[-3:])


@pytest.mark.parametrize("name", ["p.json", "p.png"])
def test_a_place_that_cannot_be_written_is_refused_before_the_measurement(tmp_path, name):
    (tmp_path / name).mkdir()
    assert f"{name}: cannot write" in refused(run_here(main, *QUICK, "-o", tmp_path / "p.json"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_spoiled_own_profile_does_not_hide_the_others(tmp_path):
    (tmp_path / "edgesplit" / "profiles").mkdir(parents=True)
    (tmp_path / "edgesplit" / "profiles" / "mine.json").write_text("{}")
    result = run_here(main, "list", XDG_DATA_HOME=str(tmp_path))
    assert result.returncode == 0
    assert "mine.json" in result.stderr
    assert "rtx-4090" in result.stdout


def test_a_killed_run_goes_on_from_its_journal_and_bars_a_second_one(tmp_path):
    profile, journal = tmp_path / "p.json", tmp_path / "p.journal.jsonl"
    command = [BIN / "hwprof", *QUICK[:-1], "30", "-o", profile]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: journal.exists() and journal.read_text().count("\n") > 20, process)
    assert "another hwprof bench is at work here" in refused(run_here(main, *QUICK, "-o", profile))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not profile.exists()
    whole = [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]
    journal.write_text(journal.read_text() + '{"visit": {"round"')  # a line cut short
    other = run_here(main, *QUICK[:-3], "1,2", "--max-seconds", "3", "-o", profile)
    assert "an interrupted run had other options: batches was [1, 2, 4] and is [1, 2]; repeat" in refused(other)
    result = run_here(main, *QUICK, "-o", profile)
    assert result.returncode == 0, result.stderr
    assert not journal.exists()
    before = [entry["visit"] for entry in whole if "visit" in entry]
    assert f"hwprof: goes on with the {len(before)} visits of an interrupted run; --fresh begins anew" in result.stderr
    visits = read_record(profile, LatencyProfile).telemetry["visits"]
    assert [v["batch"] for v in visits[: len(before)]] == [v["batch"] for v in before]
    assert len(visits) > len(before)
    finished = profile.read_bytes()
    again = run_here(main, *QUICK, "-o", profile, "--resume")
    assert "there is nothing to resume" in again.stderr
    assert (again.stdout, profile.read_bytes()) == (result.stdout, finished)
    anew = run_here(main, *QUICK, "-o", profile)
    assert "goes on" not in anew.stderr
    assert profile.read_bytes() != finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "p.png", "p.svg"]


def test_ctrl_c_says_that_the_same_command_goes_on_and_fresh_does_not(tmp_path, monkeypatch):
    def pressed(self, samples, visit):
        if len(samples.visits) > 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hwprof_command._Shown, "__call__", pressed)
        result = run_here(main, *QUICK, "-o", tmp_path / "p.json")
    assert result.returncode == 130
    assert result.stderr.splitlines()[-1] == "hwprof: interrupted; the same command goes on from here"
    assert "hwprof: 0 of 1 seconds, warming up" in result.stderr
    anew = run_here(main, *QUICK, "-o", tmp_path / "p.json", "--fresh", "--json")
    assert (anew.returncode, "goes on" in anew.stderr) == (0, False)
    assert json.loads(anew.stdout)["telemetry"]["visits"][0]["round"] == 0


def test_resume_and_fresh_together_are_refused(tmp_path):
    assert "--fresh: found --resume as well" in refused(run_here(main, *QUICK, "--resume", "--fresh", cwd=tmp_path))


def wait_for(condition, process):
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, "the command ended early"
        time.sleep(0.1)
    raise TimeoutError


def test_without_the_extra_bench_says_what_to_install(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    assert "pip install 'edgesplit[models]'" in refused(run_here(main, *QUICK, cwd=tmp_path))


def test_help_stays_where_python_leaves_docstrings_out():
    for words in (["--help"], ["bench", "--help"]):
        assert run("hwprof", *words, PYTHONOPTIMIZE="2").stdout == call("hwprof", *words).stdout


def test_a_home_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "s.csv").write_text("batch,duration_s\n1,0.1\n2,0.2\n3,0.3\n")
    for command in (["fit", tmp_path / "s.csv"], QUICK):
        line = refused(run_here(main, *command, XDG_DATA_HOME="/dev/null"))
        assert "/dev/null/edgesplit/profiles: cannot make this folder: Not a directory" in line
    assert run_here(main, "list", XDG_DATA_HOME="/dev/null").returncode == 0


def test_torch_is_imported_by_a_measurement_alone(tmp_path):
    (tmp_path / "s.csv").write_text("batch,duration_s\n1,0.1\n2,0.2\n3,0.3\n")
    cpu = ["bench", "--device", "cpu"]
    wrong = [
        [*cpu, "--model", "none"], [*cpu, "--batches", "1"], [*cpu, "--resolution", "1"], [*cpu, "--precision", "0"],
        [*cpu, "--max-seconds", "0"], [*cpu, "-o", "p.txt"], [*cpu, "--cuda-graph"], [*cpu, "--resume", "--fresh"],
        ["bench", "--gpu", "x"], ["bench", "-o", "p.txt"], ["show", "none"], ["compare", "h200"],
    ]  # fmt: skip
    right = [["fit", "s.csv", "-o", "p.json"], ["list"], ["show", "p.json"], ["compare", "p.json", "h200"]]
    code = (
        "import json, sys\nfrom edgesplit.profiler.cli import main\ncodes = []\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:] = arguments\n"
        "    try:\n        main()\n    except SystemExit as left:\n        codes.append(left.code)\n"
        "print(json.dumps([codes, 'torch' in sys.modules]))"
    )
    command = [sys.executable, "-c", code, json.dumps(wrong + right)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == [[2] * len(wrong) + [0] * len(right), False], result.stderr
