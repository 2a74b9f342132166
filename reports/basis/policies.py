"""The policies that the exhibits plan with: the shipped ones of Fig. 9, and the one of the proposed method."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256

from ...optimizer.agent.policies import Policy, find_policy, load_policy

SCOPES: dict[str, Callable[[int], str]] = {
    "general (set network)": lambda _: "set-general",
    "general (paper's network)": lambda _: "paper-general",
    "GPU-constrained": lambda gpus: f"gpu-{gpus}",
    "specific": lambda gpus: "specific" if gpus == 8 else f"specific-{gpus}",
}
"""The policy of each scope of Fig. 9 for a number of GPUs; all but the first have the paper's network."""
SCOPE_GPUS = (1, 2, 4, 8)
"""Numbers of edge GPUs in Fig. 9."""


@cache
def policy(name: str) -> Policy:
    """A policy by its name or file, read once per process."""
    return load_policy(name)


def policy_digests(*names: str) -> dict[str, str]:
    """The SHA-256 of the weights of every policy of Fig. 9, and of the named ones."""
    used = {*names, *(name_of(gpus) for name_of in SCOPES.values() for gpus in SCOPE_GPUS)}
    return {name: sha256(find_policy(name).read_bytes()).hexdigest() for name in sorted(used)}
