"""An independent oracle of the simulator: the same physics polled in small time steps, without events or queues.

A step of the edge ends at its exact time; what joins, leaves or changes is looked at every DT.
"""

import math

import numpy as np

DT = 1e-4


def latency_of_step(scenario, images, gpus, overhead):
    """Seconds of one edge step, from the profile's line."""
    edge = scenario.edge
    return max(edge.floor_s, edge.slope_s * images / gpus + edge.intercept_s) + overhead


def stepped(world, granted, local_steps):
    """When every request's image is there, and what happened on the way; decisions are given by request.

    Returns:
        (ended, left the edge, arrived on the device), seconds, shape (requests,); NaN where it never happened.
    """
    return Stepper(world, granted, local_steps).run()


class Stepper:
    def __init__(self, world, granted, local_steps):
        self.world, self.granted, self.local = world, granted, local_steps
        self.requests = range(len(world.requests))
        scenario = world.scenario
        self.delta = scenario.interval_s
        self.capacity = scenario.spectral_efficiency * scenario.bandwidth_hz  # bit/s
        self.bits = scenario.prompt_bits + scenario.latent_bits
        self.time = world.requests.time_s
        self.decided = [max(1, math.ceil(t / self.delta)) * self.delta for t in self.time]
        self.deadline = self.time + world.requests.patience_s
        self.ended, self.left, self.arrived = (np.full(len(self.time), np.nan) for _ in range(3))
        self.steps = {}  # image in the batch -> steps left
        self.batches = []  # lists of images that wait for the edge
        self.sending = {}  # transfer -> bits left
        self.free = {}  # user -> when the device is free
        self.gpus, self.step_ends, self.size = scenario.gpus, None, 0

    def run(self):
        slot = 0
        while np.isnan(self.ended).any():
            now = slot * DT
            self.finish_steps(now)
            self.send(now)
            self.change_gpus(now)
            self.lose_patience(now)
            self.decide(now)
            slot += 1
            assert now < 3000, "the stepper does not end"
        return self.ended, self.left, self.arrived

    # -- the edge

    def finish_steps(self, now):
        while self.step_ends is not None and self.step_ends <= now:
            end, self.step_ends = self.step_ends, None
            for image in list(self.steps):
                self.steps[image] -= 1
                if self.steps[image] == 0:
                    del self.steps[image]
                    self.left[image] = end
                    self.start_sending(end, image)
            self.start_step(end)

    def start_step(self, now):
        if self.step_ends is not None:
            return
        while self.batches and (self.world.physics == "continuous" or not self.steps):
            for image in self.batches.pop(0):
                self.steps[image] = self.steps_at_edge(image)
        if self.steps and self.gpus:
            overhead = self.world.step_overhead_s
            self.step_ends = now + latency_of_step(self.world.scenario, len(self.steps), self.gpus, overhead)

    def steps_at_edge(self, image):
        return int(self.world.total_steps[image] - self.local[image])

    def change_gpus(self, now):
        for time, gpus in self.world.gpus_over_time:
            if now - DT < time <= now:
                self.gpus = gpus
                self.start_step(time)

    # -- the radio

    def start_sending(self, now, image):
        if self.bits:
            self.sending[image] = self.bits
        else:
            self.on_device(now, image)

    def send(self, now):
        for transfer in list(self.sending):
            self.sending[transfer] -= DT * self.capacity / max(1, len(self.sending))
        for transfer in [t for t, bits in self.sending.items() if bits <= 0]:
            del self.sending[transfer]
            self.on_device(now, transfer)

    # -- devices and users

    def on_device(self, now, request):
        user = int(self.world.requests.user[request])
        seconds = self.local[request] * self.world.step_latency_s[request] + self.world.decode_s
        start = max(now, self.free.get(user, 0.0)) if self.world.device_queueing else now
        self.arrived[request] = now
        self.ended[request] = min(start + seconds, self.deadline[request])
        if start < self.deadline[request]:
            self.free[user] = self.ended[request]

    def lose_patience(self, now):
        for request in self.requests:
            if now - DT < self.deadline[request] <= now and np.isnan(self.ended[request]):
                self.sending.pop(request, None)
                self.batches = [[image for image in batch if image != request] for batch in self.batches]
                if self.steps.pop(request, None) is not None and not self.steps:
                    self.step_ends = None  # nobody is left in the step under way
                    self.start_step(self.deadline[request])
                self.ended[request] = self.deadline[request]

    def decide(self, now):
        here = [r for r in self.requests if now - DT / 2 < self.decided[r] <= now + DT / 2 and np.isnan(self.ended[r])]
        joining = [r for r in here if self.granted[r] and self.steps_at_edge(r)]
        for request in here:
            if not self.granted[request]:
                self.on_device(self.decided[request], request)
            elif request not in joining:
                self.left[request] = self.decided[request]
                self.start_sending(self.decided[request], request)
        if joining:
            self.batches.append(joining)
            self.start_step(now)
