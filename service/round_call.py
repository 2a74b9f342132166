"""One call of a server's scheduler: what it sees of a round, what it decides, and how the log has it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..common.arrays import Ints
from ..fitting.latency import LatencyModel
from ..optimizer.model.qoe import Plan, Scenario, Users
from .ledger import Entry
from .scheduler import Images, Load

ASKED = ("step_latency_s", "alpha")
"""What the scheduler knows of who asks."""


@dataclass(frozen=True)
class RoundCall:
    """What the scheduler sees of a round.

    Attributes:
        scenario: the system, with step latency and bandwidth of now.
        load: what it is at work on.
        users: users of the round; there may be none where images in flight get new splits.
        images: images in flight.
    """

    scenario: Scenario
    load: Load
    users: Users
    images: Images

    @staticmethod
    def of(scenario: Scenario, load: Load, requests: Sequence[Entry], in_flight: Sequence[Entry]) -> "RoundCall":
        """The call for the requests of a round, and for images in flight."""
        latency, alpha = (np.array([getattr(entry.ask, name) for entry in in_flight], float) for name in ASKED)
        n = np.array([entry.local_steps for entry in in_flight], np.int64)
        left = np.array([max(1, entry.steps_left) for entry in in_flight], np.int64)
        users = _users(scenario, *([getattr(entry.ask, name) for entry in requests] for name in ASKED))
        return RoundCall(scenario, load, users, Images(latency, alpha, n, left))

    @staticmethod
    def logged(scenario: Scenario, call: dict[str, Any]) -> "RoundCall":
        """The call that a log has, of a server with this system."""
        now = replace(scenario, edge=LatencyModel(**call["edge"]), bandwidth_hz=call["bandwidth_hz"])
        there = call.get("images", {})
        latency, alpha = (np.array(there.get(name, []), float) for name in ASKED)
        n, left = (np.array(there.get(name, []), np.int64) for name in ("local_steps", "steps_left"))
        users = _users(now, *(call[name] for name in ASKED))
        return RoundCall(now, Load(**call["load"]), users, Images(latency, alpha, n, left))

    def decided(
        self, plan: Callable[..., Plan], revise: Callable[..., Ints] | None, images_each: int | None
    ) -> tuple[Plan, Ints]:
        """The plan of the round, and the splits of the images in flight.

        Args:
            plan: function as `scheduler.decide` without its rule.
            revise: function as `scheduler.revise` without its prices; None where splits stay.
            images_each: images that the memory of one GPU holds; None if that is not known.
        """
        made, splits = Plan(np.zeros(0, bool), np.zeros(0, np.int64)), self.images.local_steps
        if len(self.users):
            made = plan(self.scenario, self.load, self.users, images_each=images_each)
        if revise and splits.size:
            splits = revise(self.scenario, self.load, self.users, int(made.granted.sum()), self.images)
        return made, splits

    def record(self, plan: Plan) -> dict[str, Any]:
        """Everything that the scheduler got, and its plan, as JSON has them."""
        return {
            "step_latency_s": self.users.step_latency_s.tolist(),
            "alpha": self.users.alpha.tolist(),
            "edge": asdict(self.scenario.edge),
            "bandwidth_hz": self.scenario.bandwidth_hz,
            "load": asdict(self.load),
            "granted": plan.granted.tolist(),
            "local_steps": plan.local_steps.tolist(),
        }

    def record_of_images(self, splits: Ints) -> dict[str, Any]:
        """The same of the images in flight, with their new splits."""
        images = {name: values.tolist() for name, values in vars(self.images).items() if values is not None}
        return {"images": images, "revised": splits.tolist()}


def _users(scenario: Scenario, step_latency_s: Sequence[float], alpha: Sequence[float]) -> Users:
    """The users of a round."""
    slots, one_cell = np.full(len(alpha), scenario.slots), np.zeros(len(alpha), np.int64)
    return Users(np.array(step_latency_s, float), np.array(alpha, float), slots, one_cell)
