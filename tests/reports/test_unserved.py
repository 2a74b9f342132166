"""Cases that a policy or an own method cannot plan: planned exactly, as `plan` does, counted and said everywhere."""

import json
import math
import sys

import pandas as pd
import pytest
from commands import call, refused

from edgesplit.common.errors import InputError
from edgesplit.optimizer import planner
from edgesplit.optimizer.agent.policies import load_policy
from edgesplit.reports import reproduce_command
from edgesplit.reports.basis.checks import FINDING, HOLDS
from edgesplit.reports.basis.definitions import Unit
from edgesplit.reports.basis.setup import Choices, make_setup
from edgesplit.reports.basis.unserved import own_plan
from edgesplit.reports.exhibit import complexity, fixed_batch, peers, rounds
from edgesplit.reports.exhibits import compute, exhibits
from edgesplit.reports.work import Refusals, Results

pytestmark = pytest.mark.filterwarnings("ignore:vert. bool was deprecated")  # what seaborn asks of Matplotlib 3.11
METHODS = """
from dataclasses import replace

import numpy as np
from edgesplit import InputError, split_granted


def up_to_seven(scenario, users):
    if len(users) > 7:
        raise InputError(f"{len(users)} users, made for 7 at most")
    return split_granted(scenario, users, np.arange(len(users)) < 3)


def in_a_hurry(scenario, users):
    plan = split_granted(scenario, users, np.arange(len(users)) < 3)
    return replace(plan, note="out of time") if len(users) > 7 else plan
"""
REFUSING, NOTING = "refusing_methods:up_to_seven", "refusing_methods:in_a_hurry"


