"""The policies that the exhibits plan with: the shipped ones of Fig. 9, and the one of the proposed method."""

from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from typing import Any

from ...optimizer.agent.decide import drl_convex
from ...optimizer.agent.policies import Policy, find_policy, load_policy
from ...optimizer.methods.registry import Method

PAPERS, OURS = "paper-general", "set-general"
"""The general policies: of the paper's network, which stands as the proposed method, and of our own."""
SCOPE_GPUS = (1, 2, 4, 8)
"""Numbers of edge GPUs in Fig. 9."""
GENERAL, CONSTRAINED, SPECIFIC, GENERAL_OURS = "general", "GPU-constrained", "specific", "general (set network)"
SCOPES: dict[str, Callable[[int], str]] = {
    GENERAL: lambda _: PAPERS,
    CONSTRAINED: lambda gpus: f"gpu-{gpus}",
    SPECIFIC: lambda gpus: "specific" if gpus == 8 else f"specific-{gpus}",
    GENERAL_OURS: lambda _: OURS,
}
"""The policy of each scope of Fig. 9 for a number of GPUs; all but the last have the paper's network."""
ORDERS = 16
"""Orders of the users of which the best plan is kept, where a search is put on top of the paper's network."""
NETWORKS: dict[str, tuple[str, Callable[[str, int], dict[str, Any] | None]]] = {
    "drl-orders": (f"with {ORDERS} orders", lambda proposed, _: _plans_with(proposed, orders=ORDERS)),
    "drl-gpu": (CONSTRAINED, lambda _, gpus: _plans_with(SCOPES[CONSTRAINED](gpus)) if gpus in SCOPE_GPUS else None),
    "drl-set": ("our set network", lambda *_: _plans_with(OURS)),
}
"""What stands beside the proposed DRL-convex in Figs. 10, 11 and Table 1, by its name in tables: words for it, and the
arguments that it plans with by the proposed policy and G, None where there is no such policy."""


@cache
def policy(name: str) -> Policy:
    """A policy by its name or file, read once per process."""
    return load_policy(name)


def _plans_with(name: str, **further: Any) -> dict[str, Any]:
    return {"policy": policy(name), **further}


def networks(proposed: str, gpus: int) -> dict[str, Method]:
    """How DRL-convex plans otherwise for this number of GPUs, by the names of `NETWORKS`, where there is a policy.

    Args:
        proposed: policy of the proposed method, a name or a path.
        gpus: number of edge GPUs.
    """
    arguments = {name: of(proposed, gpus) for name, (_, of) in NETWORKS.items()}
    return {name: partial(drl_convex, **given) for name, given in arguments.items() if given is not None}


def policy_digests(*names: str) -> dict[str, str]:
    """The SHA-256 of the weights of every policy of Fig. 9, and of the named ones."""
    used = {*names, *(name_of(gpus) for name_of in SCOPES.values() for gpus in SCOPE_GPUS)}
    return {name: sha256(find_policy(name).read_bytes()).hexdigest() for name in sorted(used)}
