"""The system model of the paper, sections 3.3 to 4: one function for each term, and the evaluation of any plan.

N: total steps. N-hat: least local steps. n: local steps of a user. b: granted users of a round (the batch).
G: edge GPUs. L_i: seconds per local step of user i. L_e: seconds per edge step. All times are in seconds.
b_0, q_0: images and intermediates of earlier rounds, at the edge and on the radio; 0 in the paper.
Functions broadcast: users and batches may stand on different axes.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...common.arrays import Bools, Floats, Ints
from ...fitting.latency import LatencyModel
from ...fitting.pai import PaiCurve


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Every number of the system; symbols as in the paper.

    Attributes:
        edge: step latency of one edge GPU, with k_e, h_e and a floor.
        gpus: number of edge GPUs, G.
        max_batch: largest number of granted users in a round, B_max.
        bandwidth_hz: bandwidth W_max in Hz, shared equally by the granted users.
        spectral_efficiency: eta in bit/s/Hz.
        prompt_bits: size of a prompt, s_p, in bits.
        latent_bits: size of an intermediate, s_m, in bits.
        interval_s: length of a round, Delta, in seconds.
        slots: number of request slots in a round, K.
        reference_batch: batch b-hat at which an emphasis is turned into an alpha.
        total_steps: denoising steps of an image, N.
        min_local_steps: last steps that stay on the user's device, N-hat.
        pai: PAI that is expected at a split point, F.
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
    def in_flight(self) -> int:
        """Images of earlier rounds that step at the edge, b_0; the paper's edge is empty."""
        return 0

    @property
    def on_radio(self) -> int:
        """Intermediates of earlier rounds that share the bandwidth, q_0."""
        return 0

    @property
    def steps(self) -> Ints:
        """Every number of local steps, 0..N."""
        return np.arange(self.total_steps + 1)

    def with_gpus(self, gpus: int, images_each: int | None = None) -> "Scenario":
        """The same scenario with another number of edge GPUs.

        Args:
            gpus: new number of edge GPUs, G.
            images_each: images that the memory of one GPU holds, which bounds B_max; None if that is not known.
        """
        held = self.max_batch if images_each is None else gpus * images_each
        return replace(self, gpus=gpus, max_batch=min(self.max_batch, held))


@dataclass(frozen=True, kw_only=True)
class BusyScenario(Scenario):
    """A scenario whose edge and radio still serve earlier rounds; see `Scenario`."""

    in_flight: int = 0
    on_radio: int = 0


def numbers_of(scenario: Scenario) -> dict[str, Any]:
    """The fields of `Scenario`, without those of what is more than one."""
    return {entry.name: getattr(scenario, entry.name) for entry in fields(Scenario)}


def with_load(scenario: Scenario, in_flight: int, on_radio: int) -> Scenario:
    """The scenario with this load, b_0 images and q_0 intermediates; unchanged where there is none."""
    if in_flight == on_radio == 0:
        return scenario
    return BusyScenario(**numbers_of(scenario), in_flight=in_flight, on_radio=on_radio)


@dataclass(frozen=True)
class Users:
    """The users of one or more cells, as arrays of shape (users,).

    Attributes:
        step_latency_s: seconds of one step on the user's own device, L_i(1).
        alpha: seconds of latency that a PAI of 1 is worth to the user.
        request_slot: slot of the user's request, k_i, from 1 to K.
        cell: number of the user's cell, from 0; every cell is a round of its own.
        cluster: with several models, number of the cluster of every user, -1 for none; None where all have none.
        rate: with several servers, spectral efficiency of every user's link to each, bit/s/Hz, shape (users, servers):
            0 where it cannot be reached, NaN for the server's own; None where all have the servers' own.
    """

    step_latency_s: Floats
    alpha: Floats
    request_slot: Ints
    cell: Ints
    cluster: Ints | None = field(default=None, kw_only=True)
    rate: Floats | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return self.step_latency_s.size

    def take(self, places: Ints) -> "Users":
        """The users at these places, arrays of the shape of `places`."""
        return Users(
            self.step_latency_s[places],
            self.alpha[places],
            self.request_slot[places],
            self.cell[places],
            cluster=None if self.cluster is None else self.cluster[places],
            rate=None if self.rate is None else self.rate[places],
        )

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(self.cell.max()) + 1 if len(self) else 0


@dataclass(frozen=True)
class Plan:
    """The decisions for all users, as arrays of shape (users,).

    Attributes:
        granted: whether the user's request is granted, x_i^g.
        local_steps: split point n_i; N where the request is denied.
        note: what the method says about its plan, such as a solver's status.
    """

    granted: Bools
    local_steps: Ints
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What a plan gives each user, as arrays of shape (users,), in seconds except for `pai`.

    Attributes:
        pai: expected PAI, F(n_i).
        latency_s: time from request to image, L_i.
        wait_s: time from the request to the end of its round.
        transmit_s: time to send the prompt up and the intermediate down; 0 if denied.
        edge_s: time of the steps N..n_i + 1 at the edge; 0 if denied.
        local_s: time of the steps n_i..1 on the user's device.
        qoe: quality of experience, alpha_i F(n_i) - L_i.
    """

    pai: Floats
    latency_s: Floats
    wait_s: Floats
    transmit_s: Floats
    edge_s: Floats
    local_s: Floats
    qoe: Floats


def edge_step_latency(scenario: Scenario, batch: ArrayLike) -> Floats:
    """L_e(b_0 + b, G) = k_e ((b_0 + b) / G) + h_e, section 3.3; never below the profile's floor. Seconds, any shape."""
    return scenario.edge.step_latency((scenario.in_flight + np.asarray(batch)) / scenario.gpus)


