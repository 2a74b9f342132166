"""What `plan evaluate` does."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from ..common.errors import InputError, counted, printable
from ..common.tables import plain_table, print_table, short_name
from . import output
from .agent.decide import greedy
from .agent.instances import paper_instance, read_instance
from .agent.policies import Policy, check_orders, load_policy
from .agent.scores import MethodScores, as_rows, score_all
from .agent.settings import ONE, Draw, ranges, settings_of
from .inputs.scenario import overrides, resolve_scenario
from .methods.baselines import offload_all, offload_all_fixed
from .methods.exact import optimum
from .methods.registry import Method
from .model.qoe import all_local

INSTANCES = 1000
"""Number of held-out instances in each setting unless an option says otherwise."""
PEERS: dict[str, Method] = {
    "exact": optimum,
    "greedy": greedy,
    "offload-all": offload_all,
    "offload-all-fixed": offload_all_fixed,
    "all-local": all_local,
}
"""The methods that a policy is scored beside."""
SCORE_HEADINGS = ("captured\nmean", "5th\npercentile", "\nworst", "at the\noptimum", "gap\ns", "planned\nin ms")
SCORES_WIDTH = 60
"""Cells of a line that its numbers take at most."""
NAMES_WIDTH = max(map(len, PEERS))
"""Cells that names have on any terminal: those that our own methods need."""


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """The options of one `plan evaluate`; its help describes each.

    Attributes:
        policy: name or file of the policy.
        scenario: name or file of a scenario to score it in; None for the one that it was trained for.
        users: users of a round to score it on; None for held-out instances.
        instances: number of held-out instances in each setting; None for `INSTANCES`.
        orders: number of orders of the users that the policy decides in as well, beside the single pass; 1 for none.
        as_json: whether one JSON object is printed.
    """

    policy: str
    scenario: str | None
    users: Path | None
    instances: int | None
    orders: int
    as_json: bool


def run_evaluation(request: EvaluateRequest) -> None:
    """Score a policy on held-out instances beside its peers.

    Raises:
        InputError: one line.
    """
    policy = load_policy(request.policy)
    check_orders(policy, request.orders)
    settings = _settings(policy, request)
    one = request.users is not None or ONE in settings
    if one and request.instances is not None:
        raise InputError("--instances: found one round to score, accepted: no --instances")
    count = 1 if one else request.instances or INSTANCES
    tables = score_all(PEERS, policy, count, settings, request.orders)
    if request.as_json:
        output.print_json({"policy": policy.card.name, "results": as_rows(tables)})
    else:
        _print_scores(tables)


def _settings(policy: Policy, request: EvaluateRequest) -> Mapping[str, Draw]:
    """Where the policy is scored: on what the user names, else on what it was trained for."""
    if request.users is None and request.scenario is None:
        return settings_of(policy.card.gpus, policy.card.case)
    resolved = resolve_scenario(request.scenario or "default", overrides())
    if request.users:
        instance = read_instance(request.users, resolved)
        return {request.users.name: lambda _: instance}
    return {
        f"{request.scenario}, {name}": partial(paper_instance, choices=choices, base=resolved.scenario)
        for name, choices in ranges(policy.card.gpus).items()
    }


def _print_scores(tables: Mapping[str, Mapping[str, MethodScores]]) -> None:
    """Print a table for each setting."""
    room = max(NAMES_WIDTH, Console().width - SCORES_WIDTH)
    for number, (setting, table) in enumerate(tables.items()):
        if number:
            print()
        first = next(iter(table.values())).scores
        print(f"{printable(setting)}: {counted(first.instances, 'held-out instance')}")
        rows = plain_table("\nmethod", *SCORE_HEADINGS)
        for name, of_method in table.items():
            rows.add_row(short_name(name, room), *_fields(of_method))
        print_table(rows)
        if first.fall_backs:
            print(f"out of the policy's range, counted as all local: {first.fall_backs} of {first.instances}")


def _fields(of_method: MethodScores) -> list[str]:
    s = of_method.scores
    shares = [_share(x) for x in (s.captured_mean, s.captured_p5, s.captured_worst)]
    planned = "-" if of_method.planning_s is None else f"{1e3 * of_method.planning_s:.2f}"
    return [*shares, f"{s.optimal_share:.1%}", f"{s.gap_mean_s:.3g}", planned]


def _share(share: float) -> str:
    """A share in per cent with three decimals, as good policies differ in the third."""
    return f"{share:.3%}" if share > -10 else "< -1000%"
