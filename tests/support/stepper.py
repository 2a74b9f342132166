"""An independent oracle of the simulator: the same physics polled in small time steps, without events or queues.

A step of an edge ends at its exact time; what joins, leaves or changes is looked at every DT. Every server is a place
of its own; one server alone is a list of one.
"""

import math

import numpy as np

from edgesplit.optimizer.model.servers import Fleet

DT = 1e-4


def latency_of_step(edge, images, gpus, overhead, turns=1):
    """Seconds of one edge step, from the profile's line; further models take a turn with an empty batch's seconds."""
    step = max(edge.floor_s, edge.slope_s * images / gpus + edge.intercept_s) + overhead
    return step + (turns - 1) * (max(edge.floor_s, edge.intercept_s) + overhead)


def stepped(world, granted, local_steps, server=None, model=None):
    """When every request's image is there, and what happened on the way; decisions are given by request.

    Returns:
        (ended, left the edge, arrived on the device), seconds, shape (requests,); NaN where it never happened.
    """
    return Stepper(world, granted, local_steps, server, model).run()


class Place:
    """One server: its batch, those who wait for it, and its radio."""

    def __init__(self, scenario):
        self.edge, self.gpus = scenario.edge, scenario.gpus
        self.bits = scenario.prompt_bits + scenario.latent_bits
        self.usual, self.bandwidth_hz = scenario.spectral_efficiency, scenario.bandwidth_hz
        self.steps = {}  # image in the batch -> steps left
        self.batches = []  # lists of images that wait for the edge
        self.sending = {}  # transfer -> bits left
        self.step_ends = None


class Stepper:
    def __init__(self, world, granted, local_steps, server, model):
        self.world, self.granted, self.local = world, granted, local_steps
        self.server, self.model = server, model
        self.requests = range(len(world.requests))
        scenario = world.scenario
        self.delta = scenario.interval_s
        fleet = isinstance(scenario, Fleet)
        self.places = [Place(one) for one in ([s.scenario for s in scenario.servers] if fleet else [scenario])]
        self.time = world.requests.time_s
        self.decided = [max(1, math.ceil(t / self.delta)) * self.delta for t in self.time]
        self.deadline = self.time + world.requests.patience_s
        self.ended, self.left, self.arrived = (np.full(len(self.time), np.nan) for _ in range(3))
        self.free = {}  # user -> when the device is free

    def run(self):
        slot = 0
        while np.isnan(self.ended).any():
            now = slot * DT
            for place in self.places:
                self.finish_steps(now, place)
                self.send(now, place)
            self.change_gpus(now)
            self.lose_patience(now)
            self.decide(now)
            slot += 1
            assert now < 3000, "the stepper does not end"
        return self.ended, self.left, self.arrived

    def place_of(self, request):
        return self.places[0 if self.server is None else self.server[request]]

    # -- the edge

    def finish_steps(self, now, place):
        while place.step_ends is not None and place.step_ends <= now:
            end, place.step_ends = place.step_ends, None
            for image in list(place.steps):
                place.steps[image] -= 1
                if place.steps[image] == 0:
                    del place.steps[image]
                    self.left[image] = end
                    self.start_sending(end, image)
            self.start_step(end, place)

    def start_step(self, now, place):
        if place.step_ends is not None:
            return
        while place.batches and (self.world.physics == "continuous" or not place.steps):
            for image in place.batches.pop(0):
                place.steps[image] = self.steps_at_edge(image)
        if place.steps and place.gpus:
            overhead, turns = self.world.step_overhead_s, self.turns(place)
            place.step_ends = now + latency_of_step(place.edge, len(place.steps), place.gpus, overhead, turns)

    def turns(self, place):
        if self.model is None:
            return 1
        models = self.world.scenario.models
        return len({models[self.model[image]].base for image in place.steps})

    def steps_at_edge(self, image):
        return int(self.world.total_steps[image] - self.local[image])

    def change_gpus(self, now):
        for time, gpus in self.world.gpus_over_time:
            if now - DT < time <= now:
                self.places[0].gpus = gpus
                self.start_step(time, self.places[0])

    # -- the radio

    def start_sending(self, now, image):
        place = self.place_of(image)
        if place.bits:
            place.sending[image] = place.bits
        else:
            self.on_device(now, image)

    def bits_per_s(self, request):
        """What the request's link carries where it has the whole bandwidth."""
        place, rate = self.place_of(request), self.world.users.rate
        own = math.nan if rate is None else rate[self.world.requests.user[request], self.server[request]]
        return (place.usual if math.isnan(own) else own) * place.bandwidth_hz

    def send(self, now, place):
        count = max(1, len(place.sending))
        for transfer in list(place.sending):
            place.sending[transfer] -= DT * self.bits_per_s(transfer) / count
        for transfer in [t for t, bits in place.sending.items() if bits <= 0]:
            del place.sending[transfer]
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
                place = self.place_of(request)
                place.sending.pop(request, None)
                place.batches = [[image for image in batch if image != request] for batch in place.batches]
                if place.steps.pop(request, None) is not None and not place.steps:
                    place.step_ends = None  # nobody is left in the step under way
                    self.start_step(self.deadline[request], place)
                self.ended[request] = self.deadline[request]

    def decide(self, now):
        here = [r for r in self.requests if now - DT / 2 < self.decided[r] <= now + DT / 2 and np.isnan(self.ended[r])]
        joining = {}
        for request in here:
            if not self.granted[request]:
                self.on_device(self.decided[request], request)
            elif not self.steps_at_edge(request):
                self.left[request] = self.decided[request]
                self.start_sending(self.decided[request], request)
            else:
                joining.setdefault(self.place_of(request), []).append(request)
        for place, images in joining.items():
            place.batches.append(images)
            self.start_step(now, place)
