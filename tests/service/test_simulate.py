"""`edgesplit simulate` and `simulate tune`: what they print and write, what they refuse, and how a run goes on."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import call_root, refused
from worlds import random_world

from edgesplit import data
from edgesplit.common.errors import InputError
from edgesplit.service import outcome
from edgesplit.service.comparison import find_way, play_way
from edgesplit.service.hindsight import Ascent, hindsight
from edgesplit.service.price_file import load_prices
from edgesplit.service.scheduler import Load, price
from edgesplit.service.simulate_command import _bisect
from edgesplit.service.simulator import Simulation, fixed
from edgesplit.service.summary import ServiceTotals, falls_behind, parse_goal
from edgesplit.service.tuning import START

QUICK = ["--arrivals", "poisson:3", "--rounds", "12", "--bandwidth-mhz", "20"]
KEYS = {
    "qoe_per_user", "gain_per_user", "share_of_hindsight", "mean_latency_s", "p50_latency_s", "p95_latency_s",
    "p99_latency_s", "mean_pai", "share_granted", "gpu_use", "radio_use", "share_given_up", "gain_ci",
}  # fmt: skip


def simulated(*options):
    result = call_root("simulate", *QUICK, *options, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_defaults_do_the_whole_job():
    result = call_root("simulate", "--rounds", "5")
    assert result.returncode == 0, result.stderr
    assert "price" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_a_comparison_has_all_local_and_hindsight_and_equal_arrivals(tmp_path):
    found = simulated("--compare", "blind,aware,price,trained,exact", "--worlds", "2", "-o", tmp_path / "out")
    methods = found["methods"]
    assert list(methods) == ["all-local", "blind", "aware", "price", "trained", "exact", "hindsight"]
    assert all(set(totals) == KEYS for totals in methods.values())
    assert methods["all-local"]["gain_per_user"] == 0
    assert methods["hindsight"]["share_of_hindsight"] == 1
    assert methods["aware"]["gain_per_user"] == methods["exact"]["gain_per_user"]
    best = max(totals["gain_per_user"] for totals in methods.values())
    assert methods["hindsight"]["gain_per_user"] == best
    files = sorted(path.name for path in (tmp_path / "out" / "requests").iterdir())
    assert len(files) == 2 * len(methods)
    rows = pd.read_parquet(tmp_path / "out" / "requests" / "price-0000.parquet")
    parts = rows[["wait_s", "edge_s", "transmit_s", "local_s"]].sum(axis=1)
    assert np.allclose(parts, rows["latency_s"])
    names = {"report.html", "summary.json", "timeline.png", "latency.svg", "load.png"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace('href="data:', "")


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    assert simulated("--seed", "3") == simulated("--seed", "3")
    assert simulated("--seed", "3") != simulated("--seed", "4")


def test_users_of_a_file_are_who_ask(tmp_path):
    simulated("--users", data.sample("users.csv"), "-o", tmp_path / "out")
    names = pd.read_csv(data.sample("users.csv"))["user_id"]
    rows = pd.read_parquet(tmp_path / "out" / "requests" / "price-0000.parquet")
    assert set(rows["user_id"]) <= set(names)


def test_an_interrupted_comparison_goes_on(tmp_path, monkeypatch):
    """What was finished is read, and the result is that of an uninterrupted run."""
    options = ["--compare", "blind,price", "--worlds", "2", "-o", tmp_path / "out"]
    whole = simulated(*options)
    for path in (tmp_path / "out" / "requests").glob("*-0001.parquet"):
        path.unlink()
    played = []
    monkeypatch.setattr(
        "edgesplit.service.comparison.play_way",
        lambda world, way, number, *rest: played.append(number) or play_way(world, way, number, *rest),
    )
    assert simulated(*options) == whole
    assert set(played) == {1}


def test_a_folder_of_another_simulation_is_refused(tmp_path):
    simulated("-o", tmp_path / "out")
    line = refused(call_root("simulate", *QUICK, "--seed", "9", "-o", tmp_path / "out"))
    assert "requests of another simulation; choose another folder with -o" in line


def test_the_schedulers_calls_are_logged(tmp_path):
    simulated("--log", "-o", tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "calls.jsonl").read_text().splitlines()]
    calls = [line for line in lines if line["method"] == "price"]
    asked = [request for call in calls for request in call["requests"]]
    assert asked == sorted(asked) == list(range(len(asked)))
    assert all(call["load"]["in_flight"] == len(call["load"]["steps_left"]) for call in calls)


def test_the_fewest_gpus_that_hold_a_goal():
    found = simulated("--arrivals", "poisson:8", "--gpus", "1:16", "--goal", "gain_per_user > 5")
    tried = {entry["gpus"]: entry["gain_per_user"] for entry in found["tried"]}
    assert tried[found["gpus"]] > 5
    assert all(gain <= 5 for gpus, gain in tried.items() if gpus < found["gpus"])
    assert len(tried) <= 6
    told = call_root("simulate", *QUICK, "--gpus", "1:4", "--goal", "mean_latency_s < 0.001").stdout
    assert "does not hold with 4 GPUs either" in told


def test_bisection_finds_the_first_that_holds():
    for first in range(8):
        asked = []
        assert _bisect(range(8), lambda n, f=first, a=asked: a.append(n) or n >= f) == first
        assert len(asked) <= 4
    assert _bisect(range(8), lambda n: False) is None


def test_goals_and_costs_are_judged():
    found = simulated("--goal", "p95_latency_s < 1e9", "--cost-per-gpu-hour", "3.6")
    assert found["goal"]["methods"]["price"] == {"held": True, "share": 1.0}
    seconds_of_a_gpu = found["cost_per_image"]["price"] / 3.6 * 3600
    assert 0 < seconds_of_a_gpu < 8 * 200


def test_a_trace_is_replayed_with_its_steps_and_patience(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("time_s,user_id,images,total_steps,patience_s\n0.5,a,2,30,\n1.5,b,1,200,1\n9,a,1,,\n")
    call_root("simulate", "--arrivals", path, "-o", tmp_path / "out", "--users", data.sample("users.csv"))
    rows = pd.read_parquet(tmp_path / "out" / "requests" / "price-0000.parquet")
    assert rows["total_steps"].tolist() == [30, 30, 200, 200]
    assert rows["given_up"].tolist() == [False, False, True, False]
    assert rows["latency_s"][2] == pytest.approx(1)


def test_an_edge_that_falls_behind_is_told_about():
    flood = ["--arrivals", "poisson:60", "--rounds", "80", "--bandwidth-mhz", "200", "--max-batch", "60"]
    result = call_root("simulate", *flood, "--method", "blind")
    assert result.returncode == 0, result.stderr
    assert "blind: the edge falls behind, with" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "prise"], "--method, --compare: found 'prise'"),
        (["--compare", "price,hindsight"], "which is added by itself"),
        (["--goal", "p95 < 3"], "--goal: found 'p95', accepted: a total of --json; known: qoe_per_user"),
        (["--goal", "p95_latency_s = 3"], "accepted: such as 'p95_latency_s < 20'"),
        (["--gpus", "1:4"], "--gpus: found several numbers"),
        (["--gpus", "0"], "--gpus: found '0'"),
        (["--arrivals", "none.csv"], "none.csv"),
        (["--arrivals", "poisson:0"], "--arrivals: found 'poisson:0'"),
        (["--speed-up", "3"], "--speed-up: found 3 with random arrivals"),
        (["--rounds", "3", "--hours", "1"], "--rounds, --hours: found both"),
        (["--log"], "--log: found no -o"),
        (["--prices", "cheap", "--method", "trained"], "--prices: found 'cheap'"),
        (["--edge", "h1000"], "h1000"),
        (["--arrivals", "poisson:1e-9"], "which brings no request"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options, said):
    assert said in refused(call_root("simulate", *options))


def test_own_steps_go_with_price_rules_alone(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("time_s,total_steps\n0,30\n")
    line = refused(call_root("simulate", "--arrivals", path, "--method", "genetic"))
    assert "found images with own numbers of steps, accepted: a price rule" in line


def test_hindsight_never_loses_and_is_a_real_plan():
    """From any start it ends no lower, its decisions give its value when played, and rounds keep B_max."""
    for seed in range(3):
        world, granted, n = random_world(np.random.default_rng([20, seed]))
        start = Simulation(world).run(fixed(granted, n))
        best = hindsight(world, start)
        before, after = (outcome.quality_of_experience(world, records).sum() for records in (start, best))
        again = Simulation(world).run(fixed(best.granted.tolist(), best.local_steps.tolist()))
        assert after >= before
        assert outcome.quality_of_experience(world, again).sum() == after
        assert np.bincount(world.round_of[best.granted], minlength=1).max() <= world.scenario.max_batch


def test_hindsight_judges_by_what_then_happens():
    """The value that it climbs by is that of its decisions, whatever was tried and given up before."""
    for seed in range(20):
        world, granted, n = random_world(np.random.default_rng([50, seed]))
        ascent = Ascent(world, Simulation(world).run(fixed(granted, n)))
        ascent.sweep()
        happened = outcome.quality_of_experience(world, ascent.records()).sum()
        assert ascent.value == pytest.approx(happened, abs=1e-9)


def test_hindsight_finds_the_best_of_all_plans_of_two_requests():
    world, _, _ = random_world(np.random.default_rng(9))
    few = type(world.requests)(
        time_s=world.requests.time_s[:2], user=world.requests.user[:2], patience_s=np.full(2, np.inf)
    )
    world = type(world)(scenario=world.scenario, users=world.users, requests=few)
    total, least = world.scenario.total_steps, world.scenario.min_local_steps
    best = -np.inf
    for first in range(least, total + 1):
        for second in range(least, total + 1):
            splits = [first, second]
            records = Simulation(world).run(fixed([s < total for s in splits], splits))
            best = max(best, outcome.quality_of_experience(world, records).sum())
    start = Simulation(world).run(fixed([False, False], [total, total]))
    assert outcome.quality_of_experience(world, hindsight(world, start)).sum() == pytest.approx(best, abs=1e-6)


def test_the_starting_prices_are_those_of_the_rule_price():
    world, _, _ = random_world(np.random.default_rng(2))
    load = Load(9, 3, 4, 2.5)
    assert START(world.scenario, load) == price(world.scenario, load)


def test_tuning_writes_a_file_that_simulate_reads(tmp_path):
    out = tmp_path / "mine.json"
    options = [
        "--arrivals",
        "poisson:6",
        "--bandwidth-mhz",
        "20",
        "--rounds",
        "10",
        "--worlds",
        "1",
        "--evaluations",
        "16",
    ]
    result = call_root("simulate", "tune", *options, "-o", out)
    assert result.returncode == 0, result.stderr
    record = load_prices(str(out))
    assert [setting.arrivals for setting in record.settings] == ["poisson:6"]
    found = simulated("--method", "trained", "--prices", out)
    assert found["methods"]["trained"]["gain_per_user"] > 0
    line = refused(call_root("simulate", "tune", *options, "-o", tmp_path / "mine.csv"))
    assert "suffix .json" in line


def test_the_shipped_prices_name_what_they_gain():
    record = load_prices()
    assert len(record.settings) >= 10
    shares = [setting.gain_per_user / setting.price_gain_per_user for setting in record.settings]
    assert np.mean(shares) > 1
    assert min(shares) > 0.98


def test_a_way_to_decide_is_a_rule_or_a_method():
    assert find_way("aware-delay").counts_steps
    assert not find_way("ilp-joint").own_steps
    with pytest.raises(InputError):
        find_way("no-such")
    with pytest.raises(InputError):
        parse_goal("gain_ci < 3")
    assert parse_goal(" mean_pai>=0.9 ").held(ServiceTotals(**dict.fromkeys(KEYS - {"gain_ci"}, 0.95), gain_ci=None))


def test_falling_behind_is_a_lasting_rise():
    def run(met):
        return type("Made", (), {"rows": {"in_flight_met": np.array(met)}})

    assert falls_behind(run(np.arange(400)), 20)
    assert not falls_behind(run(np.full(400, 300)), 20)
    assert not falls_behind(run(np.arange(40)), 20)
    assert not falls_behind(run([5]), 20)
