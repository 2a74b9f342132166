"""The installed `plan` command."""

import csv
import json
import os
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from commands import BIN, MINUTES, call, refused, run
from oracles import make_scenario, make_users, plan_value
from rich.cells import cell_len

from edgesplit import data
from edgesplit.fitting.latency import LatencyModel
from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.optimizer.inputs.users import read_users
from edgesplit.optimizer.methods.exact import optimum
from edgesplit.optimizer.methods.registry import BUILT_IN
from edgesplit.service.price_policy import load_price_policy
from edgesplit.service.scheduler import Load

USERS = data.sample("users.csv")
PROGRAMS = ["ilp-fixed", "ilp-products", "ilp-rlt", "ilp-joint"]
PLAN_COLUMNS = [
    "user_id", "decision", "local_steps", "offloaded_steps", "pai", "latency_s", "wait_s", "transmit_s",
    "edge_s", "local_s", "alpha", "qoe",
]  # fmt: skip
TOTALS = [
    "objective", "all_local_objective", "optimum_objective", "gap", "captured_share", "granted",
    "edge_step_latency_s", "mean_latency_s", "p95_latency_s", "mean_pai", "all_local_mean_latency_s",
    "all_local_p95_latency_s", "all_local_mean_pai", "gap_rounding_s",
]  # fmt: skip


