"""The best assignment at given states, kept while states change: the residual graph of the servers and local.

Its nodes are the M servers and, as number M, the users' own devices. The edge from x to y is the one user at x whose
move to y gains most. At fixed states a closed walk of moves changes no count, so an assignment is optimal exactly if no
cycle of the graph gains anything: this is a transportation problem. A path from x to y changes the counts of its ends
alone, and the best path says which users have to move for that.
"""

from copy import copy

import numpy as np

from ....common.arrays import Floats, Ints
from ...model.servers import NOWHERE
from .table import Table

SLACK = 1e-10
"""Seconds, relative to the gains, below which a change counts as none."""


class CircleError(ArithmeticError):
    """Rounding has put a cycle that gains nothing into the best paths."""


class Flow:
    """An assignment, with the gains of the servers' states.

    Attributes:
        table: the states of every server.
        place: server of every user, M for local; shape (users,).
        placement: number of every server's set of models, shape (servers,).
        count: granted users of every server, shape (servers,).
        value: gains of all users at the states, shape (servers + 1, users); the last row is 0.
    """

    def __init__(self, table: Table, users: int) -> None:
        self.table = table
        servers = len(table)
        self.place = np.full(users, servers)
        self.placement, self.count = np.zeros(servers, int), np.zeros(servers, int)
        self.value = np.zeros((servers + 1, users))
        self.slack = SLACK * (1 + max((float(states.gain.max(initial=0)) for states in table), default=0.0))

    @property
    def local(self) -> int:
        """Number of the node that stands for the users' own devices, M."""
        return len(self.table)

    @property
    def server(self) -> Ints:
        """Server of every user, `NOWHERE` for local; shape (users,)."""
        return np.where(self.place < self.local, self.place, NOWHERE)

    @property
    def total(self) -> float:
        """What the assignment gains over all local, seconds."""
        return float(self.value[self.place, np.arange(self.place.size)].sum())

    def row(self, server: int, placement: int, count: int) -> Floats:
        """The gains in a state; minus infinity for one that there is not, and for what nobody may enter."""
        state = self.table[server].at(placement, count)
        return np.full(self.place.size, -np.inf) if state < 0 else self.table[server].gain[state]

    def set_state(self, server: int, placement: int, count: int) -> None:
        """Change a server's state; its users have to be brought to that number by whoever does so."""
        self.placement[server], self.count[server] = placement, count
        self.value[server] = self.row(server, placement, count) if count else -np.inf

    def copy(self) -> "Flow":
        """The same assignment, to be changed on its own."""
        other = copy(self)
        for name in ("place", "placement", "count", "value"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def pool(self, server: int) -> Ints:
        """The users of a server, and the local ones."""
        return np.flatnonzero((self.place == server) | (self.place == self.local))

    def occupy(self, server: int, placement: int, users: Ints) -> None:
        """Give a server these users instead of its own, and this set of models."""
        self.place[self.place == server] = self.local
        self.place[users] = server
        self.set_state(server, placement, users.size)

    def members(self) -> list[Ints]:
        """The users of every server, by its number."""
        granted = np.flatnonzero(self.place < self.local)
        granted = granted[np.argsort(self.place[granted], kind="stable")]
        return np.split(granted, np.cumsum(np.bincount(self.place[granted], minlength=self.local))[:-1])

    def edges(self) -> tuple[Floats, Ints]:
        """The residual graph: the gain of every edge and its user, both of shape (servers + 1, servers + 1)."""
        nodes = self.local + 1
        gain, who = np.full((nodes, nodes), -np.inf), np.full((nodes, nodes), -1)
        for x, users in enumerate([*self.members(), np.flatnonzero(self.place == self.local)]):
            if users.size:
                gain[x], who[x] = best_of(self.value[:, users] - self.value[x, users], users)
        np.fill_diagonal(gain, 0.0)
        return gain, who

    def settle(self) -> None:
        """Move users around cycles that gain, until there is none: the best assignment at these states."""
        while True:
            gain, who = self.edges()
            cycle = gaining_cycle(gain, self.slack)
            if not cycle:
                return
            self.move([(int(who[x, y]), y) for x, y in cycle])

    def move(self, moves: list[tuple[int, int]]) -> None:
        """Put users at nodes."""
        for user, node in moves:
            self.place[user] = node


def transport(table: Table, state: Ints) -> Flow:
    """The best assignment with these states, of at most b(s) users each: SciPy's for users and single places.

    Args:
        table: the states of every server.
        state: number of every server's state, shape (servers,).
    """
    from scipy.optimize import linear_sum_assignment

    flow = Flow(table, table[0].gain.shape[1])
    count = np.array([states.count[s] for states, s in zip(table, state, strict=True)])
    rows = np.array([states.gain[s] for states, s in zip(table, state, strict=True)])
    at = np.repeat(np.arange(count.size), count)
    gain = np.maximum(rows[at], 0)  # who would lose stays local
    place, user = linear_sum_assignment(gain, maximize=True)
    granted = gain[place, user] > 0
    flow.place[user[granted]] = at[place[granted]]
    for m, (states, s) in enumerate(zip(table, state, strict=True)):
        flow.set_state(m, max(0, int(states.placement[s])), int((flow.place == m).sum()))
    return flow


def best_of(gains: Floats, users: Ints) -> tuple[Floats, Ints]:
    """The largest entry of every row, and the user whose it is."""
    best = np.argmax(gains, axis=1)
    return gains[np.arange(len(gains)), best], users[best]


def gaining_cycle(gain: Floats, slack: float) -> list[tuple[int, int]]:
    """The edges of a cycle that gains more than the slack, by Bellman and Ford's rounds; empty where there is none."""
    nodes = len(gain)
    edges = gain.copy()
    np.fill_diagonal(edges, -np.inf)
    reached, before = np.zeros(nodes), np.full(nodes, -1)
    for _ in range(nodes):
        longer = reached[:, None] + edges
        best = np.argmax(longer, axis=0)
        value = longer[best, np.arange(nodes)]
        better = value > reached + slack
        if not better.any():
            return []
        reached, before = np.where(better, value, reached), np.where(better, best, before)
    cycle = _closed_walk(before)
    return cycle if sum(gain[edge] for edge in cycle) > slack else []


def _closed_walk(before: Ints) -> list[tuple[int, int]]:
    """A cycle among the last edges of the longest walks to every node."""
    for start in range(before.size):
        seen, node = [], start
        while node >= 0 and node not in seen:
            seen.append(node)
            node = int(before[node])
        if node >= 0:
            return [(int(before[x]), x) for x in seen[seen.index(node) :]]
    return []


def longest_paths(gain: Floats, slack: float = 0.0) -> tuple[Floats, Ints]:
    """The best path between any two nodes of a graph without gaining cycles, by Floyd and Warshall's rounds.

    Args:
        gain: gain of every edge, minus infinity for none, shape (nodes, nodes).
        slack: what a path has to gain more than another to be taken.

    Returns:
        (gain, next): of every pair the gain of its best path, and the node after its first one; (nodes, nodes).
    """
    nodes = len(gain)
    best, after = gain.copy(), np.tile(np.arange(nodes), (nodes, 1))
    for k in range(nodes):
        through = best[:, k, None] + best[None, k, :]
        better = through > best + slack
        best, after = np.where(better, through, best), np.where(better, after[:, k, None], after)
    return best, after


def path_edges(after: Ints, start: int, end: int) -> list[tuple[int, int]]:
    """The edges of the best path.

    Raises:
        CircleError: for a path that runs in a circle, which rounding alone can make of it.
    """
    edges, node = [], start
    while node != end:
        edges.append((node, int(after[node, end])))
        node = edges[-1][1]
        if len(edges) > len(after):
            raise CircleError
    return edges
