"""`plan alpha`: what it says of an alpha is what a plan with that alpha gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
from commands import call, refused

from edgesplit import data
from edgesplit.fitting.library import load_profile
from edgesplit.fitting.pai import PaiCurve
from edgesplit.optimizer.advice import EMPHASES, advise
from edgesplit.optimizer.agent.instances import device_latencies
from edgesplit.optimizer.inputs.scenario import load_scenario
from edgesplit.optimizer.model.qoe import Users, all_local, edge_step_latency, evaluate
from edgesplit.optimizer.model.split import split_granted

SCENARIO = load_scenario("default")
BATCHES = [1, 5, 10, 20]


def alike(step_latency_s, alpha, count):
    """Users of one cell with the same device and alpha, who ask at the round's end."""
    slots = np.full(count, SCENARIO.slots)
    return Users(np.full(count, step_latency_s), np.full(count, alpha), slots, np.zeros(count, int))


@pytest.mark.parametrize("gpus", [1, 8])
@pytest.mark.parametrize("device", ["rtx-3060", "rtx-4090", "gtx-1070"])
def test_it_is_what_a_plan_gives_that_grants_so_many_alike_users(device, gpus):
    step_latency_s = float(load_profile(device).fit.model().step_latency(1))
    scenario = replace(SCENARIO, gpus=gpus)
    advice = advise(scenario, SCENARIO, step_latency_s, BATCHES)
    for i, alpha in enumerate(advice.alpha):
        for j, batch in enumerate(BATCHES):
            users = alike(step_latency_s, alpha, batch)
            planned = evaluate(scenario, users, split_granted(scenario, users, np.ones(batch, bool)))
            alone = evaluate(scenario, users, all_local(scenario, users))
            served = advice.at_batches
            assert served.latency_s[i, j] == pytest.approx(planned.latency_s[0])
            assert served.pai[i, j] == pytest.approx(planned.pai[0])
            assert served.worth_s[i, j] == pytest.approx(planned.qoe[0] - alone.qoe[0])
            assert (advice.local_latency_s, advice.local_pai) == pytest.approx((alone.latency_s[0], alone.pai[0]))


def test_its_splits_are_the_best_of_all_there_are():
    advice = advise(SCENARIO, SCENARIO, 0.112, [7])
    saving_s = 0.112 - float(edge_step_latency(SCENARIO, 7))
    splits = np.arange(SCENARIO.min_local_steps, SCENARIO.total_steps + 1)
    for alpha, n in zip(advice.alpha, advice.at_batches.local_steps[:, 0], strict=True):
        assert n == splits[np.argmax(alpha * SCENARIO.pai.value(splits) - saving_s * splits)]


@pytest.mark.parametrize("step_latency_s", [*device_latencies()[:4], 0.7])
def test_the_range_is_remark_1_and_an_emphasis_is_the_split_that_it_names(step_latency_s):
    advice = advise(SCENARIO, SCENARIO, step_latency_s, BATCHES)
    curve, saving_s = SCENARIO.pai, step_latency_s - float(edge_step_latency(SCENARIO, 20))
    for bound, n in ((advice.low, 80), (advice.high, 200)):
        f = 1 / (1 + np.exp(-curve.steepness * (n - curve.midpoint)))
        assert bound == pytest.approx(abs(saving_s) / (curve.steepness * f * (1 - f)))
    assert (advice.alpha[0], advice.alpha[-1]) == pytest.approx((advice.low, advice.high))
    assert np.all(np.diff(advice.alpha) > 0)
    wanted = 80 + EMPHASES * 120 if saving_s > 0 else np.full(11, 200)
    assert np.abs(advice.at_reference.local_steps[:, 0] - wanted).max() <= 1


def test_a_device_faster_than_the_edge_has_the_paper_s_interval_below_zero_and_keeps_all_steps():
    step_latency_s = 0.02
    advice = advise(SCENARIO, SCENARIO, step_latency_s, BATCHES)
    first, last = advice.paper_interval
    assert last < first < 0
    assert (-first, -last) == pytest.approx((advice.low, advice.high))
    assert (advice.at_reference.local_steps == 200).all()
    faster = [b for b in range(1, 21) if edge_step_latency(SCENARIO, b) < step_latency_s]
    assert advice.faster_up_to == len(faster) == max(faster)
    assert advise(SCENARIO, SCENARIO, 0.001, BATCHES).faster_up_to == 0


