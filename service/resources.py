"""What time passes on: the edge whose images step together, the radio that intermediates share, users' devices.

Each is a small state machine on somebody else's clock: `next_time` says when something happens next, `fire` lets it
happen. All times are in seconds since the start.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from heapq import heappop, heappush
from itertools import repeat

NEVER = math.inf


class Edge:
    """Images in flight, which step together: one step of b images of a models on G GPUs takes L_e(b, G, a).

    New images join, and cancelled ones leave, between two steps. With `queue` the images of a round are a batch that
    starts when all images of the batch before are done.

    Attributes:
        last: number of the last step of every image in flight, by image.
        model: model of every image that is here, of those that take turns, by image; empty where all need one.
        busy_s: seconds with a step under way so far.
    """

    def __init__(self, latency: Callable[[int, int, int], float], gpus: int, queue: bool = False) -> None:
        self.latency, self.gpus, self.queue = latency, gpus, queue
        self.last: dict[int, int] = {}
        self.model: dict[int, int] = {}
        self.busy_s = 0.0
        self._ends: list[tuple[int, int]] = []  # (last step, image), a heap; entries may have ceased to be true
        self._waiting: deque[dict[int, int]] = deque()  # batches of images that have not stepped yet, with their steps
        self._step, self._start, self._latency = 0, 0.0, NEVER  # steps done, when the next began, how long it takes
        self._due: int | None = None  # number of steps after which somebody joins or leaves, or the GPUs change

    def copy(self) -> "Edge":
        """A copy that goes its own way."""
        twin = Edge(self.latency, self.gpus, self.queue)
        twin.last, twin.model, twin.busy_s = self.last.copy(), self.model.copy(), self.busy_s
        twin._ends, twin._waiting = self._ends.copy(), deque(batch.copy() for batch in self._waiting)
        twin._step, twin._start, twin._latency, twin._due = self._step, self._start, self._latency, self._due
        return twin

    def next_time(self) -> float:
        """When the next image leaves, or may join."""
        if not self.last or self._latency == NEVER:
            return NEVER
        step = self._ends[0][0] if self._due is None else self._due
        return self._start + (step - self._step) * self._latency

    def fire(self, now: float) -> list[int]:
        """Leave, join and set off again between two steps, at `next_time`; returns the images that leave then."""
        step = self._ends[0][0] if self._due is None else self._due
        self.busy_s += now - self._start
        self._step = step
        done = []
        while self._ends and self._ends[0][0] <= step:
            last, image = heappop(self._ends)
            if self.last.get(image) == last:
                self._drop(image)
                done.append(image)
        self._begin(now)
        return done

    def add(self, now: float, steps: dict[int, int], model: Mapping[int, int] | None = None) -> None:
        """New images with their steps; at least one each.

        Args:
            now: the time.
            steps: steps of every image.
            model: model of every image, of those that take turns; None where all images need one.
        """
        self._waiting.append(steps)
        self.model.update(model or {})
        if not self.last:
            self._begin(now)
        elif not self.queue:
            self._wake(now)

    def set_gpus(self, now: float, gpus: int) -> None:
        """The number of GPUs from the next step on; 0 halts the edge."""
        self.gpus = gpus
        if self.last and self._latency == NEVER:
            self._begin(now)
        elif self.last:
            self._wake(now)

    def remove(self, now: float, image: int) -> None:
        """Take an image out; one that is stepping leaves, without effect on others, after the step under way."""
        for batch in self._waiting:
            if batch.pop(image, None) is not None:
                self.model.pop(image, None)
                return
        if self._latency != NEVER:
            self._wake(now)
        self._drop(image)

    def steps_left(self, now: float) -> dict[int, int]:
        """Steps that are left of every image that is here, the one under way included."""
        done = self._steps_done(now)
        left = {image: last - done for image, last in self.last.items()}
        for batch in self._waiting:
            left |= batch
        return left

    def change_steps(self, now: float, steps_left: Mapping[int, int]) -> None:
        """Let images leave after other numbers of steps than so far, at least one each, the one under way included."""
        done = self._steps_done(now)
        for image, steps in steps_left.items():
            if image in self.last:
                self.last[image] = done + steps
                heappush(self._ends, (done + steps, image))
            else:
                next(batch for batch in self._waiting if image in batch)[image] = steps
        self._forget_ends()

    def _steps_done(self, now: float) -> int:
        """Steps that are done now."""
        if not self.last or self._latency == NEVER:
            return self._step
        return self._step + int((now - self._start) / self._latency + 1e-9)

    def queue_s(self, now: float) -> float:
        """Seconds until a new batch may start with the GPUs of now; 0 where new images join those in flight."""
        if not self.queue or not self.last or not self.gpus:
            return 0.0
        step_ends = self._start + self._due_steps(now) * self._latency
        done = self._step + self._due_steps(now)
        under_way = {image: last - done for image, last in self.last.items()}
        return step_ends - now + sum(self._batch_s(steps) for steps in (under_way, *self._waiting))

    def _batch_s(self, steps: dict[int, int]) -> float:
        """Seconds that a batch takes, from the steps of its images, while those that are done leave it."""
        seconds, done = 0.0, 0
        images = sorted(steps, key=steps.__getitem__)
        for place, last in enumerate(map(steps.__getitem__, images)):
            seconds += (last - done) * self._step_s(images[place:]) if last > done else 0.0
            done = max(done, last)
        return seconds

    def models(self) -> tuple[int, ...]:
        """The models of the images that are here, of those that take turns, ascending."""
        return tuple(sorted(set(self.model.values()))) if self.model else ()

    def __len__(self) -> int:
        return len(self.last) + sum(map(len, self._waiting))

    def _step_s(self, images: Collection[int]) -> float:
        """Seconds of one step of these images."""
        turns = len({self.model[image] for image in images}) if self.model else 1
        return self.latency(len(images), self.gpus, turns)

    def _drop(self, image: int) -> None:
        del self.last[image]
        self.model.pop(image, None)

    def _due_steps(self, now: float) -> int:
        """Steps of now's length until the first that ends now or later."""
        return math.ceil((now - self._start) / self._latency - 1e-9)

    def _wake(self, now: float) -> None:
        """Stop at the first step that ends now or later."""
        self._due = self._step + self._due_steps(now)

    def _begin(self, now: float) -> None:
        """Let waiting images join, and start a step."""
        while self._waiting and not (self.queue and self.last):
            for image, steps in self._waiting.popleft().items():
                self.last[image] = self._step + steps
                heappush(self._ends, (self._step + steps, image))
        self._forget_ends()
        self._start, self._due = now, None
        self._latency = self._step_s(self.last) if self.gpus and self.last else NEVER

    def _forget_ends(self) -> None:
        """Drop the first entries of the heap that are no longer true."""
        while self._ends and self.last.get(self._ends[0][1]) != self._ends[0][0]:
            heappop(self._ends)


