"""The two agents behind one interface: the one place that chooses between them by the network's name."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from ...common.arrays import Bools
from ..model.qoe import Scenario, Users
from .layers import Shapes, Weights
from .names import NetworkName
from .paper_agent import PaperAgent
from .set_agent import SetAgent


class Agent(Protocol):
    """What every agent can do.

    Attributes:
        needs_range: whether it decides only rounds whose numbers lie in the range of those that it was trained on.
        own_order: whether it takes users in an order of its own, so that the file's does not matter.
    """

    needs_range: ClassVar[bool]
    own_order: ClassVar[bool]

    def shapes(self) -> Shapes:
        """The shapes of its network's weights, by name."""

    def decide(self, weights: Weights, scenario: Scenario, users: Users) -> Bools:
        """Whom it grants; users of cells of equal size, arrays and result (cells, users)."""


def _paper_agent(places: int | None) -> Agent:
    if places is None:
        raise ValueError("with a flat network also places")
    return PaperAgent(places)


AGENTS: Mapping[NetworkName, Callable[[int | None], Agent]] = {"flat": _paper_agent, "set": lambda _: SetAgent()}
"""Makes the agent of each network from the number of its places for users, None where there is no such number."""