def plan_json(*arguments):
    result = call("plan", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def celled(tmp_path):
    rows = list(csv.reader(USERS.read_text().splitlines()))
    named = [[*row, ["north", "south"][i % 2]] for i, row in enumerate(rows)]
    named[0][-1] = "cell"
    path = tmp_path / "celled.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows(named)
    return path


def test_json_has_the_agreed_keys_and_recomputes_from_its_own_numbers():
    result = plan_json("--users", USERS, "--method", "exact")
    assert list(result) == ["method", *TOTALS, "planning_s", "scenario", "users"]
    assert result["method"] == "exact"
    s, rows = result["scenario"], result["users"]
    assert all(list(row) == PLAN_COLUMNS for row in rows)
    scenario = make_scenario(**s | {"edge": LatencyModel(**s["edge"]), "pai": PaiCurve(**s["pai"])})
    n = np.array([row["local_steps"] for row in rows])
    latency = np.array([row["local_s"] for row in rows]) / n
    slot = [round(s["slots"] - row["wait_s"] * s["slots"] / s["interval_s"]) for row in rows]
    users = make_users(latency, [row["alpha"] for row in rows], slot)
    granted = np.array([row["decision"] == "grant" for row in rows])
    assert plan_value(scenario, users, granted, n) == pytest.approx(result["objective"], rel=1e-12)
    assert sum(row["qoe"] for row in rows) == pytest.approx(result["objective"], rel=1e-12)
    again = optimum(scenario, users)
    np.testing.assert_array_equal(again.granted, granted)
    np.testing.assert_array_equal(again.local_steps, n)
    assert result["granted"] == granted.sum()
    assert (result["gap"], result["captured_share"]) == (0, 1)


def test_csv_parquet_and_json_agree(tmp_path):
    rows = plan_json("--users", USERS)["users"]
    for name, read in (("plan.csv", pd.read_csv), ("plan.parquet", pd.read_parquet)):
        result = plan_json("--users", USERS, "-o", tmp_path / name)
        assert "users" not in result
        pd.testing.assert_frame_equal(read(tmp_path / name), pd.DataFrame(rows), check_exact=True, check_dtype=False)


def test_same_input_same_output_byte_for_byte(tmp_path):
    first, second = (run("plan", "--users", USERS, "-o", tmp_path / name) for name in ("a.csv", "b.csv"))
    assert first.stdout == second.stdout != ""
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_cells_come_with_their_totals(celled):
    result = plan_json("--users", celled)
    assert [cell["cell"] for cell in result["cells"]] == ["south", "north"]
    assert all(list(cell) == ["cell", *TOTALS] for cell in result["cells"])
    for key in ("objective", "all_local_objective", "optimum_objective", "granted"):
        assert result[key] == pytest.approx(sum(cell[key] for cell in result["cells"]))
    assert list(result["users"][0])[:2] == ["user_id", "cell"]


def test_the_default_is_drl_convex_with_its_proven_gap():
    result, exact = plan_json("--users", USERS), plan_json("--users", USERS, "--method", "exact")
    assert result["method"] == "drl"
    assert result["optimum_objective"] == exact["objective"]
    assert 0.98 < result["captured_share"] <= 1
    named = plan_json("--users", USERS, "--policy", "set-general")
    assert (named.pop("policy"), named.pop("fall_backs")) == ("set-general", [])
    assert named["users"] == result["users"]


def test_a_policy_out_of_its_range_falls_back_with_a_notice():
    done = call("plan", "--users", USERS, "--policy", "paper-general", "--max-batch", "7", "--json")
    result = json.loads(done.stdout)
    assert "policy paper-general: max_batch 7, trained for 20; planned exactly instead" in done.stderr
    assert (result["gap"], result["policy"], len(result["fall_backs"])) == (0, "paper-general", 1)


def test_orders_are_for_policies_of_the_papers_network():
    result = plan_json("--users", USERS, "--policy", "gpu-8", "--orders", "4")
    assert (result["policy"], result["orders"]) == ("gpu-8", 4)
    assert "the best plan of 4 orders of the users" in result["note"]
    for command in (["plan", "--users", USERS], ["plan", "evaluate"]):
        line = refused(call(*command, "--orders", "4"))
        assert "--orders: found policy 'set-general', which has an order of its own, accepted: one of the" in line


def test_every_method_runs_and_none_beats_the_optimum():
    for method in BUILT_IN:
        few = ["--population", "20", "--generations", "10"] if "genetic" in method else []
        result = plan_json("--users", USERS, "--method", method, *few)
        assert result["method"] == method
        assert result["objective"] + result["gap"] == pytest.approx(result["optimum_objective"])
    other = plan_json("--users", USERS, "--method", "offload-all-fixed", "--fixed-offload", "80")
    assert {row["local_steps"] for row in other["users"]} == {120}


def test_a_policy_that_prices_rounds_plans_one_beside_others(tmp_path):
    policy = load_price_policy("mixed")
    result = plan_json("--users", USERS, "--method", "learned", "--policy", "mixed", "--in-flight", "30")
    scenario = load_scenario("default")
    users = read_users(USERS, scenario)
    load = Load(in_flight=30, gpus=scenario.gpus, arrivals_per_s=len(users) / scenario.interval_s)
    plan = policy.plan(scenario, load, users)
    assert result["policy"] == plan_json("--users", USERS, "--method", "learned")["policy"] == "mixed"
    assert result["gap"] > 0  # room is left for those who come next
    assert [row["local_steps"] for row in result["users"]] == plan.local_steps.tolist()
    assert "priced for requests of later rounds" in result["note"]
    line = refused(call("plan", "--users", USERS, "--method", "learned", "--policy", "paper-general"))
    assert "--policy: found 'paper-general', accepted: a name or a .safetensors file" in line
    line = refused(call("plan", "--users", USERS, "--method", "exact", "--policy", "mixed"))
    assert line == "plan: --policy: found --method exact, accepted: --method drl or --method learned or --compare\n"
    line = refused(call("plan", "--users", USERS, "--method", "learned", "--compare"))
    assert "--compare: found --method learned, which is not compared, accepted: another method" in line
    sweep = call(
        "plan", "--users", USERS, "--method", "learned", "--gpu-sweep", "1:3", "--json", "-o", tmp_path / "g.png"
    )
    assert json.loads(sweep.stdout)["policy"] == "mixed"
    assert sweep.stderr.count("priced for requests of later rounds") == 1


@pytest.mark.parametrize("method", PROGRAMS)
def test_a_solver_says_its_status_and_bound_in_plain_plans_too(method, tmp_path):
    words = f"plan: {method}: optimal for its form, gap 0: gain "
    plain = call("plan", "--users", USERS, "--method", method)
    as_json = call("plan", "--users", USERS, "--method", method, "--json", "-o", tmp_path / "plan.csv")
    assert words in plain.stderr
    assert words in as_json.stderr
    assert f"plan: {method}: {json.loads(as_json.stdout)['note']}\n" in as_json.stderr


@pytest.mark.parametrize(
    ("option", "method", "accepted"),
    [
        ("--seed", "exact", "--method genetic or --method genetic-joint or --method memetic"),
        ("--population", "drl", "--method genetic or --method genetic-joint"),
        ("--generations", "ilp-fixed", "--method genetic or --method genetic-joint"),
        ("--time-limit", "genetic", " or ".join(f"--method {name}" for name in PROGRAMS)),
    ],
)
def test_an_option_that_the_method_does_not_read_is_refused(option, method, accepted):
    line = refused(call("plan", "--users", USERS, "--method", method, option, "9"))
    assert line == f"plan: {option}: found --method {method}, accepted: {accepted} or --compare\n"


def test_compare_lists_all_methods():
    few = ["--population", "20", "--generations", "10"]
    methods = plan_json("--users", USERS, "--compare", *few)["methods"]
    assert [entry["method"] for entry in methods] == [
        name for name, entry in BUILT_IN.items() if entry.compared and not entry.servers
    ]
    notes = {entry["method"]: entry.pop("note", None) for entry in methods}
    assert {name for name, note in notes.items() if note} == set(PROGRAMS)
    assert all(list(entry) == ["method", *TOTALS, "planning_s"] for entry in methods)
    text = call("plan", "--users", USERS, "--compare", *few).stdout
    assert all(entry["method"] in text for entry in methods)
    assert "ilp-joint: optimal for its form, gap 0" in text


def test_compare_leaves_slow_methods_out_for_many_users(tmp_path):
    many = tmp_path / "many.csv"
    many.write_text("user_id,step_latency_s\n" + "".join(f"u{i},0.5\n" for i in range(201)))
    done = call("plan", "--users", many, "--compare")
    left_out = ", ".join(["genetic", "genetic-joint", "memetic", *PROGRAMS])
    assert f"left out {left_out} for as many as 201 users" in done.stderr
    assert "genetic" not in done.stdout


def test_gpu_sweep_prints_draws_and_marks_the_knee(tmp_path):
    picture = tmp_path / "gpus.svg"
    result = call("plan", "--users", USERS, "--gpu-sweep", "1:5:2", "-o", picture)
    assert result.returncode == 0, result.stderr
    *rows, words = result.stdout.splitlines()
    assert [line.split()[0] for line in rows] == ["GPUs", "1", "3", "5"]
    assert words.startswith("knee of 1 to 5 GPUs at 3: ")
    assert picture.read_text().startswith("<?xml")
    alone = plan_json("--users", USERS, "--gpus", "3")
    swept = plan_json("--users", USERS, "--gpu-sweep", "3:3", "-o", picture)["points"]
    assert swept[0]["objective"] == alone["objective"]


def test_gpu_sweep_draws_beside_the_users_file_by_default(tmp_path):
    users = tmp_path / "mine.csv"
    users.write_bytes(USERS.read_bytes())
    assert call("plan", "--users", users, "--gpu-sweep", "1:3").returncode == 0
    assert (tmp_path / "mine.gpu-sweep.png").read_bytes().startswith(b"\x89PNG")


def test_terminal_output_fits_80_columns_and_is_not_read_as_markup(celled, tmp_path):
    odd = tmp_path / "odd.csv"
    odd.write_text('user_id,step_latency_s\n[red]bold[/red],0.5\n"a\u200bb",0.7\n' + "x" * 300 + ",0.9\n")
    for path in (USERS, celled, odd):
        for extra in ([], ["--compare", "--population", "8", "--generations", "3"]):
            result = call("plan", "--users", path, *extra)
            assert result.returncode == 0, result.stderr
            assert max(map(len, result.stdout.splitlines())) <= 80
    assert "[red]bold" in call("plan", "--users", odd).stdout


@pytest.mark.parametrize("columns", ["100", "80", "60"])
def test_names_in_any_script_leave_columns_straight_and_numbers_whole(tmp_path, columns):
    users = tmp_path / "users.csv"
    rows = [
        "张伟的非常长的用户名字,0.5,北京市海淀区中关村大街",
        "👩\u200d👩\u200d👧family,0.7,🏙️",
        "کاربر\u200cها,0.4,ábc",
    ]
    users.write_text("user_id,step_latency_s,cell\n" + "\n".join(rows) + "\n")
    text = call("plan", "--users", users, COLUMNS=columns).stdout
    columns_of = plan_json("--users", users)["users"]
    table, cells, _ = text.split("\n\n")
    assert "\u2026" not in text
    assert "👩👩👧" in text
    assert len({cell_len(line) for line in table.splitlines()[1:]}) == 1
    assert len({cell_len(line) for line in cells.splitlines()}) == 1
    for line, row in zip(table.splitlines()[2:], columns_of, strict=True):
        numbers = [f"{row[key]:.2f}" for key in ("latency_s", "transmit_s", "edge_s", "local_s")]
        assert line.split()[-7:] == [numbers[0], "-", *numbers[1:], f"{row['pai']:.3f}", f"{row['qoe']:.2f}"]


def test_a_long_list_is_shortened_in_words(tmp_path):
    many = tmp_path / "many.csv"
    many.write_text("user_id,step_latency_s\n" + "".join(f"u{i},0.5\n" for i in range(1000)))
    result = call("plan", "--users", many)
    assert "... and 940 more users: -o plan.csv writes all of them" in result.stdout


def test_init_writes_files_that_plan_runs_on_and_never_overwrites(tmp_path):
    folder = tmp_path / "new"
    assert run("plan", "init", folder).returncode == 0
    result = plan_json("--users", folder / "users.csv", "--scenario", folder / "scenario.json")
    assert result["objective"] == plan_json("--users", USERS)["objective"]
    (folder / "users.csv").write_text("mine")
    assert "is there already" in refused(run("plan", "init", folder))
    assert (folder / "users.csv").read_text() == "mine"
    assert run("plan", "init", folder, "--force").returncode == 0
    assert (folder / "users.csv").read_bytes() == USERS.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--users: found nothing, accepted: a users file"),
        (["--users", "missing.csv"], "missing.csv: cannot read: No such file"),
        (["--users", "."], ".: cannot read: Is a directory"),
        (["--users", "missing.parquet"], "missing.parquet: cannot read"),
        (["--users", USERS, "--gpu", "3"], "No such option: --gpu"),
        (["--users", USERS, "--gpus", "many"], "--gpus: found 'many', accepted: a whole number"),
        (["--users", USERS, "--gpus", "0"], "--gpus: found 0"),
        (["--users", USERS, "--method", "exakt"], r"method: found 'exakt', .*did you mean 'exact'\?"),
        (["--users", USERS, "--method", "no.such:f"], r"method no.such:f: cannot import no.such \(ModuleNotFound"),
        (["--users", USERS, "--method", "math:no"], "method math:no: found no 'no' in math, accepted: the name of a"),
        (["users.csv"], "found 'users.csv', accepted: .*; for a file type `plan --users users.csv`"),
        (
            ["--users", USERS, "--fixed-offload", "500", "--method", "offload-all-fixed"],
            "--fixed-offload: found 500",
        ),
        (["--users", USERS, "--fixed-offload", "80"], "--fixed-offload: found --method drl, accepted: --method off"),
        (["--users", USERS, "--compare", "--gpu-sweep", "1:3"], "--compare, --gpu-sweep: found both"),
        (["--users", USERS, "--gpu-sweep", "0:3"], "--gpu-sweep: found '0:3', accepted: numbers from 1"),
        (["--users", USERS, "--gpu-sweep", "4:1"], "--gpu-sweep: found '4:1'"),
        (
            ["--users", USERS, "--gpu-sweep", "1:4", "-o", "x.csv"],
            "x.csv: found suffix '.csv', accepted: .png",
        ),
        (["--users", USERS, "--total-steps", "100", "-o", "x.txt"], "x.txt: found suffix '.txt'"),
        (["--users", USERS, "-o", USERS], "which is the users file, accepted: another file"),
        (["--users", USERS, "-o", "plan.txt"], "plan.txt: found suffix '.txt', accepted: .csv or .parquet"),
        (["--users", USERS, "-o", "no/such/plan.csv"], "plan.csv: cannot write: No such file"),
        (["--users", USERS, "--scenario", "none.json"], "none.json: cannot read"),
        (["--users", USERS, "surplus"], "No such command"),
        (["--users"], "requires an argument"),
    ],
)
def test_wrong_use_is_one_line_with_exit_code_2(arguments, says, tmp_path):
    line = refused(call("plan", *arguments, cwd=tmp_path))
    assert line.startswith("plan: ")
    import re

    assert re.search(says, line), line
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_keeps_the_old_plan(tmp_path):
    target = tmp_path / "plan.csv"
    target.mkdir()
    assert "cannot write" in refused(call("plan", "--users", USERS, "-o", target))
    assert target.is_dir()


