"""What plans reckon with, corrected by what happens.

The last ticks correct the step latency, the last transfers the bandwidth: medians over a sliding window, which single
slow ones cannot move.
"""

from collections import deque

import numpy as np

from ..common.arrays import Floats
from ..fitting.latency import LatencyModel, fit_latency
from ..optimizer.model.qoe import Scenario, transmit_time

WINDOW_TICKS = 400
"""Ticks from which the step latency is estimated."""
FEWEST_TICKS = 20
"""Ticks below which it stays the profile's."""
TOGETHER = 20
"""Ticks of like size whose medians are one point of a new line, so that no size needs to come up often."""
RECENT_TICKS = 100
"""The last ticks, which say how fast the machine is now; those of single images would tell of its noise."""
FEWEST_POINTS = 4
"""Points of different size below which a line is not fitted anew."""
WINDOW_TRANSFERS = 100
"""Transfers from which the bandwidth is estimated."""
FEWEST_TRANSFERS = 10
"""Transfers below which it stays the scenario's."""
SHORTEST_S = 1e-4
"""Seconds that a transfer counts at least; shorter ones tell of clocks."""


class LatencyEstimate:
    """L_e as the last ticks took it: the profile, scaled or fitted again.

    Medians of ticks of like size withstand single slow ones. Few sizes scale the profile; many fit its line anew.
    """

    def __init__(self, profile: LatencyModel, gpus: int) -> None:
        self.profile, self.gpus = profile, gpus
        self._ticks: deque[tuple[int, float]] = deque(maxlen=WINDOW_TICKS)
        self._known: LatencyModel | None = None

    def note(self, batch: int, seconds: float) -> None:
        """Note a tick."""
        self._ticks.append((batch, seconds))
        self._known = None

    def model(self) -> LatencyModel:
        """The step latency as it is now, of one GPU."""
        if len(self._ticks) < FEWEST_TICKS:
            return self.profile
        if self._known is None:
            self._known = self._estimated()
        return self._known

    def _estimated(self) -> LatencyModel:
        batch, seconds = np.array(self._ticks).T
        model = self._fitted(batch / self.gpus, seconds)
        last = seconds[-RECENT_TICKS:] / model.step_latency(batch[-RECENT_TICKS:] / self.gpus)
        now = float(np.median(last))
        return LatencyModel(now * model.slope_s, now * model.intercept_s, now * model.floor_s)

    def _fitted(self, sizes: Floats, seconds: Floats) -> LatencyModel:
        """The line through all ticks; the profile where they are of few sizes."""
        points = np.array_split(np.argsort(sizes, kind="stable"), max(1, sizes.size // TOGETHER))
        middle = np.array([np.median(sizes[point]) for point in points])
        if np.unique(middle).size < FEWEST_POINTS or middle.max() < 2 * middle.min():
            return self.profile
        return fit_latency(middle, [np.median(seconds[point]) for point in points]).model


class BandwidthEstimate:
    """W as the last transfers had it: the one whose T, one intermediate alone, is the median of theirs.

    Transfers that overlap share the bandwidth, so a transfer's seconds are divided by the mean number that were under
    way meanwhile.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._transfers: deque[tuple[float, float]] = deque(maxlen=WINDOW_TRANSFERS)
        self._known: float | None = None

    def note(self, start_s: float, seconds: float) -> None:
        """Note a transfer: when it began, and how long it took."""
        self._transfers.append((start_s, max(seconds, SHORTEST_S)))
        self._known = None

    def bandwidth_hz(self) -> float:
        """The bandwidth as it is now."""
        if len(self._transfers) < FEWEST_TRANSFERS or not transmit_time(self.scenario, 1):
            return self.scenario.bandwidth_hz
        if self._known is None:
            alone_s = float(np.median(alone_seconds(*np.array(self._transfers).T)))
            self._known = self.scenario.bandwidth_hz * float(transmit_time(self.scenario, 1)) / alone_s
        return self._known


def alone_seconds(start_s: Floats, seconds: Floats) -> Floats:
    """Seconds that each transfer would have taken alone, shape (transfers,)."""
    end_s = start_s + seconds
    together = np.minimum.outer(end_s, end_s) - np.maximum.outer(start_s, start_s)  # (transfers, transfers)
    sharing: Floats = np.maximum(together, 0.0).sum(axis=1) / seconds
    return seconds / sharing
