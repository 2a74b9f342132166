"""The worlds that `simulate` plays: a scenario, users, arrivals and GPUs over time, drawn from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..common.arrays import Floats
from ..common.errors import InputError
from ..optimizer.agent.instances import Range, paper_instance
from ..optimizer.inputs.example import RATES
from ..optimizer.inputs.scenario import Resolved, resolve_scenario
from ..optimizer.inputs.users import NamedUsers, named, read_users
from ..optimizer.methods.assignment.search import placed
from ..optimizer.model.qoe import Scenario, Users
from ..optimizer.model.servers import Fleet
from .arrivals import (
    MovingGpus,
    Process,
    Trace,
    draw_requests,
    parse_gpus,
    parse_process,
    read_trace,
    users_of_trace,
)
from .simulator import Physics, World

PAPER_USERS = 1000
"""Users that a world without a users file has, drawn as in section 6.1.1 of the paper."""


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """What worlds are made from; see the options of `simulate`.

    Attributes:
        resolved: scenario with the options applied.
        users: users of the file; None for the paper's random users.
        process: random arrivals; None where there is a trace.
        trace: arrivals that really happened; None where they are random.
        seconds: length of the arrivals, seconds.
        seed: random seed.
        gpus_over_time: changes of the number of GPUs.
        physics: how images of several rounds share the edge.
        step_overhead_s: seconds that every edge step takes beyond its latency.
        decode_s: seconds to decode an image on the device; None for those of the users' profiles, where they say.
        device_queueing: whether a device works on one request at a time.
        patience_s: seconds after which every request is given up; None for those of the trace, if it has them.
    """

    resolved: Resolved
    users: NamedUsers | None
    process: Process | None
    trace: Trace | None
    seconds: float
    seed: int
    gpus_over_time: MovingGpus | Sequence[tuple[float, int]] = ()
    physics: Physics = "continuous"
    step_overhead_s: float = 0.0
    decode_s: float | None = None
    device_queueing: bool = False
    patience_s: float | None = None

    def with_gpus(self, gpus: int) -> "WorldSettings":
        """The same worlds with another number of GPUs."""
        scenario = self.resolved.for_alpha.with_gpus(gpus, self.resolved.edge.max_batch)
        return replace(self, resolved=replace(self.resolved, scenario=scenario))


def read_settings(
    resolved: Resolved,
    arrivals: str,
    users: Path | None,
    gpus_over_time: str | None,
    seconds: float | None,
    speed_up: float,
    **rest: float | bool | str | None,
) -> WorldSettings:
    """Read the files that worlds are made from.

    Args:
        resolved: scenario with the options applied.
        arrivals: process or path, as `--arrivals` has it.
        users: users file; None for the paper's random users, or those of a trace.
        gpus_over_time: how the number of GPUs changes, as `--gpus-over-time` has it.
        seconds: length of the arrivals; None for a trace's own, or a minute.
        speed_up: factor by which a trace's time is compressed.
        rest: further fields of `WorldSettings`.

    Raises:
        InputError: for what cannot be read or does not go together.
    """
    process = parse_process(arrivals)
    trace = None if process else read_trace(Path(arrivals), resolved.for_alpha, speed_up)
    if process and speed_up != 1:
        raise InputError(f"--speed-up: found {speed_up:g} with random arrivals, accepted: a trace; name another rate")
    if trace and trace.own is not None and users:
        raise InputError(f"--users: found it beside devices in {arrivals}, accepted: one of the two")
    if isinstance(resolved.scenario, Fleet):
        _check_several(arrivals, trace, gpus_over_time)
    return WorldSettings(
        resolved=resolved,
        users=read_users(users, resolved.for_alpha) if users else None,
        process=process,
        trace=trace if trace is None else _cut(trace, seconds),
        seconds=_seconds(trace, seconds),
        gpus_over_time=parse_gpus(gpus_over_time) if gpus_over_time else (),
        **rest,  # type: ignore[arg-type]
    )


def _check_several(arrivals: str, trace: Trace | None, gpus_over_time: str | None) -> None:
    """Refuse what several servers do not go with."""
    if gpus_over_time:
        raise InputError("--gpus-over-time: found a scenario of several servers, accepted: one of one server")
    if trace and trace.requests.own_steps is not None:
        raise InputError(
            f"{arrivals}: found the column total_steps with several servers, accepted: a trace without it, or a "
            "scenario of one server"
        )


def make_world(settings: WorldSettings, number: int) -> World:
    """World number so-and-so: it depends on the settings and on its number alone."""
    rng = np.random.default_rng([settings.seed, number])
    scenario = settings.resolved.scenario
    users = _users(settings, scenario, rng)
    if isinstance(scenario, Fleet):
        users = _linked(scenario, users, np.random.default_rng([settings.seed, number, 2]))
        scenario = placed(scenario, replace(users, cell=np.zeros(len(users), np.int64)))
    if settings.process:
        requests = draw_requests(settings.process, settings.seconds, len(users), rng)
    elif settings.trace:
        names = list(named(users).user_id) if settings.users else []
        requests = users_of_trace(settings.trace, names, len(users), rng)
    if settings.patience_s is not None:
        requests = replace(requests, patience_s=np.full(len(requests), settings.patience_s))
    changes = _changes(settings, np.random.default_rng([settings.seed, number, 1]))
    return World(
        scenario=_at_start(scenario, changes),
        users=users,
        requests=requests,
        gpus_over_time=changes,
        physics=settings.physics,
        step_overhead_s=settings.step_overhead_s,
        decode_s=_decode_s(settings, users),
        device_queueing=settings.device_queueing,
        images_each=_images_each(settings.resolved),
    )


def draw_world(
    scenario: Scenario | None = None,
    arrivals: str = "poisson:8",
    *,
    rounds: int = 60,
    seed: int = 0,
    users: Users | None = None,
    gpus_over_time: str | None = None,
) -> World:
    """A world with random arrivals, as `simulate` draws its first one.

    Args:
        scenario: the system, a `Fleet` for several servers; None for the shipped one.
        arrivals: "poisson:RATE", "bursts:LOW,HIGH,SECONDS", or the path of a trace.
        rounds: length of the arrivals, in rounds.
        seed: random seed.
        users: whose requests they are, drawn with replacement; None for the paper's random users.
        gpus_over_time: how the number of GPUs changes, as `simulate --gpus-over-time` has it.

    Raises:
        InputError: for a process with wrong numbers, or a file that cannot be read.
    """
    resolved = resolve_scenario("default")
    own = scenario or resolved.scenario
    resolved = replace(resolved, scenario=own, for_alpha=own)
    settings = read_settings(resolved, arrivals, None, gpus_over_time, rounds * own.interval_s, 1.0, seed=seed)
    return make_world(settings if users is None else replace(settings, users=named(users)), 0)


def _users(settings: WorldSettings, scenario: Scenario, rng: np.random.Generator) -> Users:
    if settings.trace and settings.trace.own is not None:
        return settings.trace.own
    if settings.users:
        return settings.users
    crowd = Range(users=(PAPER_USERS, PAPER_USERS), gpus=(scenario.gpus,))
    return paper_instance(rng, crowd, settings.resolved.for_alpha).users


def _linked(fleet: Fleet, users: Users, rng: np.random.Generator) -> Users:
    """Users with clusters and links where they have none: as in `plan init --servers`, from a random server on.

    The nearest server has its usual spectral efficiency, and the next ones less by the shares of `RATES`.
    """
    if users.rate is not None or users.cluster is not None:
        return users
    servers, count = len(fleet.servers), len(users)
    home = rng.integers(servers, size=count)
    usual = np.array([server.scenario.spectral_efficiency for server in fleet.servers])
    rate = np.zeros((count, servers))
    for place, share in list(enumerate(np.array(RATES) / RATES[0]))[:servers]:
        near = (home + place) % servers
        rate[np.arange(count), near] = usual[near] * share
    cluster = rng.integers(len(fleet.clusters), size=count) if fleet.clusters else None
    return replace(users, rate=rate, cluster=cluster)


def _images_each(resolved: Resolved) -> int | tuple[int | None, ...] | None:
    """Images that the memory of one GPU holds; of several servers those of each, None for a fleet without its files."""
    if not isinstance(resolved.scenario, Fleet):
        return resolved.edge.max_batch
    each = tuple(edge.max_batch for edge in (resolved.edge, *resolved.more_edges))
    return each if len(each) == len(resolved.scenario.servers) else None


def _decode_s(settings: WorldSettings, users: Users) -> float | Floats:
    """Seconds that devices take to decode: the settings', or those of the users' profiles."""
    if settings.decode_s is not None:
        return settings.decode_s
    own = users.decode_s if isinstance(users, NamedUsers) else None
    return 0.0 if own is None else own


def _changes(settings: WorldSettings, rng: np.random.Generator) -> Sequence[tuple[float, int]]:
    """The changes of the number of GPUs; their draw leaves the arrivals' alone."""
    moving = settings.gpus_over_time
    return moving.changes(settings.seconds, rng) if isinstance(moving, MovingGpus) else moving


def _at_start(scenario: Scenario, changes: Sequence[tuple[float, int]]) -> Scenario:
    """The scenario whose G is that of time 0, where the changes name it; without a GPU it is the scenario's own."""
    return replace(scenario, gpus=changes[0][1]) if changes and changes[0][0] == 0 and changes[0][1] else scenario


def _seconds(trace: Trace | None, seconds: float | None) -> float:
    if seconds is not None:
        return seconds
    return float(trace.requests.time_s[-1]) if trace else 60.0


def _cut(trace: Trace, seconds: float | None) -> Trace:
    """The trace's first so many seconds."""
    if seconds is None:
        return trace
    keep = trace.requests.time_s <= seconds
    if not keep.any():
        first = trace.requests.time_s[0]
        raise InputError(
            f"--rounds, --hours: found {seconds:g} s, in which the trace has no request; its first is at {first:g} s"
        )
    return replace(trace, requests=trace.requests.take(keep))