def wait_time(scenario: Scenario, request_slot: ArrayLike) -> Floats:
    """l^R = (K - k) Delta / K: a request at slot k waits for the round's remaining slots, section 4."""
    delta, slots, k = scenario.interval_s, scenario.slots, np.asarray(request_slot)
    return (slots - k) * delta / slots


def transmit_time(scenario: Scenario, batch: ArrayLike, efficiency: ArrayLike | None = None) -> Floats:
    """l^T = s_p / (eta W_i) + s_m / (eta W_i), eq. (7): the prompt up and the intermediate down.

    Every granted user has an equal share of the bandwidth, W_i = W_max / (q_0 + b), eq. (8). Both legs have that share,
    so they are one fraction here, over eta W_max, which rounds only once.

    Args:
        scenario: the system, with the load of its radio.
        batch: newly granted users, b, any shape.
        efficiency: eta of each user's own link, bit/s/Hz, broadcast against `batch`; None for the scenario's.
    """
    s_p, s_m, b = scenario.prompt_bits, scenario.latent_bits, scenario.on_radio + np.asarray(batch, float)
    eta = scenario.spectral_efficiency if efficiency is None else np.asarray(efficiency, float)
    seconds: Floats = (s_p + s_m) * b / (eta * scenario.bandwidth_hz)
    return seconds


def edge_time(scenario: Scenario, local_steps: ArrayLike, step_latency_s: ArrayLike) -> Floats:
    """l^E = (N - n) L_e, eq. (10)."""
    seconds: Floats = (scenario.total_steps - np.asarray(local_steps, float)) * np.asarray(step_latency_s, float)
    return seconds


def local_time(local_steps: ArrayLike, step_latency_s: ArrayLike) -> Floats:
    """l^L = n L_i(1), section 4."""
    seconds: Floats = np.asarray(local_steps, float) * np.asarray(step_latency_s, float)
    return seconds


def latency(granted: Bools, wait_s: Floats, transmit_s: Floats, edge_s: Floats, local_s: Floats) -> Floats:
    """L_i = l^R + x_i^g l^T + x_i^g l^E + l^L, eq. (6)."""
    seconds: Floats = wait_s + granted * transmit_s + granted * edge_s + local_s
    return seconds


def quality_of_experience(alpha: ArrayLike, pai: ArrayLike, latency_s: ArrayLike) -> Floats:
    """QoE of a user: alpha_i F(n_i) - L_i, section 4; seconds."""
    qoe: Floats = np.asarray(alpha, float) * np.asarray(pai, float) - np.asarray(latency_s, float)
    return qoe


def batch_of(plan: Plan, users: Users) -> Ints:
    """b_g of every cell, eq. (9); shape (cells,)."""
    return np.bincount(users.cell[plan.granted], minlength=users.cells)


def evaluate(scenario: Scenario, users: Users, plan: Plan) -> Evaluation:
    """What a plan gives every user, whichever method made it; the terms of the objective of (P1)."""
    n, granted = plan.local_steps, plan.granted
    b = batch_of(plan, users)[users.cell]
    wait, transmit = wait_time(scenario, users.request_slot), transmit_time(scenario, b)
    edge = edge_time(scenario, n, edge_step_latency(scenario, b))
    local = local_time(n, users.step_latency_s)
    latency_s, pai = latency(granted, wait, transmit, edge, local), scenario.pai.value(n)
    qoe = quality_of_experience(users.alpha, pai, latency_s)
    return Evaluation(pai, latency_s, wait, granted * transmit, granted * edge, local, qoe)


def objective(users: Users, evaluation: Evaluation) -> Floats:
    """The objective of (P1), the sum of the QoE, for every cell; shape (cells,)."""
    return np.bincount(users.cell, weights=evaluation.qoe, minlength=users.cells).astype(float)


def all_local(scenario: Scenario, users: Users) -> Plan:
    """The plan that denies every request: all steps run on the users' own devices."""
    return Plan(np.zeros(len(users), bool), np.full(len(users), scenario.total_steps))


def constraints(scenario: Scenario, users: Users, plan: Plan) -> dict[str, Bools]:
    """Who keeps the constraints of (P1), section 4: the name of each, and an array of shape (users,).

    C1, eq. (2), one handling for each request, holds by construction: `granted` has one entry for each user.
    """
    n, granted = plan.local_steps, plan.granted
    n_hat, total = scenario.min_local_steps, scenario.total_steps
    b = batch_of(plan, users)[users.cell]
    return {
        "C2": ~granted | (b <= scenario.max_batch),  # eq. (3)
        "C3": (n_hat <= n) & (n <= total),  # eq. (4)
        "C4": granted | (n == total),  # eq. (5)
    }


def feasible(scenario: Scenario, users: Users, plan: Plan) -> bool:
    """Whether a plan keeps C1 to C4, eqs. (2) to (5)."""
    return all(bool(kept.all()) for kept in constraints(scenario, users, plan).values())
