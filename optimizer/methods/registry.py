"""The methods that `plan --method` and the Python API know by name, and how an own one is found.

A method is a function of a scenario and users that returns a plan. Installed packages add theirs through the
entry-point group `edgesplit.methods`; any other function is named as package.module:function. Nothing is imported
before a method is asked for, so that help stays quick.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from ...common.errors import InputError, nearest, reason_of, shown

if TYPE_CHECKING:
    from ..model.qoe import Plan, Scenario, Users

GROUP = "edgesplit.methods"
DEFAULT_METHOD = "drl"
DEFAULT_OF_SEVERAL = "assign"
"""The default for several servers."""


class Method(Protocol):
    """What every method is: numbers in, a plan out."""

    def __call__(self, scenario: "Scenario", users: "Users", /) -> "Plan":
        """Plan every cell of the users."""


@dataclass(frozen=True)
class MethodEntry:
    """A method that is known by its name.

    Attributes:
        target: place of the function, as package.module:function.
        summary: line for the help.
        options: names of the function's further arguments.
        most_compared: most users for whom a comparison runs it, as it takes long for more; None for any number.
        prepare: modules to import, or functions to call as package.module:function, before planning is timed.
        servers: whether it is for several servers; all others but `all-local` know one alone.
        compared: whether a comparison runs it.
        reads_policy: place of the function that reads its policy from a name or a path, without one its default; empty
            where it has none.
    """

    target: str
    summary: str
    options: tuple[str, ...] = ()
    most_compared: int | None = None
    prepare: tuple[str, ...] = ()
    servers: bool = False
    compared: bool = True
    reads_policy: str = ""


_AGENT = "edgesplit.optimizer.agent.decide"
_METHODS = "edgesplit.optimizer.methods"
_PRICING = "edgesplit.service.price_policy"  # this folder knows the service by name alone
_ASSIGNMENT = f"{_METHODS}.assignment"
_GENETIC: dict[str, Any] = {
    "options": ("population", "generations", "seed"),
    "most_compared": 200,
    "prepare": ("pymoo.algorithms.soo.nonconvex.ga", "pymoo.optimize"),
}
_PROGRAM: dict[str, Any] = {"options": ("time_limit_s",), "prepare": ("highspy", "scipy.sparse")}

BUILT_IN: Mapping[str, MethodEntry] = {
    "drl": MethodEntry(
        f"{_AGENT}:drl_convex",
        "DRL-convex: a trained policy grants or denies, the closed form splits. The default policy has our own "
        "network; --policy paper-general is the paper's.",
        options=("policy", "orders"),
        prepare=(f"{_AGENT}:default_policy",),
        reads_policy="edgesplit.optimizer.agent.policies:load_policy",
    ),
    "learned": MethodEntry(
        f"{_PRICING}:priced",
        "The exact plan at the prices of a small network, which leave room for requests of later rounds; see simulate.",
        options=("policy",),
        prepare=(f"{_PRICING}:default_price_policy",),
        compared=False,
        reads_policy=f"{_PRICING}:load_price_policy",
    ),
    "exact": MethodEntry(
        f"{_METHODS}.exact:optimum", "The proven optimum, in time proportional to users times max_batch."
    ),
    "genetic": MethodEntry(
        f"{_METHODS}.genetic:genetic",
        "The paper's genetic algorithm over who is granted; every split is optimised.",
        **_GENETIC,
    ),
    "genetic-joint": MethodEntry(
        f"{_METHODS}.genetic:genetic_joint", "The same algorithm with every split as a gene.", **_GENETIC
    ),
    "memetic": MethodEntry(
        f"{_METHODS}.memetic:memetic",
        "A general-purpose peer: a genetic algorithm whose plans climb by shifts and swaps of users.",
        **_GENETIC | {"options": ("seed",)},
    ),
    "ilp-fixed": MethodEntry(
        f"{_METHODS}.ilp:ilp_fixed",
        "The paper's branch and bound, all splits at min_local_steps, with a program of our own.",
        most_compared=200,
        **_PROGRAM,
    ),
    "ilp-products": MethodEntry(
        f"{_METHODS}.products:ilp_products",
        "The same with the standard linearisation of products, which the paper cites.",
        most_compared=50,
        **_PROGRAM,
    ),
    "ilp-rlt": MethodEntry(
        f"{_METHODS}.products:ilp_rlt",
        "The same with the RLT at level 1, which the paper cites.",
        most_compared=50,
        **_PROGRAM,
    ),
    "ilp-joint": MethodEntry(
        f"{_METHODS}.ilp:ilp_joint", "Branch and bound over decisions and splits.", most_compared=200, **_PROGRAM
    ),
    "all-local": MethodEntry("edgesplit.optimizer.model.qoe:all_local", "Baseline 3: every request is denied."),
    "offload-all": MethodEntry(
        f"{_METHODS}.baselines:offload_all",
        "Baseline 1: the first max_batch requests offload, each with its best split.",
    ),
    "offload-all-fixed": MethodEntry(
        f"{_METHODS}.baselines:offload_all_fixed",
        "Baseline 2: the same requests offload, all with one split.",
        options=("offloaded_steps",),
    ),
    "assign": MethodEntry(
        f"{_ASSIGNMENT}.search:assign",
        "Several servers, the default there: exchanges along the residual graph, with a dual bound as proof.",
        prepare=("scipy.optimize",),
        servers=True,
    ),
    "assign-exact": MethodEntry(
        f"{_ASSIGNMENT}.branch:assign_exact",
        "Several servers: the proven optimum by branch and bound over the servers' states.",
        options=("time_limit_s",),
        most_compared=1000,
        prepare=("scipy.optimize",),
        servers=True,
    ),
    "ilp-states": MethodEntry(
        f"{_ASSIGNMENT}.ilp_states:ilp_states",
        "Several servers: HiGHS on a program whose binaries are states alone.",
        most_compared=100,
        servers=True,
        **_PROGRAM,
    ),
    "genetic-assign": MethodEntry(
        f"{_ASSIGNMENT}.genetic:genetic_assign",
        "Several servers: a genetic algorithm with one gene for each user.",
        servers=True,
        **_GENETIC,
    ),
    "greedy": MethodEntry(
        f"{_ASSIGNMENT}.baselines:greedy", "Several servers: one more user at a time, whoever gains most.", servers=True
    ),
    "server-by-server": MethodEntry(
        f"{_ASSIGNMENT}.baselines:server_by_server",
        "Several servers: each plans exactly for the users that those before it have left.",
        servers=True,
    ),
    "nearest": MethodEntry(
        f"{_ASSIGNMENT}.baselines:nearest",
        "Several servers: every user asks the server of its best link alone.",
        servers=True,
    ),
}

ANYWHERE = ("all-local",)
"""Methods that plan one server and several alike."""


def methods_for(several: bool) -> dict[str, MethodEntry]:
    """The known methods that a comparison has, by name: those for several servers, or those for one."""
    known = [(name, entry) for name, entry in known_methods().items() if entry.compared]
    return {name: entry for name, entry in known if entry.servers == several or (several and name in ANYWHERE)}


def known_methods() -> dict[str, MethodEntry]:
    """The built-in methods, and those of installed packages, by name."""
    from importlib.metadata import entry_points

    installed = {point.name: _entry_of(point) for point in entry_points(group=GROUP)}
    return {**installed, **BUILT_IN}  # a built-in name always means ours


def _entry_of(point: Any) -> MethodEntry:
    package = point.dist.name if point.dist else point.module
    return MethodEntry(f"{point.module}:{point.attr}", f"From the installed package {package}.")


def entry_of(reference: str) -> MethodEntry:
    """The entry of a method: a known name, or package.module:function.

    Raises:
        InputError: for anything else.
    """
    if reference in BUILT_IN:
        return BUILT_IN[reference]
    known = known_methods()
    if reference in known:
        return known[reference]
    if ":" in reference:
        return MethodEntry(reference, "An own method.")
    raise InputError(
        f"method: found {shown(reference)}, accepted: a name or package.module:function; {nearest(reference, known)}"
    )


def find_method(reference: str, options: Mapping[str, Any] | None = None) -> Method:
    """The function of a method, ready to plan with those of the options that it takes.

    Args:
        reference: known name, or package.module:function; modules are looked up in the working directory too.
        options: values of further arguments, of which those that the method does not have are left out.

    Raises:
        InputError: for a method that cannot be found or imported.
    """
    entry = entry_of(reference)
    for target in entry.prepare:
        _prepare(target)
    taken = {name: value for name, value in (options or {}).items() if name in entry.options}
    return partial(load_function(entry.target), **taken)


def _prepare(target: str) -> None:
    module, _, function = target.partition(":")
    import_module(module)
    if function:
        load_function(target)()


def load_function(target: str) -> Callable[..., Any]:
    """Import a function by its place, package.module:function.

    Raises:
        InputError: where there is none.
    """
    module, _, name = target.partition(":")
    function: Any = _imported(module, target)
    for part in name.split("."):
        if part not in vars(function):
            raise InputError(f"method {target}: found no {part!r} in {module}, accepted: the name of a function there")
        function = vars(function)[part]
    if not callable(function):
        raise InputError(f"method {target}: found {shown(function)}, accepted: a function of scenario and users")
    return function  # type: ignore[no-any-return]


def _imported(module: str, target: str) -> Any:
    """A module, from the working directory too: an own method lies where one works."""
    try:
        try:
            return import_module(module)
        except ModuleNotFoundError:
            if os.getcwd() in sys.path:
                raise
            sys.path.insert(0, os.getcwd())
            return import_module(module)
    except Exception as error:  # whatever an own module raises when it is imported
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise InputError(f"method {target}: cannot import {module} ({reason}); mend it or name another") from error
