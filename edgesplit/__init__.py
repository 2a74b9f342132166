"""edgesplit: who offloads how many denoising steps to an edge server, with the proven optimum beside every plan.

The names below are the Python API; each is imported when it is first used. docs/api.md shows them at work.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clusters.grouping import Clustering, cluster_users
    from .common.errors import InputError
    from .fitting.latency import LatencyModel
    from .fitting.library import load_curve, load_profile
    from .fitting.pai import PaiCurve
    from .optimizer.agent.instances import draw_instances
    from .optimizer.inputs.fleet import load_fleet
    from .optimizer.inputs.scenario import load_scenario
    from .optimizer.inputs.users import read_users
    from .optimizer.methods.exact import optimum
    from .optimizer.methods.scoring import score
    from .optimizer.model.qoe import Plan, Scenario, Users, evaluate
    from .optimizer.model.servers import Fleet, FleetPlan
    from .optimizer.model.split import split_granted
    from .optimizer.planner import Outcome, compare, plan
    from .service.comparison import simulate
    from .service.scheduler import Load, decide
    from .service.worlds import draw_world

    __version__: str

_PLACES = {
    "Clustering": "clusters.grouping",
    "Fleet": "optimizer.model.servers",
    "FleetPlan": "optimizer.model.servers",
    "InputError": "common.errors",
    "LatencyModel": "fitting.latency",
    "Load": "service.scheduler",
    "Outcome": "optimizer.planner",
    "PaiCurve": "fitting.pai",
    "Plan": "optimizer.model.qoe",
    "Scenario": "optimizer.model.qoe",
    "Users": "optimizer.model.qoe",
    "cluster_users": "clusters.grouping",
    "compare": "optimizer.planner",
    "decide": "service.scheduler",
    "draw_instances": "optimizer.agent.instances",
    "draw_world": "service.worlds",
    "evaluate": "optimizer.model.qoe",
    "load_curve": "fitting.library",
    "load_fleet": "optimizer.inputs.fleet",
    "load_profile": "fitting.library",
    "load_scenario": "optimizer.inputs.scenario",
    "optimum": "optimizer.methods.exact",
    "plan": "optimizer.planner",
    "read_users": "optimizer.inputs.users",
    "score": "optimizer.methods.scoring",
    "simulate": "service.comparison",
    "split_granted": "optimizer.model.split",
}
__all__ = [
    "Clustering", "Fleet", "FleetPlan", "InputError", "LatencyModel", "Load", "Outcome", "PaiCurve", "Plan",
    "Scenario", "Users", "__version__", "cluster_users", "compare", "decide", "draw_instances", "draw_world",
    "evaluate", "load_curve", "load_fleet", "load_profile", "load_scenario", "optimum", "plan", "read_users",
    "score", "simulate", "split_granted",
]  # fmt: skip

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if os.path.isfile(os.path.join(_CHECKOUT, "pyproject.toml")):  # edgesplit.<folder> is the folder beside this one
    __path__.append(_CHECKOUT)


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("edgesplit")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return vars(import_module(f"{__name__}.{_PLACES[name]}"))[name]


def __dir__() -> list[str]:
    """The names of the API."""
    return sorted(__all__)
