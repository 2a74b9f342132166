"""`simulate`: a service over time. `trace`: request times for it. `serve`, `device`, `load`: the service itself."""

from pathlib import Path

import typer

from ..common import console
from ..common.errors import InputError
from ..optimizer.options import (
    Bandwidth,
    Edge,
    Gpus,
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
    BodySeconds,
    CallLog,
    CallsPerSecond,
    Cluster,
    Compare,
    Cost,
    DecodeSeconds,
    Device,
    DeviceQueueing,
    Dtype,
    Duration,
    EmulateRadio,
    Engine,
    Evaluations,
    Expiry,
    FrozenProfile,
    GoalText,
    GpuRange,
    GpusOverTime,
    Grace,
    Guidance,
    Hindsight,
    Host,
    Hours,
    ImagesColumn,
    LearnedPolicy,
    Listen,
    LoadOutput,
    LoadPrompt,
    Log,
    Measure,
    MethodName,
    MostWaiting,
    NoiseSeed,
    Output,
    OwnAlpha,
    OwnEmphasis,
    OwnModelFolder,
    OwnProfile,
    OwnPrompt,
    OwnStepLatency,
    OwnSteps,
    OwnUser,
    Patience,
    PhysicsName,
    PictureFile,
    Port,
    PriceOutput,
    Prices,
    Rounds,
    Sampler,
    Seed,
    ServeEngine,
    Server,
    Source,
    SpeedUp,
    StepOverhead,
    StepsColumn,
    TimeColumn,
    TlsCert,
    TlsKey,
    TokenFile,
    TokenText,
    TraceFile,
    TraceOutput,
    TracePicture,
    TunedArrivals,
    TunedRevise,
    TunedWorlds,
    UserColumn,
    Users,
    Wait,
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
    decode_s: DecodeSeconds = None,
    device_queueing: DeviceQueueing = False,
    patience_s: Patience = None,
    prices: Prices = None,
    policy: LearnedPolicy = "mixed",
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
        methods=compare.split(",") if compare else [method], prices=prices, policy=policy, rounds=rounds, hours=hours,
        speed_up=speed_up, seed=seed, worlds=worlds, physics=physics, step_overhead_s=step_overhead_s,
        decode_s=decode_s, device_queueing=device_queueing, patience_s=patience_s, goal=goal,
        cost_per_gpu_hour=cost_per_gpu_hour, hindsight=hindsight, log=log, engine=engine, output=output,
        as_json=as_json))  # fmt: skip


TUNE = """Tune the prices of the method trained on worlds of one kind, or on a mixture of loads.

Worlds of other seeds, or the later part of a trace, are held out; the file says what the prices gain there."""


@simulate_app.command(help=TUNE)
def tune(
    arrivals: TunedArrivals = None,
    scenario: ScenarioName = "default",
    gpus: Gpus = None,
    gpus_over_time: GpusOverTime = None,
    bandwidth_mhz: Bandwidth = None,
    rounds: Rounds = None,
    worlds: TunedWorlds = 4,
    evaluations: Evaluations = 400,
    seed: Seed = 0,
    revise: TunedRevise = False,
    output: PriceOutput = Path("prices.json"),
) -> None:
    """Tune prices."""
    from .tune_command import TuneRequest, run_tune

    run_tune(TuneRequest(arrivals=arrivals or [], scenario=scenario, gpus=gpus, gpus_over_time=gpus_over_time,
                         bandwidth_mhz=bandwidth_mhz, rounds=rounds, worlds=worlds, evaluations=evaluations, seed=seed,
                         revise=revise, output=output))  # fmt: skip


serve_app = console.make_app(
    "Serve the first denoising steps of many users' images on one cluster-wide model: requests of a round are decided "
    "together, granted ones join the batch, and every intermediate is handed to its device."
)
load_app = console.make_app(
    "Send requests of many emulated devices to a server, and compare the seconds that its plans predicted with those "
    "that were measured."
)