@pytest.fixture(autouse=True)
def own_methods(tmp_path, monkeypatch):
    """A module in the working directory, which is the folder for results, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "refusing_methods", raising=False)
    monkeypatch.setattr(complexity, "REPEATS_S", 0.0)
    (tmp_path / "refusing_methods.py").write_text(METHODS)


def setup_of(**choices):
    return make_setup(choices=Choices(**choices, population=4, generations=1, time_limit_s=1.0))


def rows_of(setup, experiment, points):
    """The rows of two cases at each point."""
    return pd.DataFrame(
        [row for point in points for case in (0, 1) for row in compute(setup, Unit(experiment, point, case))]
    )


def exhibit_of(proposed, name):
    return next(exhibit for exhibit in exhibits(proposed) if exhibit.name == name)


def test_a_policy_of_another_g_plans_as_plan_does_with_its_note():
    setup, _ = setup_of(policy="gpu-4")
    case, rows = setup.case(5, 0), rows_of(setup, "users", [5])
    own, best = (rows[(rows["method"] == name) & (rows["case"] == 0)].iloc[0] for name in ("drl", "exact"))
    as_plan = planner.plan(case.scenario, case.users, "drl", policy=load_policy("gpu-4"))
    assert own["note"] == as_plan.plan.note == "policy gpu-4: 8 GPUs, trained for 4; planned exactly instead"
    assert own["objective"] == as_plan.totals.objective == best["objective"]


def test_a_policy_that_plans_some_cases_is_judged_with_their_number_in_every_claim_on_it():
    setup, _ = setup_of(policy="gpu-4")
    table = rows_of(setup, "gpus", [1, 4])
    exhibit = exhibit_of("drl", "fig10b")
    words = "in 2 of 4 cases the policy is out of its range (1 GPU, trained for 4) and the plan is the exact one"
    assert exhibit.remarks_on(table) == words
    checks = {check.claim: check for check in exhibit.judge(table)}
    for claim, check in checks.items():
        assert check.evidence.endswith(f"; {words}") == ("proposed" in claim or claim.startswith("It "))
    fitting = rounds.judge_gpus(table.assign(note=""))
    assert [check.verdict for check in checks.values()] == [check.verdict for check in fitting]
    (label, *_), _ = exhibit.draw(table).axes[0].get_legend_handles_labels()[::-1]
    assert label == "proposed (DRL-convex), exact in 2 of 4 cases"


def test_no_claim_holds_by_plans_that_are_none_of_the_policys():
    setup, _ = setup_of(policy="specific")
    table = rows_of(setup, "peers", [5])
    checks = peers.judge(table)
    assert {check.verdict for check in checks} == {FINDING}
    assert all("in 2 of 2 cases the policy is out of its range (other users than" in c.evidence for c in checks)
    verdicts = {check.claim: check.verdict for check in peers.judge(table.assign(note=""))}
    assert verdicts["The proposed method is optimal."] == HOLDS


def test_the_fixed_batch_counts_them_too_and_has_notes_where_there_are_any():
    setup, _ = setup_of(policy="gpu-4")
    exhibit, rows = exhibit_of("drl", "beyond_shrinking"), rows_of(setup, "shrinking", [5])
    table = fixed_batch.value_table(rows)
    assert table["note"].notna().tolist() == 6 * [True]
    assert "in 2 of 2 cases" in exhibit.remarks_on(table)
    assert "in 2 of 2 cases" in exhibit.judge(table)[0].evidence
    default = fixed_batch.value_table(rows.assign(note=""))
    assert list(default) == ["users", "case", "plan", "more_s", "possible", "more_ms_per_user"]


def test_own_methods_may_refuse_cases_which_are_then_planned_exactly():
    setup, _ = setup_of(proposed=REFUSING)
    table = rows_of(setup, "users", [5, 10])
    own = table[table["method"] == REFUSING].set_index(["users", "case"])
    best = table[table["method"] == "exact"].set_index(["users", "case"])
    assert own.loc[5, "note"].tolist() == ["", ""]
    assert own.loc[10, "note"].unique() == [f"method {REFUSING}: 10 users, made for 7 at most; planned exactly instead"]
    assert own.loc[10, "objective"].equals(best.loc[10, "objective"])
    words = "in 2 of 4 cases the method does not plan (10 users, made for 7 at most) and the plan is the exact one"
    assert exhibit_of(REFUSING, "fig10a").remarks_on(table) == words


def test_what_own_methods_say_of_their_plans_is_counted():
    setup, _ = setup_of(proposed=NOTING)
    table = rows_of(setup, "users", [5, 10])
    assert exhibit_of(NOTING, "fig10a").remarks_on(table) == "in 2 of 4 cases the method says: out of time"
    solver = table.replace({"method": {NOTING: "ilp-fixed"}})  # ours say something of every plan
    assert exhibit_of("ilp-fixed", "fig10a").remarks_on(solver) == ""


def test_table_1_measures_no_plan_that_is_not_the_methods(capsys):
    setup, _ = setup_of(proposed=REFUSING)
    rows = [row for users in (5, 10, 20) for row in complexity.measured(setup, users, 0, [REFUSING, "exact"])]
    table = complexity.time_table(pd.DataFrame(rows))
    own = table[table["method"] == REFUSING]
    assert own["seconds"].isna().tolist() == [False, True, True]
    assert own["note"].tolist()[1:] == [f"not measured: {users} users, made for 7 at most" for users in (10, 20)]
    remark = "the proposed method is not measured at 10, 20 users, as it cannot plan these (10 users, made for 7 at "
    assert complexity.remarks_on(table, REFUSING).startswith(remark)
    assert complexity.for_people(table).rows[0][4:] == ["not measured", "not measured"]
    Refusals().look_at(rows)  # what is not measured is no plan
    assert capsys.readouterr().err == ""


def test_a_policy_that_is_never_measured_gives_findings_without_a_number():
    rows = [{"method": "drl", "users": n, "seconds": math.nan, "note": "not measured: 8 GPUs"} for n in (5, 10)]
    rows += [
        {"method": name, "users": n, "seconds": 1e-3 * n, "captured_share": 1.0, "note": ""}
        for name in ("exact", "genetic-joint", "ilp-fixed") for n in (5, 10)
    ]  # fmt: skip
    checks = complexity.judge(complexity.time_table(pd.DataFrame(rows)))
    assert checks[0].verdict == FINDING
    assert checks[0].evidence == "too few times for a slope, never measured (8 GPUs)"
    assert not any("nan" in check.evidence for check in checks)


def test_terminal_report_tables_and_json_say_it(tmp_path, monkeypatch):
    """Of Figs. 10a and 10b, which stand for all exhibits here."""
    setup, _ = setup_of(policy="gpu-4")
    shown = [
        (exhibit_of("drl", "fig10a"), rows_of(setup, "users", [5])),
        (exhibit_of("drl", "fig10b"), rows_of(setup, "gpus", [4])),
    ]
    monkeypatch.setattr(reproduce_command, "experiment_rows", lambda *_: {})
    monkeypatch.setattr(reproduce_command, "tables", lambda *_: shown)
    (tmp_path / "out").mkdir()
    said = "in 2 of 2 cases the policy is out of its range (8 GPUs, trained for 4) and the plan is the exact one"
    done = call("reproduce", "--policy", "gpu-4", "-o", tmp_path / "out", "--json")
    assert f"reproduce: Fig. 10a: average QoE against users: {said}\n" in done.stderr
    assert "Fig. 10b" not in done.stderr  # there it plans
    (first, second) = json.loads(done.stdout)
    assert said in first["checks"][-1]["evidence"]
    assert said not in second["checks"][-1]["evidence"]
    for name in ("report.html", "summary.md", "verdicts.csv"):
        assert said in (tmp_path / "out" / name).read_text()
    assert (
        "<th>its plans</th><td>Fig. 10a: average QoE against users: in 2" in (tmp_path / "out/report.html").read_text()
    )
    assert "planned exactly instead" in (tmp_path / "out/fig10a.csv").read_text()


def test_the_first_such_case_is_said_while_the_work_goes_on(capsys):
    refusals, note = Refusals(), "policy gpu-4: 8 GPUs, trained for 4; planned exactly instead"
    for rows in ([{"note": ""}, {}], [{"note": ""}, {"note": note}], [{"note": note}]):
        refusals.look_at(rows)
    assert capsys.readouterr().err == f"reproduce: {note}, as all such cases are; the verdicts count them\n"


def test_a_folder_of_the_time_when_such_cases_stayed_local_is_refused(tmp_path):
    facts = setup_of()[0].facts()
    Results(tmp_path / "old", {name: fact for name, fact in facts.items() if name != "cases_out_of_range"}).close()
    with pytest.raises(InputError, match="cases_out_of_range was not there and is 'planned exactly instead'"):
        Results(tmp_path / "old", facts)


@pytest.mark.parametrize(
    ("code", "says"), [("1 / 0", "ZeroDivisionError: division by zero"), ("exit(3)", "SystemExit: 3")]
)
def test_a_method_with_a_mistake_is_no_refusal(tmp_path, code, says):
    (tmp_path / "refusing_methods.py").write_text(f"def f(scenario, users):\n    return {code}\n")
    line = refused(call("reproduce", "--quick", "--workers", "1", "--proposed", "refusing_methods:f", "-o", "x"))
    assert "method refusing_methods:f: failed in" in line
    assert says in line


@pytest.mark.parametrize(
    ("message", "shown"), [("", "no reason given"), ("one\ntwo", "one two"), ("x" * 999, "x" * 200)]
)
def test_any_refusal_fits_into_a_line_of_a_table(message, shown):
    def refuse(*_):
        raise InputError(message)

    case = make_setup()[0].case(5, 0)
    note = own_plan(case.scenario, case.users, name="mine", method=refuse).note
    assert note == f"method mine: {shown}; planned exactly instead"
