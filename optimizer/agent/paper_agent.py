"""The paper's agent, section 5.3: its state (5.3.1), its Q-network (Fig. 6, 6.1.2), and how it decides. NumPy alone.

M: number of states side by side. P: number of places for users; a round with fewer users leaves the last ones empty.
t: number of the current user. Users before t have been handled, those after t are pending.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...common.arrays import Bools, Floats, Ints
from ..model.qoe import Scenario, Users
from .layers import Shapes, Weights, dense, layer_shapes
from .names import DENY, GRANT

PLACES = 30
"""Number of users that the state has room for: the paper's largest rounds."""
EMBEDDING = (4, 3)
"""Number of indicators, and width of the vector that each is embedded in, section 6.1.2."""
HIDDEN = (256, 256, 256)
"""Widths of the hidden layers, section 6.1.2."""
PENDING, CURRENT, GRANTED, DENIED = range(4)
"""The indicator o_i of a user."""
LOCAL_SCALE = np.array([1 / 30, 10.0, 0.1])
"""Factors that bring alpha_i, L_i(1) and k_i near 1 as inputs of the network; the paper does not say how it scales."""
GLOBAL_SCALE = np.array([1 / 20, 100.0, 50.0, 1 / 30, 1 / 30, 1 / 30])
"""Factors of B_max, k_e / G, h_e and the numbers of pending, granted and denied users."""


@dataclass(frozen=True)
class PaperState:
    """States of section 5.3.1, cyclically shifted so that the current user comes first.

    Attributes:
        users: static local sub-states [alpha_i, L_i(1), k_i], shape (M, P, 3); 0 at empty places.
        status: indicators o_i, shape (M, P); an empty place counts as denied.
        system: global sub-states [B_max, k_e / G, h_e; pending, granted, denied], shape (M, 6).
    """

    users: Floats
    status: Ints
    system: Floats

    def scaled(self) -> "PaperState":
        """The same states in the units that the network sees."""
        return PaperState(self.users * LOCAL_SCALE, self.status, self.system * GLOBAL_SCALE)


def paper_state(users: Floats, system: Floats, present: Bools, granted: Bools, t: Ints) -> PaperState:
    """The state s_t of section 5.3.1.

    Args:
        users: `static_local` of every place in file order, shape (M, P, 3); 0 at empty places.
        system: `static_global`, shape (M, 3).
        present: whether there is a user at a place, shape (M, P).
        granted: whether the user there has been granted, shape (M, P).
        t: number of the current user, shape (M,).
    """
    count, b = present.sum(axis=1), granted.sum(axis=1)
    numbers = np.stack([count - t, b, t - b], axis=1)
    status = statuses(present, granted, t)
    return PaperState(shifted(users, t), shifted(status, t), np.concatenate([system, numbers], axis=1))


def static_local(users: Users) -> Floats:
    """[alpha_i, L_i(1), k_i] of every user: the users' shape with an axis of 3 behind it."""
    return np.stack([users.alpha, users.step_latency_s, users.request_slot.astype(float)], axis=-1)


def static_global(scenario: Scenario) -> Floats:
    """[B_max, k_e / G, h_e], shape (3,)."""
    edge = scenario.edge
    return np.array([scenario.max_batch, edge.slope_s / scenario.gpus, edge.intercept_s])


def statuses(present: Bools, granted: Bools, t: Ints) -> Ints:
    """The indicator o_i of every place, shape (M, P); arguments as in `paper_state`."""
    place = np.arange(present.shape[1])
    status = np.where(granted, GRANTED, DENIED)
    status = np.where(place > t[:, None], PENDING, status)
    status = np.where(place == t[:, None], CURRENT, status)
    return np.where(present, status, DENIED)


def shifted(rows: np.ndarray, t: Ints) -> np.ndarray:
    """The places cyclically shifted so that user t comes first, Fig. 6; rows (M, P, ...)."""
    places = (t[:, None] + np.arange(rows.shape[1])) % rows.shape[1]
    moved: np.ndarray = rows[np.arange(len(t))[:, None], places]
    return moved


def paper_q(weights: Weights, state: PaperState) -> Floats:
    """Q of deny and grant, shape (M, 2): embedded indicators beside the static elements, then dense layers, Fig. 6."""
    local = np.concatenate([state.users, weights["embedding.weight"][state.status]], axis=2)
    return dense(weights, "layers", np.concatenate([local.reshape(len(local), -1), state.system], axis=1))


def layer_widths(places: int) -> list[int]:
    """Numbers of inputs, of units of each hidden layer, and of outputs of the dense layers."""
    return [places * (3 + EMBEDDING[1]) + 6, *HIDDEN, 2]


@dataclass(frozen=True)
class PaperAgent:
    """The paper's agent; its network sees numbers in their units, so it decides only rounds like those of its training.

    Attributes:
        places: number of users that the network has room for, P.
    """

    needs_range: ClassVar[bool] = True
    own_order: ClassVar[bool] = False
    places: int

    def shapes(self) -> Shapes:
        """The shapes of the network's weights."""
        return {"embedding.weight": [*EMBEDDING], **layer_shapes("layers", layer_widths(self.places))}

    def decide(self, weights: Weights, scenario: Scenario, users: Users) -> Bools:
        """Whom the network grants, in file order; users of cells of equal size, arrays and result (cells, users)."""
        cells, count = users.alpha.shape
        local = np.zeros((cells, self.places, 3))
        local[:, :count] = static_local(users)
        present = np.broadcast_to(np.arange(self.places) < count, (cells, self.places))
        system = np.broadcast_to(static_global(scenario), (cells, 3))
        granted = np.zeros((cells, self.places), bool)
        for t in range(count):
            q = paper_q(weights, paper_state(local, system, present, granted, np.full(cells, t)).scaled())
            granted[:, t] = (q[:, GRANT] > q[:, DENY]) & (granted.sum(axis=1) < scenario.max_batch)
        return granted[:, :count]