def test_a_curve_that_is_flat_at_the_end_has_no_upper_bound():
    scenario = replace(SCENARIO, pai=PaiCurve(10.0, 100.0))
    advice = advise(scenario, scenario, 0.112, BATCHES)
    assert advice.high == np.inf
    assert np.isfinite(advice.at_batches.worth_s).all()


def advised(*arguments):
    result = call("plan", "alpha", *arguments)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("options", [(), ("--gpus", "2"), ("--edge", "h200"), ("--pai", "toyworld")])
def test_its_alpha_is_that_of_the_same_emphasis_in_a_users_file(options, tmp_path):
    found = json.loads(advised("--device", "rtx-3060", "--json", "--batches", "3", *options).stdout)
    rows = "".join(f"u{number},rtx-3060,{e}\n" for number, e in enumerate(EMPHASES))
    (tmp_path / "users.csv").write_text(f"user_id,device,emphasis\n{rows}")
    plan = call("plan", "--users", tmp_path / "users.csv", "--method", "exact", "--json", *options)
    alphas = [user["alpha"] for user in json.loads(plan.stdout)["users"]]
    assert [row["alpha"] for row in found["emphases"]] == pytest.approx(alphas)
    assert [row["batches"][0]["batch"] for row in found["emphases"]] == [3] * 11


def test_people_see_the_range_a_row_for_each_emphasis_and_where_a_plan_denies():
    lines = advised("--device", "RTX 3060").stdout.splitlines()
    assert lines[1] == "alpha below 7.367 s: only latency counts; above 364.7 s: only PAI (Remark 1)"
    found = json.loads(advised("--device", "rtx-3060", "--json").stdout)
    for line, row in zip(lines[5:16], found["emphases"], strict=True):
        e, alpha, split, pai, *seconds = line.split()
        assert (float(e), float(alpha), int(split), float(pai)) == pytest.approx(
            (row["emphasis"], row["alpha"], row["local_steps"], row["pai"]), rel=1e-3
        )
        shown = [f"{b['latency_s']:.2f}{'' if b['worth_s'] > 0 else '*'}" for b in row["batches"]]
        assert seconds == shown
    assert lines[16].split()[:4] == ["all", "local", "200", "0.995"]
    assert max(map(len, lines)) <= 85
    fast = advised("--device", "rtx-4090", "--gpus", "1").stdout
    assert "the paper's interval is -1.371 to -67.88 s, as L_i < L_e(b-hat): its sign is left out" in fast
    assert "splits and seconds are those of 1 edge GPU; alpha stays" in fast
    assert "the edge is faster than the device for up to 1 user\n" in fast


def test_it_draws_a_picture_and_json_has_no_infinity(tmp_path):
    (tmp_path / "steep.json").write_text(
        data.shipped("pai")["paper"].read_text().replace('"steepness": 0.0413', '"steepness": 10.0')
    )
    options = ("--step-latency-s", "0.5", "--pai", tmp_path / "steep.json", "-o", tmp_path / "a.svg", "--json")
    found = json.loads(advised(*options).stdout)
    assert (found["device"], found["high"], found["emphases"][-1]["alpha"]) == ("own device", None, None)
    assert "<svg" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--device, --step-latency-s: found neither, accepted: one of them"),
        (("--device", "rtx-3060", "--step-latency-s", "0.1"), "--device, --step-latency-s: found both"),
        (("--step-latency-s", "0"), "--step-latency-s: found 0.0, accepted: a number of seconds above 0"),
        (("--step-latency-s", "nan"), "--step-latency-s: found nan, accepted: a number of seconds above 0"),
        (("--device", "rtx-3061"), "found 'rtx-3061', accepted: a name or a path"),
        (("--device", "rtx-3060", "--batches", "0"), "--batches: found '0', accepted: numbers from 1"),
        (("--device", "rtx-3060", "-o", "a.txt"), "a.txt: found suffix '.txt'"),
        (("--device", "rtx-3060", "--gpus", "0"), "--gpus: found 0"),
    ],
)
def test_bad_options_are_one_line(options, says):
    assert says in refused(call("plan", "alpha", *options))


def test_a_batch_that_no_plan_has_is_said():
    assert "no plan grants 30 users: B_max is 20" in advised("--device", "rtx-3060", "--batches", "30").stderr
