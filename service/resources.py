"""What time passes on: the edge whose images step together, the radio that intermediates share, users' devices.

Each is a small state machine on somebody else's clock: `next_time` says when something happens next, `fire` lets it
happen. All times are in seconds since the start.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

NEVER = math.inf


class Edge:
    """Images in flight, which step together: one step of b images on G GPUs takes L_e(b, G).

    New images join, and cancelled ones leave, between two steps. With `queue` the images of a round are a batch that
    starts when all images of the batch before are done.

    Attributes:
        last: number of the last step of every image in flight, by image.
        busy_s: seconds with a step under way so far.
    """

    def __init__(self, latency: Callable[[int, int], float], gpus: int, queue: bool = False) -> None:
        self.latency, self.gpus, self.queue = latency, gpus, queue
        self.last: dict[int, int] = {}
        self.busy_s = 0.0
        self._ends: list[tuple[int, int]] = []  # (last step, image), a heap with entries of images that have left
        self._waiting: deque[dict[int, int]] = deque()  # batches of images that have not stepped yet, with their steps
        self._step, self._start, self._latency = 0, 0.0, NEVER  # steps done, when the next began, how long it takes
        self._due: int | None = None  # number of steps after which somebody joins or leaves, or the GPUs change

    def copy(self) -> "Edge":
        """A copy that goes its own way."""
        twin = Edge(self.latency, self.gpus, self.queue)
        twin.last, twin.busy_s = self.last.copy(), self.busy_s
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
                del self.last[image]
                done.append(image)
        self._begin(now)
        return done

    def add(self, now: float, steps: dict[int, int]) -> None:
        """New images with their steps; at least one each."""
        self._waiting.append(steps)
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
                return
        if self._latency == NEVER:
            del self.last[image]
            return
        self._wake(now)
        del self.last[image]

    def steps_left(self, now: float) -> list[int]:
        """Steps that are left of every image that is here, the one under way included."""
        done = self._step
        if self.last and self._latency != NEVER:
            done += int((now - self._start) / self._latency + 1e-9)
        waiting = [steps for batch in self._waiting for steps in batch.values()]
        return [last - done for last in self.last.values()] + waiting

    def queue_s(self, now: float) -> float:
        """Seconds until a new batch may start with the GPUs of now; 0 where new images join those in flight."""
        if not self.queue or not self.last or not self.gpus:
            return 0.0
        step_ends = self._start + self._due_steps(now) * self._latency
        under_way = [last - self._step - self._due_steps(now) for last in self.last.values()]
        batches = [under_way, *(list(batch.values()) for batch in self._waiting)]
        return step_ends - now + sum(self._batch_s(steps) for steps in batches)

    def _batch_s(self, steps: list[int]) -> float:
        """Seconds that a batch takes, from the steps of its images, while those that are done leave it."""
        seconds, done = 0.0, 0
        for place, last in enumerate(sorted(steps)):
            seconds += (last - done) * self.latency(len(steps) - place, self.gpus) if last > done else 0.0
            done = max(done, last)
        return seconds

    def __len__(self) -> int:
        return len(self.last) + sum(map(len, self._waiting))

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
        while self._ends and self._ends[0][1] not in self.last:
            heappop(self._ends)
        self._start, self._due = now, None
        self._latency = self.latency(len(self.last), self.gpus) if self.gpus and self.last else NEVER


class SharedRadio:
    """Intermediates of one size that share the bandwidth equally; so the first to come is the first to be there.

    Attributes:
        busy_s: seconds with something to send so far.
        sent: intermediates that have arrived.
    """

    def __init__(self, alone_s: float) -> None:
        """An idle radio on which one intermediate alone takes so many seconds, T."""
        self.alone_s = alone_s
        self.busy_s, self.sent = 0.0, 0
        self._ends: deque[tuple[float, int]] = deque()  # (share of the radio's work at which it is there, transfer)
        self._work, self._since, self._removed = 0.0, 0.0, set[int]()  # seconds of sending alone that each has had

    def copy(self) -> "SharedRadio":
        """A copy that goes its own way."""
        twin = SharedRadio(self.alone_s)
        twin.busy_s, twin.sent, twin._ends = self.busy_s, self.sent, self._ends.copy()
        twin._work, twin._since, twin._removed = self._work, self._since, self._removed.copy()
        return twin

    def __len__(self) -> int:
        return len(self._ends) - len(self._removed)

    def next_time(self) -> float:
        """When the next intermediate arrives."""
        return self._since + (self._ends[0][0] - self._work) * len(self) if self._ends else NEVER

    def fire(self, now: float) -> int:
        """Let the first intermediate arrive, at `next_time`; returns its transfer."""
        self._advance(now)
        self._work, transfer = self._ends.popleft()
        self.sent += 1
        self._drop_removed()
        return transfer

    def add(self, now: float, transfers: Iterable[int]) -> None:
        """Start to send; several at once in their order."""
        self._advance(now)
        self._ends.extend((self._work + self.alone_s, transfer) for transfer in transfers)

    def remove(self, now: float, transfer: int) -> None:
        """Stop to send."""
        self._advance(now)
        self._removed.add(transfer)
        self._drop_removed()

    def _drop_removed(self) -> None:
        while self._ends and self._ends[0][1] in self._removed:
            self._removed.remove(self._ends.popleft()[1])

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
