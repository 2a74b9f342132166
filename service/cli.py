"""`simulate`: a service over time. `trace`: request times of other services, as files for it."""

import typer

from ..common import console
from ..common.errors import InputError
from ..optimizer.options import (
    Bandwidth,
    Edge,
    LatentBits,
    MaxBatch,
    MinLocalSteps,
    Pai,
    ScenarioName,
    TotalSteps,
)
from .options import (
    Arrivals,
    AsJson,
    Compare,
    Cost,
    DecodeSeconds,
    DeviceQueueing,
    Engine,
    GoalText,
    GpuRange,
    GpusOverTime,
    Hindsight,
    Hours,
    Log,
    MethodName,
    Output,
    Patience,
    PhysicsName,
    Prices,
    Rounds,
    Seed,
    SpeedUp,
    StepOverhead,
    Users,
    Worlds,
)

simulate_app = console.make_app(
    "Play hours of a service in seconds: requests arrive, every round is decided beside what is still in flight, and "
    "everybody's latency, PAI and QoE are what then happens. Compares ways to decide on equal arrivals.",
)


@simulate_app.callback(invoke_without_command=True)
def simulate(
    context: typer.Context,
    users: Users = None,
    arrivals: Arrivals = "poisson:8",
    method: MethodName = "price",
    compare: Compare = None,
    scenario: ScenarioName = "default",
    output: Output = None,
    as_json: AsJson = False,
    rounds: Rounds = None,
    hours: Hours = None,
    worlds: Worlds = 1,
    seed: Seed = 0,
    speed_up: SpeedUp = 1.0,
    edge: Edge = None,
    pai: Pai = None,
    gpus: GpuRange = None,
    gpus_over_time: GpusOverTime = None,
    max_batch: MaxBatch = None,
    bandwidth_mhz: Bandwidth = None,
    latent_bits: LatentBits = None,
    total_steps: TotalSteps = None,
    min_local_steps: MinLocalSteps = None,
    physics: PhysicsName = "continuous",
    step_overhead_s: StepOverhead = 0.0,
    decode_s: DecodeSeconds = 0.0,
    device_queueing: DeviceQueueing = False,
    patience_s: Patience = None,
    prices: Prices = "mixed",
    goal: GoalText = None,
    cost_per_gpu_hour: Cost = None,
    hindsight: Hindsight = True,
    log: Log = False,
    engine: Engine = "local",
) -> None:
    """Simulate a service."""
    if context.invoked_subcommand:
        return
    if rounds is not None and hours is not None:
        raise InputError("--rounds, --hours: found both, accepted: one of them")
    from ..optimizer.cli import in_use
    from .simulate_command import SimulateRequest, run_simulate

    changes = in_use(edge=edge, pai=pai, max_batch=max_batch, bandwidth_mhz=bandwidth_mhz, latent_bits=latent_bits,
                     total_steps=total_steps, min_local_steps=min_local_steps)  # fmt: skip
    run_simulate(SimulateRequest(
        users=users, arrivals=arrivals, scenario=scenario, changes=changes, gpus=gpus, gpus_over_time=gpus_over_time,
        methods=compare.split(",") if compare else [method], prices=prices, rounds=rounds, hours=hours,
        speed_up=speed_up, seed=seed, worlds=worlds, physics=physics, step_overhead_s=step_overhead_s,
        decode_s=decode_s, device_queueing=device_queueing, patience_s=patience_s, goal=goal,
        cost_per_gpu_hour=cost_per_gpu_hour, hindsight=hindsight, log=log, engine=engine, output=output,
        as_json=as_json))  # fmt: skip


def simulate_main() -> None:
    """The `simulate` command."""
    console.run(simulate_app, "simulate")