@pytest.mark.parametrize("subcommand", ["init", "train", "evaluate"])
def test_the_help_of_subcommands_is_no_docstring(subcommand):
    """Python leaves docstrings out with -OO."""
    bare = run("plan", subcommand, "--help", PYTHONOPTIMIZE="2")
    assert bare.stdout == call("plan", subcommand, "--help").stdout
    assert bare.stdout.splitlines()[2].startswith("  ")


def test_help_names_every_option_and_takes_no_heavy_import():
    help_text = call("plan", "--help").stdout
    for option in ("--users", "--scenario", "--edge", "--pai", "--gpus", "--max-batch", "--bandwidth-mhz",
                   "--latent-bits", "--total-steps", "--min-local-steps", "--method", "--fixed-offload",
                   "--compare", "--gpu-sweep", "--json", "--output"):  # fmt: skip
        assert option in help_text
    assert max(map(len, help_text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        (["--help"], ["torch", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn", "pydantic"]),
        (["--users", str(USERS)], ["torch", "scipy.optimize", "pandas", "matplotlib", "seaborn", "pyarrow"]),
    ],
)
def test_commands_import_only_what_they_need(arguments, banned):
    code = (
        "import sys\nfrom edgesplit.optimizer.cli import main\n"
        f"sys.argv = ['plan', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
        f"print([name for name in {banned!r} if name in sys.modules], file=sys.stderr)"
    )
    result = run("python", "-c", code)
    assert result.stderr.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    many = tmp_path / "many.csv"
    many.write_text("user_id,step_latency_s\n" + "".join(f"u{i},0.5\n" for i in range(20_000)))
    process = subprocess.Popen(
        [BIN / "plan", "--users", many, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(5 * MINUTES) == 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_a_full_or_closed_stdout_is_no_traceback():
    for redirection, code in ((">/dev/full", 2), (">&-", 0)):
        result = run("bash", "-c", f"exec '{BIN / 'plan'}' --users '{USERS}' {redirection}")
        assert result.returncode == code, result
        assert "Traceback" not in result.stderr
        assert ("stdout: cannot write" in result.stderr) == (code == 2)


def test_ctrl_c_is_one_line_with_exit_code_130(tmp_path):
    fifo = tmp_path / "users.csv"
    os.mkfifo(fifo)  # reading blocks until interrupted
    # A test run in the background of a script ignores SIGINT, and the command would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [BIN / "plan", "--users", fifo]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        writer = open_when_read(fifo)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=5 * MINUTES)
        os.close(writer)
    assert process.returncode == 130
    assert (out, errors) == (b"", b"plan: interrupted\n")


def open_when_read(fifo):
    """The writing end, once the command has opened the reading one."""
    for _ in range(10 * 5 * MINUTES):
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.1)
    raise TimeoutError
