"""Simple ways to use several servers: what is lost without exchanges between them."""

from collections.abc import Callable

import numpy as np

from ....common.arrays import Bools, Ints
from ...model.qoe import Scenario, Users
from ...model.servers import NOWHERE, Fleet, FleetPlan, link_rates
from .flow import Flow
from .table import by_cell, gain_table, split_assigned


def nearest(scenario: Scenario, users: Users) -> FleetPlan:
    """Every user asks the server of its best link alone, and every server plans its own users exactly.

    Of equal links the server is taken that fewer users before have asked.
    """
    return by_cell(scenario, users, _nearest)


def server_by_server(scenario: Scenario, users: Users) -> FleetPlan:
    """One server after another plans exactly for the users that those before have left."""
    return by_cell(scenario, users, _server_by_server)


def greedy(scenario: Scenario, users: Users) -> FleetPlan:
    """One more user at one server, whichever gains most, while that gains; nobody who is granted moves again."""
    return by_cell(scenario, users, _greedy)


def _nearest(fleet: Fleet, users: Users) -> FleetPlan:
    asked = _best_links(fleet, users)
    return _each_plans(fleet, users, lambda m, free: free & (asked == m))


def _best_links(fleet: Fleet, users: Users) -> Ints:
    """The server of every user's best link, shape (users,); `NOWHERE` where it reaches none."""
    rate, asking = link_rates(fleet, users), np.zeros(len(fleet.servers), int)
    chosen = np.full(len(users), NOWHERE)
    for i, links in enumerate(rate):
        if links.max() > 0:
            chosen[i] = np.argmin(np.where(links == links.max(), asking, len(users)))
            asking[chosen[i]] += 1
    return chosen


def _server_by_server(fleet: Fleet, users: Users) -> FleetPlan:
    return _each_plans(fleet, users, lambda _, free: free)


def _each_plans(fleet: Fleet, users: Users, pool_of: Callable[[int, Bools], Bools]) -> FleetPlan:
    """One server after another plans exactly for its pool of the users who are still free."""
    table = gain_table(fleet, users)
    server, placement = np.full(len(users), NOWHERE), np.zeros(len(table), int)
    for m, states in enumerate(table):
        state, chosen = states.best_choice(np.flatnonzero(pool_of(m, server == NOWHERE)))
        server[chosen], placement[m] = m, max(0, int(states.placement[state]))
    return split_assigned(fleet, users, table, server, placement)


def _greedy(fleet: Fleet, users: Users) -> FleetPlan:
    table = gain_table(fleet, users)
    flow = Flow(table, len(users))
    while True:
        offers = [_offer(flow, m) for m in range(flow.local)]
        gain, m, user, placement = max(offers)
        if gain <= flow.slack:
            return split_assigned(fleet, users, table, flow.server, flow.placement)
        flow.move([(user, m)])
        flow.set_state(m, placement, int(flow.count[m]) + 1)


def _offer(flow: Flow, m: int) -> tuple[float, int, int, int]:
    """What one more user gains at a server: the gain, the server, the user, and the set of models with which."""
    count, own = int(flow.count[m]), np.flatnonzero(flow.place == m)
    sets = range(len(flow.table[m].placements)) if count == 0 else [int(flow.placement[m])]
    best = (-np.inf, m, -1, 0)
    for placement in sets:
        row = flow.row(m, placement, count + 1)
        user = int(np.argmax(np.where(flow.place == flow.local, row, -np.inf)))
        gain = float(row[user] + (row[own] - flow.value[m, own]).sum())
        if flow.place[user] == flow.local:
            best = max(best, (gain, m, user, placement))
    return best
