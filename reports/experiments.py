"""The experiments on random cases: each function computes the rows of one case, from its numbers alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..optimizer.agent.decide import drl_convex, out_of_range
from ..optimizer.agent.policies import Policy
from ..optimizer.agent.tasks import shipped_instance
from ..optimizer.methods.baselines import offload_all_fixed
from ..optimizer.methods.exact import optimum
from ..optimizer.methods.registry import find_method
from ..optimizer.model.qoe import Plan, Scenario, Users, all_local, evaluate, objective
from .setup import AXES, OWN, SCOPE_GPUS, SCOPES, Setup, policy
from .shrinking import improve, shrinking_value

Row = dict[str, Any]
NHAT_OFFLOADED = "offload-all-nhat"
"""Baseline 2 in its other reading: N-hat steps are offloaded."""
BASELINES = ("offload-all", "offload-all-fixed", "all-local")
PEERS = ("ilp-fixed", "genetic", "genetic-joint")
SEARCHED = "searched"
"""The optimum, improved for the shrinking batch."""
TWENTY = 20
"""Users of Figs. 9 and 10b."""
FP16_LATENT_BITS = 262_144.0
"""4 x 64 x 64 numbers of 16 bits: the intermediate of Stable Diffusion 1.5 at 512 pixels."""


class Unit(NamedTuple):
    """One piece of work: an experiment, its point on the horizontal axis, and a case."""

    experiment: str
    point: int
    case: int


def by_users(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Fig. 10a: the proposed method, the baselines and the optimum."""
    drawn = setup.case(users, number)
    rows = _baselines(setup, drawn.scenario, drawn.users)
    yield from ({"users": users, "case": number, **row} for row in rows)


