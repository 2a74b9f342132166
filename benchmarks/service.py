"""The simulator against SimPy on the same physics and the same 5,000 requests, and how long large runs take.

SimPy is the field's library for discrete events: a process for the edge, one for the radio, one for each request. Both
play the same decisions, and the benchmark ends where their latencies differ. `python benchmarks/service.py TRACE`
replays a trace that `edgesplit trace import` made, too.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np
import simpy

from edgesplit.optimizer.agent.instances import Range, paper_instance
from edgesplit.optimizer.inputs.scenario import overrides as scenario_options
from edgesplit.optimizer.inputs.scenario import resolve_scenario
from edgesplit.optimizer.model.qoe import edge_step_latency, transmit_time
from edgesplit.service import outcome
from edgesplit.service.arrivals import Process, draw_requests
from edgesplit.service.scheduler import decide
from edgesplit.service.simulator import Simulation, World, decider, fixed
from edgesplit.service.worlds import make_world, read_settings

REQUESTS, MANY, RATE = 5_000, 1_000_000, 8.0


def drawn_world(requests):
    """About so many Poisson requests at 8 a second, H100 NVL x 8, 20 MHz."""
    rng = np.random.default_rng(0)
    scenario = resolve_scenario("default", scenario_options(bandwidth_mhz=20.0)).scenario
    users = paper_instance(rng, Range(users=(1000, 1000), gpus=(8,)), scenario).users
    return World(scenario=scenario, users=users, requests=draw_requests(Process(RATE), requests / RATE, 1000, rng))


class SimpyService:
    """The continuous physics as SimPy processes."""

    def __init__(self, world, granted, local_steps):
        self.world, self.granted, self.local = world, granted, local_steps
        self.env = simpy.Environment()
        self.joining, self.images = [], {}  # images that wait for the next step; image -> steps left
        self.sending, self.since, self.alone_s = {}, 0.0, float(transmit_time(world.scenario, 1))
        self.wake_edge, self.wake_radio = self.env.event(), self.env.event()
        self.sent = {}
        self.ended = np.zeros(len(world.requests))
        self.step_s = [float(edge_step_latency(world.scenario, b)) for b in range(2000)]

    def run(self):
        """When every request's image is there."""
        self.env.process(self.edge())
        self.env.process(self.radio())
        for request in range(len(self.world.requests)):
            self.env.process(self.request(request))
        self.env.run()
        return self.ended

    def request(self, number):
        """One request, from the end of its round to its image."""
        decided = (self.world.round_of[number] + 1) * self.world.scenario.interval_s
        yield self.env.timeout(decided)
        if self.granted[number]:
            self.sent[number] = self.env.event()
            self.joining.append(number)
            if not self.wake_edge.triggered:
                self.wake_edge.succeed()
            yield self.sent[number]
        yield self.env.timeout(self.local[number] * float(self.world.step_latency_s[number]))
        self.ended[number] = self.env.now

    def edge(self):
        """Step all images in flight together."""
        while True:
            if not self.images and not self.joining:
                self.wake_edge = self.env.event()
                yield self.wake_edge
                yield self.env.timeout(0)  # all requests of the round come first
            for image in self.joining:
                self.images[image] = int(self.world.total_steps[image]) - self.local[image]
            self.joining.clear()
            yield self.env.timeout(self.step_s[len(self.images)])
            done = [image for image, left in self.images.items() if left == 1]
            self.images = {image: left - 1 for image, left in self.images.items() if left > 1}
            if done:
                self.share_radio()
                self.sending.update(dict.fromkeys(done, self.alone_s))
                if not self.wake_radio.triggered:
                    self.wake_radio.succeed()

    def share_radio(self):
        """Take off what has been sent since the last look."""
        for transfer in self.sending:
            self.sending[transfer] -= (self.env.now - self.since) / len(self.sending)
        self.since = self.env.now

    def radio(self):
        """Send what is there, in equal shares."""
        while True:
            self.wake_radio = self.env.event()
            if not self.sending:
                yield self.wake_radio
                continue
            left = min(self.sending.values()) * len(self.sending)
            yield self.env.timeout(max(left, 0)) | self.wake_radio
            self.share_radio()
            for transfer in [t for t, seconds in self.sending.items() if seconds <= 1e-9]:
                del self.sending[transfer]
                self.sent[transfer].succeed()


def timed(function):
    """Result and seconds of a call."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def against_simpy():
    """Seconds of both for the same decisions."""
    world = drawn_world(REQUESTS)
    records = Simulation(world).run(decider(world, decide))
    granted, n = records.granted.tolist(), records.local_steps.tolist()
    own, own_s = min(
        (timed(lambda: Simulation(world).run(fixed(granted, n))) for _ in range(3)), key=lambda pair: pair[1]
    )
    peer, peer_s = timed(SimpyService(world, granted, n).run)
    differ = np.max(np.abs(own.ended_s - peer) / outcome.latency(world, own))
    if differ > 1e-6:
        sys.exit(f"the simulators differ by {differ:.2g} of a latency")
    print(f"{len(world.requests):,} requests, the same decisions: edgesplit {own_s:.3f} s, SimPy {peer_s:.2f} s, "
          f"ratio {peer_s / own_s:.1f}; latencies differ by {differ:.1g} at most")  # fmt: skip


def many_requests():
    """Seconds and memory of a million requests, decided with prices."""
    world = drawn_world(MANY)
    _, seconds = timed(lambda: Simulation(world).run(decider(world, decide)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(world.requests):,} Poisson requests decided with `price`: {seconds:.1f} s, {peak:.2f} GiB at most")


def replayed(path):
    """Seconds of a trace, decided with prices."""
    resolved = resolve_scenario("default", scenario_options())
    world = make_world(read_settings(resolved, str(path), None, None, None, 1.0, seed=0), 0)
    _, seconds = timed(lambda: Simulation(world).run(decider(world, decide)))
    days = world.requests.time_s[-1] / 86_400
    print(f"{path.name}: {len(world.requests):,} images in {days:.1f} days, decided with `price`: {seconds:.2f} s")


if __name__ == "__main__":
    against_simpy()
    for name in sys.argv[1:]:
        replayed(Path(name))
    many_requests()
