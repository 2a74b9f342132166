"""The system model of the paper, sections 3.3 to 4: one function per term, and the evaluator of every plan.

N: total steps. N-hat: least local steps. n: local steps of a user. b: granted users of a round (the batch).
G: edge GPUs. L_i: seconds per local step of user i. L_e: seconds per edge step. All times in seconds.
Functions broadcast: users and batches may stand on different axes.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Bools, Floats, Ints
from ...fitting.latency import LatencyModel
from ...fitting.pai import PaiCurve


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Every number of the system, resolved; symbols as in the paper.

    Attributes:
        edge: k_e, h_e (and floor) of one edge GPU.
        gpus: G.
        max_batch: B_max, granted users of a round at most.
        bandwidth_hz: W_max, shared equally by the granted users.
        spectral_efficiency: eta, bit/s/Hz.
        prompt_bits: s_p, bits.
        latent_bits: s_m, bits.
        interval_s: Delta, seconds of a round.
        slots: K, request slots of a round.
        reference_batch: b-hat, the batch at which emphasis is turned into alpha.
        total_steps: N.
        min_local_steps: N-hat.
        pai: the PAI expected at a split point.
    """

    edge: LatencyModel
    gpus: int
    max_batch: int
    bandwidth_hz: float
    spectral_efficiency: float
    prompt_bits: float
    latent_bits: float
    interval_s: float
    slots: int
    reference_batch: int
    total_steps: int
    min_local_steps: int
    pai: PaiCurve

    @property
    def steps(self) -> Ints:
        """Every number of steps, 0..N."""
        return np.arange(self.total_steps + 1)

    def with_gpus(self, gpus: int, images_each: int | None = None) -> "Scenario":
        """The same with G edge GPUs; B_max is at most what their memory holds, of which None says nothing."""
        held = self.max_batch if images_each is None else gpus * images_each
        return replace(self, gpus=gpus, max_batch=min(self.max_batch, held))


@dataclass(frozen=True)
class Users:
    """The users of one or more cells, as arrays of shape (users,).

    Attributes:
        step_latency_s: L_i(1), seconds per step on the user's own device.
        alpha: seconds of latency that a PAI of 1 is worth to the user.
        request_slot: k_i, 1..K.
        cell: number of the user's cell, 0..cells-1; every cell is a round of its own.
    """

    step_latency_s: Floats
    alpha: Floats
    request_slot: Ints
    cell: Ints

    def __len__(self) -> int:
        return self.step_latency_s.size

    def take(self, places: Ints) -> "Users":
        """The users at these places."""
        return Users(self.step_latency_s[places], self.alpha[places], self.request_slot[places], self.cell[places])

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return int(self.cell.max()) + 1 if len(self) else 0


@dataclass(frozen=True)
class Plan:
    """The decisions for all users, as arrays of shape (users,).

    Attributes:
        granted: x_i^g.
        local_steps: n_i; N where the request is denied.
        note: what the method says of it, such as a solver's status.
    """

    granted: Bools
    local_steps: Ints
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What a plan gives each user: arrays of shape (users,), seconds but for `pai`.

    Attributes:
        pai: F(n_i).
        wait_s: from the request to the end of the round.
        transmit_s: prompt up and intermediate down.
        edge_s: steps N..n_i + 1.
        local_s: steps n_i..1.
        qoe: alpha_i F(n_i) - L_i.
    """

    pai: Floats
    wait_s: Floats
    transmit_s: Floats
    edge_s: Floats
    local_s: Floats
    qoe: Floats

    @property
    def latency_s(self) -> Floats:
        """L_i, eq. (6)."""
        return self.wait_s + self.transmit_s + self.edge_s + self.local_s


def edge_step_latency(scenario: Scenario, batch: ArrayLike) -> Floats:
    """L_e(b, G) = k_e (b / G) + h_e, section 3.3; never below the profile's floor."""
    return scenario.edge.step_latency(np.asarray(batch) / scenario.gpus)


def wait_time(scenario: Scenario, request_slot: ArrayLike) -> Floats:
    """l^R: a request at slot k waits for the remaining K - k slots of the round, section 4."""
    delta, slots, k = scenario.interval_s, scenario.slots, np.asarray(request_slot)
    return (slots - k) * delta / slots


def transmit_time(scenario: Scenario, batch: ArrayLike) -> Floats:
    """l^T = (s_p + s_m) / (eta W_max / b), eqs. (7) and (8)."""
    bits = scenario.prompt_bits + scenario.latent_bits
    rate = scenario.spectral_efficiency * scenario.bandwidth_hz
    return bits * np.asarray(batch, float) / rate


def edge_time(scenario: Scenario, local_steps: ArrayLike, step_latency_s: ArrayLike) -> Floats:
    """l^E = (N - n) L_e, eq. (10)."""
    seconds: Floats = (scenario.total_steps - np.asarray(local_steps, float)) * np.asarray(step_latency_s, float)
    return seconds


def local_time(local_steps: ArrayLike, step_latency_s: ArrayLike) -> Floats:
    """l^L = n L_i(1), section 4."""
    seconds: Floats = np.asarray(local_steps, float) * np.asarray(step_latency_s, float)
    return seconds


def batch_of(plan: Plan, users: Users) -> Ints:
    """b_g of every cell, eq. (9); shape (cells,)."""
    return np.bincount(users.cell[plan.granted], minlength=users.cells)


def evaluate(scenario: Scenario, users: Users, plan: Plan) -> Evaluation:
    """Score a plan, whichever method made it: eqs. (6) to (10) and the objective's terms of (P1)."""
    n, granted = plan.local_steps, plan.granted
    b = batch_of(plan, users)[users.cell]
    pai = scenario.pai.value(n)
    wait = wait_time(scenario, users.request_slot)
    transmit = granted * transmit_time(scenario, b)
    edge = granted * edge_time(scenario, n, edge_step_latency(scenario, b))
    local = local_time(n, users.step_latency_s)
    qoe = users.alpha * pai - (wait + transmit + edge + local)
    return Evaluation(pai, wait, transmit, edge, local, qoe)


def objective(users: Users, evaluation: Evaluation) -> Floats:
    """The objective of (P1), the sum of the QoE, for every cell; shape (cells,)."""
    return np.bincount(users.cell, weights=evaluation.qoe, minlength=users.cells).astype(float)


def all_local(scenario: Scenario, users: Users) -> Plan:
    """Every request denied: all steps on the users' own devices."""
    return Plan(np.zeros(len(users), bool), np.full(len(users), scenario.total_steps))


def feasible(scenario: Scenario, users: Users, plan: Plan) -> bool:
    """Constraints C2 to C4, eqs. (3) to (5): batch size, range of the split, denied means all local."""
    n = plan.local_steps
    in_range = (scenario.min_local_steps <= n) & (n <= scenario.total_steps)
    local = plan.granted | (n == scenario.total_steps)
    return bool(np.all(in_range & local) and np.all(batch_of(plan, users) <= scenario.max_batch))