def by_gpus(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """Fig. 10b: the same with other G; users and alphas are those drawn at the scenario's G."""
    drawn = setup.case(TWENTY, number)
    rows = _baselines(setup, replace(drawn.scenario, gpus=gpus), drawn.users)
    yield from ({"gpus": gpus, "case": number, **row} for row in rows)


def by_peers(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Fig. 11: the proposed method, branch and bound, the genetic algorithm in two readings, and the optimum."""
    drawn = setup.case(users, number)
    rows = _compared(setup, drawn.scenario, drawn.users, PEERS)
    yield from ({"users": users, "case": number, **row} for row in rows)


def by_scope(_: Setup, gpus: int, __: int) -> Iterator[Row]:
    """Fig. 9: the policies of each scope on the case that the specific ones were trained on."""
    case = shipped_instance(gpus)
    plans = {scope: _drl(policy(name_of(gpus)), case.scenario, case.users) for scope, name_of in SCOPES.items()}
    plans |= {
        name: method(case.scenario, case.users) for name, method in (("optimum", optimum), ("all local", all_local))
    }
    for scope, plan in plans.items():
        yield {"scope": scope, "gpus": gpus, **score(case.scenario, case.users, plan), "note": plan.note}


def shrinking(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Beyond: the proposed plan and the optimum re-scored with a batch that shrinks, and what planning for it finds."""
    drawn = setup.case(users, number)
    scenario, own = drawn.scenario, drawn.users
    best, local = optimum(scenario, own), all_local(scenario, own)
    facts = {"users": users, "case": number, "all_local": _value(scenario, own, local)}
    plans = {"drl": _drl(policy(setup.policy), scenario, own), "exact": best, SEARCHED: improve(scenario, own, best)}
    for name, plan in plans.items():
        shrinks = float(shrinking_value(scenario, own, plan.local_steps, plan.granted))
        yield {**facts, "method": name, "fixed_batch": _value(scenario, own, plan), "shrinking_batch": shrinks}


def sensitivity(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Beyond: planned with a wrong a_F, b_F, k_e, h_e or users' own L_i, what is lost where the right one holds."""
    drawn = setup.case(users, number)
    scenario, own = drawn.scenario, drawn.users
    most = score(scenario, own, optimum(scenario, own))
    for name in (*AXES, OWN):
        for end, word in enumerate(("low", "high")):
            wrong = setup.at_end(drawn, name, end)
            got = score(scenario, own, optimum(wrong.scenario, wrong.users))
            yield {
                "parameter": name, "end": word, "interval": setup.interval_kind(name), "users": users,
                "case": number, "lost_s": most["objective"] - got["objective"],
                "lost_share": most["captured_share"] - got["captured_share"],
                "more_granted": got["granted"] - most["granted"],
            }  # fmt: skip


def latents(setup: Setup, users: int, number: int) -> Iterator[Row]:
    """Beyond: the optimum with the scenario's intermediates, and with fp16 latents."""
    drawn = setup.case(users, number)
    for bits in (setup.scenario.latent_bits, FP16_LATENT_BITS):
        scenario = replace(drawn.scenario, latent_bits=bits)
        best = score(scenario, drawn.users, optimum(scenario, drawn.users))
        yield {"latent_bits": bits, "users": users, "case": number, **best}


def wanted(setup: Setup, gpus: int, number: int) -> Iterator[Row]:
    """Beyond: the optimum's mean latency with each number of GPUs."""
    drawn = setup.case(TWENTY, number)
    scenario = replace(drawn.scenario, gpus=gpus)
    yield {"gpus": gpus, "case": number, **score(scenario, drawn.users, optimum(scenario, drawn.users))}


EXPERIMENTS: dict[str, Callable[[Setup, int, int], Iterable[Row]]] = {
    "users": by_users,
    "gpus": by_gpus,
    "peers": by_peers,
    "scopes": by_scope,
    "shrinking": shrinking,
    "sensitivity": sensitivity,
    "latents": latents,
    "wanted": wanted,
}


def units(setup: Setup) -> list[Unit]:
    """Everything to compute, slow things first."""
    size = setup.size
    points = {
        "peers": (size.users, size.slow_cases),
        "shrinking": (size.users, size.slow_cases),
        "users": (size.users, size.cases),
        "gpus": (size.gpus, size.cases),
        "latents": (size.users, size.cases),
        "wanted": (size.wanted_gpus, size.cases),
        "sensitivity": ((TWENTY,), size.cases),
        "scopes": (SCOPE_GPUS, 1),
    }
    return [Unit(name, x, case) for name, (axis, cases) in points.items() for x in axis for case in range(cases)]


def compute(setup: Setup, unit: Unit) -> list[Row]:
    """The rows of one unit."""
    return list(EXPERIMENTS[unit.experiment](setup, unit.point, unit.case))


def score(scenario: Scenario, users: Users, plan: Plan) -> Row:
    """What a plan of one cell is worth, in all, per user, and as a share of what offloading can gain."""
    best, local = (_value(scenario, users, p) for p in (optimum(scenario, users), all_local(scenario, users)))
    value, gained = _value(scenario, users, plan), evaluate(scenario, users, plan)
    return {
        "objective": value,
        "qoe_per_user": value / len(users),
        "captured_share": (value - local) / (best - local) if best - local > 1e-9 else 1.0,
        "granted": int(plan.granted.sum()),
        "mean_pai": float(np.mean(gained.pai)),
        "mean_latency_s": float(np.mean(gained.latency_s)),
    }


def _baselines(setup: Setup, scenario: Scenario, users: Users) -> Iterator[Row]:
    """The paper's, with both readings of the second."""
    yield from _compared(setup, scenario, users, BASELINES)
    offloaded = min(scenario.min_local_steps, scenario.total_steps - scenario.min_local_steps)
    yield {"method": NHAT_OFFLOADED, **score(scenario, users, offload_all_fixed(scenario, users, offloaded))}


def _compared(setup: Setup, scenario: Scenario, users: Users, names: Iterable[str]) -> Iterator[Row]:
    """The proposed method, the optimum and the named ones."""
    plans = {"drl": _drl(policy(setup.policy), scenario, users)}
    plans |= {name: find_method(name, setup.options)(scenario, users) for name in ("exact", *names)}
    for name, plan in plans.items():
        yield {"method": name, **score(scenario, users, plan), "note": plan.note}


def _drl(chosen: Policy, scenario: Scenario, users: Users) -> Plan:
    """DRL-convex; a round that the policy cannot decide is scored as all local."""
    reason = out_of_range(chosen, scenario, users)
    if reason is not None:
        return replace(all_local(scenario, users), note=f"out of the policy's range, all local: {reason}")
    return drl_convex(scenario, users, chosen)


def _value(scenario: Scenario, users: Users, plan: Plan) -> float:
    return float(objective(users, evaluate(scenario, users, plan)).sum())
