"""What an alpha means for one device, Remark 1: the range that is of use, and what every emphasis gives."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..common.arrays import Floats, Ints
from ..fitting.schemas import LARGEST
from .model.qoe import Scenario, edge_step_latency, edge_time, local_time, transmit_time
from .model.split import alpha_from_emphasis, alpha_range, best_split

EMPHASES = np.arange(11) / 10


@dataclass(frozen=True, kw_only=True)
class Served:
    """What granted users get with their best splits; arrays of shape (alphas, batches).

    Attributes:
        local_steps: split point n.
        pai: expected PAI, F(n).
        latency_s: seconds to send, at the edge and on the device; the wait for the round's end is not in them.
        worth_s: QoE that this gives more than all local, seconds; a plan denies where it is not above 0.
    """

    local_steps: Ints
    pai: Floats
    latency_s: Floats
    worth_s: Floats


@dataclass(frozen=True, kw_only=True)
class AlphaAdvice:
    """The alphas of one device.

    Attributes:
        scenario: the system that serves the user.
        alpha_gpus: G at which the alphas were made, as in `plan`: the scenario file's own.
        step_latency_s: L_i(1), seconds.
        step_saving_s: L_i - L_e(b-hat, G), seconds that an offloaded step saves; below 0 where the device is faster.
        low, high: Remark 1's bounds without their sign, seconds: below the first only latency counts, above the second
            only PAI; infinite where the PAI curve is flat.
        emphasis, alpha: emphases and the alpha of each in seconds, shape (alphas,).
        at_reference: what each alpha gives at the reference batch, shape (alphas, 1).
        batches: numbers of granted users.
        at_batches: what each alpha gives at each batch.
        faster_up_to: largest batch up to B_max at which the edge is faster than the device; 0 for none.
    """

    scenario: Scenario
    alpha_gpus: int
    step_latency_s: float
    step_saving_s: float
    low: float
    high: float
    emphasis: Floats
    alpha: Floats
    at_reference: Served
    batches: Sequence[int]
    at_batches: Served
    faster_up_to: int

    @property
    def paper_interval(self) -> tuple[float, float]:
        """The bounds as the paper prints them: negative, and the second below the first, where the device is faster."""
        sign = float(np.sign(self.step_saving_s))
        return sign * self.low, sign * self.high

    @property
    def local_pai(self) -> float:
        """PAI where all steps are the user's own."""
        return float(self.scenario.pai.value(self.scenario.total_steps))

    @property
    def local_latency_s(self) -> float:
        """Seconds of all steps on the user's device."""
        return self.scenario.total_steps * self.step_latency_s


def advise(scenario: Scenario, for_alpha: Scenario, step_latency_s: float, batches: Sequence[int]) -> AlphaAdvice:
    """What the emphases 0, 0.1, ... 1 mean for a device.

    Args:
        scenario: the system that serves the user.
        for_alpha: the system at whose G and reference batch an emphasis becomes an alpha, as in `plan`.
        step_latency_s: L_i(1), seconds.
        batches: numbers of granted users, each 1 or more.
    """
    low, high = alpha_range(for_alpha, step_latency_s)
    alpha = alpha_from_emphasis(for_alpha, step_latency_s, EMPHASES)
    edge_s = edge_step_latency(scenario, np.arange(1, scenario.max_batch + 1))
    return AlphaAdvice(
        scenario=scenario,
        alpha_gpus=for_alpha.gpus,
        step_latency_s=step_latency_s,
        step_saving_s=step_latency_s - float(edge_step_latency(for_alpha, for_alpha.reference_batch)),
        low=float(low),
        high=float(high),
        emphasis=EMPHASES,
        alpha=alpha,
        at_reference=serve(scenario, step_latency_s, alpha, [scenario.reference_batch]),
        batches=batches,
        at_batches=serve(scenario, step_latency_s, alpha, batches),
        faster_up_to=int(np.sum(edge_s < step_latency_s)),
    )


def serve(scenario: Scenario, step_latency_s: float, alpha: Floats, batches: Sequence[int]) -> Served:
    """What users of one device get where they are granted among so many.

    Args:
        scenario: the system.
        step_latency_s: L_i(1), seconds.
        alpha: their alphas, seconds, shape (alphas,).
        batches: numbers of granted users, shape (batches,).
    """
    b = np.array(batches)
    step_s, transmit_s = edge_step_latency(scenario, b), transmit_time(scenario, b)
    n, gain = best_split(scenario, np.minimum(alpha, LARGEST)[:, None], step_latency_s - step_s)
    return Served(
        local_steps=n,
        pai=scenario.pai.value(n),
        latency_s=transmit_s + edge_time(scenario, n, step_s) + local_time(n, step_latency_s),
        worth_s=gain - transmit_s,
    )