@serve_app.command()
def serve(
    cluster: Cluster = None,
    device: Device = "",
    dtype: Dtype = "fp32",
    guidance: Guidance = None,
    sampler: Sampler = None,
    host: Host = "127.0.0.1",
    port: Port = 8440,
    scenario: ScenarioName = "default",
    edge: Edge = None,
    pai: Pai = None,
    gpus: Gpus = None,
    max_batch: MaxBatch = None,
    bandwidth_mhz: Bandwidth = None,
    latent_bits: LatentBits = None,
    total_steps: TotalSteps = None,
    min_local_steps: MinLocalSteps = None,
    method: MethodName = "price",
    prices: Prices = None,
    policy: LearnedPolicy = "mixed",
    engine: ServeEngine = "process",
    emulate_radio: EmulateRadio = False,
    frozen_profile: FrozenProfile = False,
    token_file: TokenFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    most_waiting: MostWaiting = 1000,
    calls_per_s: CallsPerSecond = 200.0,
    body_s: BodySeconds = 10.0,
    expiry_s: Expiry = 60.0,
    grace_s: Grace = 10.0,
    log: CallLog = None,
) -> None:
    """Serve."""
    from ..optimizer.cli import in_use
    from .serve_command import ServeRequest, run_serve

    changes = in_use(edge=edge, pai=pai, gpus=gpus, max_batch=max_batch, bandwidth_mhz=bandwidth_mhz,
                     latent_bits=latent_bits, total_steps=total_steps, min_local_steps=min_local_steps)  # fmt: skip
    run_serve(ServeRequest(
        cluster=cluster, device=device, dtype=dtype, guidance=guidance, sampler=sampler, host=host, port=port,
        scenario=scenario, changes=changes, method=method, prices=prices, policy=policy, engine=engine,
        emulate_radio=emulate_radio, frozen_profile=frozen_profile, token_file=token_file, tls_cert=tls_cert,
        tls_key=tls_key, most_waiting=most_waiting, calls_per_s=calls_per_s, body_s=body_s, expiry_s=expiry_s,
        grace_s=grace_s, log=log))  # fmt: skip


@load_app.command()
def load(
    server: Server = "http://127.0.0.1:8440",
    users: Users = None,
    arrivals: Arrivals = "poisson:2",
    duration: Duration = 60.0,
    seed: Seed = 0,
    prompt: LoadPrompt = "a photo of {subject} on the beach",
    method: MethodName = "price",
    prices: Prices = None,
    policy: LearnedPolicy = "mixed",
    token: TokenText = None,
    wait: Wait = 0.0,
    output: LoadOutput = None,
    as_json: AsJson = False,
) -> None:
    """Load a server."""
    from .load_command import LoadRequest, run_load

    run_load(LoadRequest(server=server, users=users, arrivals=arrivals, duration=duration, seed=seed, prompt=prompt,
                         method=method, prices=prices, policy=policy, token=token, wait=wait, output=output,
                         as_json=as_json))  # fmt: skip


device_app = console.make_app(
    "Make a picture of your own with the help of an edge server: it runs the first steps, this device the last ones on "
    "your personal model. Where the edge cannot help, all steps run here, from the same seed."
)


@device_app.command("device")
def own_device(
    server: Server = "http://127.0.0.1:8440",
    user: OwnUser = None,
    model: OwnModelFolder = None,
    prompt: OwnPrompt = None,
    output: PictureFile = Path("picture.png"),
    seed: NoiseSeed = 0,
    step_latency_s: OwnStepLatency = None,
    profile: OwnProfile = None,
    measure: Measure = False,
    alpha: OwnAlpha = None,
    emphasis: OwnEmphasis = None,
    steps: OwnSteps = None,
    guidance: Guidance = None,
    scheduler: Sampler = None,
    dtype: Dtype = "fp32",
    device: Device = "",
    token: TokenText = None,
    listen: Listen = None,
    as_json: AsJson = False,
) -> None:
    """Make a picture."""
    from .device_command import DeviceRequest, run_own_device

    run_own_device(DeviceRequest(
        server=server, user=user, model=model, prompt=prompt, output=output, seed=seed, step_latency_s=step_latency_s,
        profile=profile, measure=measure, alpha=alpha, emphasis=emphasis, steps=steps, guidance=guidance,
        scheduler=scheduler, dtype=dtype, device=device, token=token, listen=listen, as_json=as_json))  # fmt: skip


trace_app = console.make_app(
    "Request times of other services: `trace import` makes a file for `simulate --arrivals` of a published trace or of "
    "your own log; `trace show` says what such a file is like."
)
IMPORT = "Make a trace of a published file, or of a table of your own."
SHOW = "Say what a trace is like: rate, gaps, bursts, images per request; and draw it."
"""The help of the subcommands, which docstrings are not where Python leaves these out."""


@trace_app.command("import", help=IMPORT)
def import_(
    file: TraceFile,
    source: Source = "csv",
    time: TimeColumn = None,
    user: UserColumn = None,
    images: ImagesColumn = None,
    steps: StepsColumn = None,
    output: TraceOutput = Path("trace.csv"),
) -> None:
    """Import a foreign file."""
    from ..optimizer.cli import in_use
    from .trace_command import run_import

    run_import(file, source, in_use(time=time, user=user, images=images, steps=steps), output)


@trace_app.command(help=SHOW)
def show(file: TraceFile, output: TracePicture = None, as_json: AsJson = False) -> None:
    """Sum a trace up."""
    from .trace_command import run_show

    run_show(file, output, as_json)