class SharedRadio:
    """Intermediates that share the bandwidth equally; of equal links, the first to come is the first to be there.

    Attributes:
        alone_s: seconds that one intermediate takes alone on the usual link, T.
        busy_s: seconds with something to send so far.
        sent: intermediates that have arrived.
    """

    def __init__(self, alone_s: float) -> None:
        """An idle radio on which one intermediate alone takes so many seconds, T."""
        self.alone_s = alone_s
        self.busy_s, self.sent = 0.0, 0
        self._ends: list[tuple[float, int, int]] = []  # (work at which it is there, place in line, transfer), a heap
        self._work, self._since = 0.0, 0.0  # seconds of sending alone that each has had, and until when
        self._removed, self._line = set[int](), 0

    def copy(self) -> "SharedRadio":
        """A copy that goes its own way."""
        twin = SharedRadio(self.alone_s)
        twin.busy_s, twin.sent, twin._ends = self.busy_s, self.sent, self._ends.copy()
        twin._work, twin._since = self._work, self._since
        twin._removed, twin._line = self._removed.copy(), self._line
        return twin

    def __len__(self) -> int:
        return len(self._ends) - len(self._removed)

    def next_time(self) -> float:
        """When the next intermediate arrives."""
        return self._since + (self._ends[0][0] - self._work) * len(self) if self._ends else NEVER

    def fire(self, now: float) -> int:
        """Let the first intermediate arrive, at `next_time`; returns its transfer."""
        self._advance(now)
        self._work, _, transfer = heappop(self._ends)
        self.sent += 1
        self._drop_removed()
        return transfer

    def add(self, now: float, transfers: Sequence[int], alone_s: Sequence[float] | None = None) -> None:
        """Start to send; several at once in their order.

        Args:
            now: the time.
            transfers: what to send.
            alone_s: seconds that each takes alone; None for those of the usual link.
        """
        self._advance(now)
        if not transfers:
            return
        for transfer, seconds in zip(transfers, alone_s or repeat(self.alone_s), strict=False):
            heappush(self._ends, (self._work + seconds, self._line, transfer))
            self._line += 1

    def remove(self, now: float, transfer: int) -> None:
        """Stop to send."""
        self._advance(now)
        self._removed.add(transfer)
        self._drop_removed()

    def _drop_removed(self) -> None:
        while self._ends and self._ends[0][2] in self._removed:
            self._removed.remove(heappop(self._ends)[2])

    def _advance(self, now: float) -> None:
        if self._ends:
            self._work += (now - self._since) / len(self)
            self.busy_s += now - self._since
        self._since = now


class Devices:
    """Users' devices: all requests of a user at once, or one after another in the order of their start.

    Attributes:
        free_s: when each device is free, by user; None where requests do not queue.
    """

    def __init__(self, queueing: bool) -> None:
        self.free_s: dict[int, float] | None = {} if queueing else None

    def copy(self) -> "Devices":
        """A copy that goes its own way."""
        twin = Devices(False)
        twin.free_s = None if self.free_s is None else self.free_s.copy()
        return twin

    def run(self, now: float, user: int, seconds: float, deadline: float) -> float:
        """Work for a request, or stop it at its deadline; returns when that is."""
        if self.free_s is None:
            return min(now + seconds, deadline)
        start = max(now, self.free_s.get(user, 0.0))
        end = min(start + seconds, deadline)
        self.free_s[user] = max(start, end) if start < deadline else self.free_s.get(user, 0.0)
        return end
