"""The server's log of its scheduler's calls, and their replay: the same calls must give the same decisions."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.arrays import Ints
from ..common.errors import InputError
from ..optimizer.model.qoe import Plan
from .price_policy import DEFAULT_POLICY
from .protocol import scenario_of
from .round_call import RoundCall
from .rounds import RoundSettings


class CallLog:
    """A file with a line for every call of the scheduler; its first line is what all calls share."""

    def __init__(self, path: Path, method: str, prices: str | None = None, policy: str = DEFAULT_POLICY) -> None:
        """An empty log.

        Args:
            path: the file; what it had is lost.
            method: how the server decides.
            prices: name or file of its prices; None for those that ship.
            policy: name or file of its policy.

        Raises:
            InputError: for a file that cannot be written.
        """
        self._way = {"method": method, "prices": prices, "policy": policy}
        try:
            self._handle = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InputError(f"--log: {path}: cannot write: {error.strerror}; name another file") from error

    def begin(self, settings: RoundSettings) -> None:
        """Write the first line."""
        shared = {"scenario": asdict(settings.scenario), "images_each": settings.images_each}
        self._handle.write(json.dumps(self._way | shared) + "\n")

    def write(self, call: dict[str, Any]) -> None:
        """Write a call."""
        self._handle.write(json.dumps(call) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def replay(path: Path, plan: Callable[..., Plan]) -> list[tuple[dict[str, Any], Plan]]:
    """Decide every call of a log again.

    Args:
        path: a log of `serve --log`.
        plan: how the server decided, such as `scheduler.decide`.

    Returns:
        Every call as it was logged, and the plan of now.
    """
    return [(call, made) for call, made, _ in replay_revised(path, plan, None)]


def replay_revised(
    path: Path, plan: Callable[..., Plan], revise: Callable[..., Ints] | None
) -> list[tuple[dict[str, Any], Plan, Ints]]:
    """The same with the new splits of the images in flight.

    Args:
        path: a log of `serve --log`.
        plan: how the server decided.
        revise: how it gave images in flight new splits; None where splits stayed.

    Returns:
        Every call as it was logged, the plan of now, and the splits of now.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    shared = json.loads(lines[0])
    scenario, calls = scenario_of(shared["scenario"]), [json.loads(line) for line in lines[1:]]
    each = shared["images_each"]
    return [(call, *RoundCall.logged(scenario, call).decided(plan, revise, each)) for call in calls]
