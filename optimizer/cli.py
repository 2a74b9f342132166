"""`plan`: who offloads and how many steps."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..common import console
from ..common.errors import InputError
from .agent.names import Scope
from .learn.presets import PresetName
from .options import (
    SCENARIO,
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

MOST_LOAD = 1_000_000
MOST_PLANS = 100_000
"""Plans of a population: more would need gigabytes for a hundred users."""
MOST_ORDERS = 10_000
Users = Annotated[Path | None, typer.Option(help="Users, CSV or Parquet; one row each.")]
MethodName = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="How to decide: a name from the list below, or package.module:function; default: drl, or assign for "
        "several servers.",
    ),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write the plan (.csv, .parquet), or a sweep's picture, here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
PolicyName = Annotated[
    str | None,
    typer.Option(
        help="Policy of the method drl or learned: a shipped name or a .safetensors file; default: set-general, mixed."
    ),
]
FixedOffload = Annotated[
    int | None, typer.Option(help="Steps that offload-all-fixed offloads; as many as allowed without this option.")
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="Seconds that a branch and bound (ilp-...) may take for the whole plan. The time to build a large "
        "program counts, but it is not cut short; default: 60.",
    ),
]
Population = Annotated[
    int | None, typer.Option(min=4, max=MOST_PLANS, help="Population of genetic and genetic-joint; default: 100.")
]
Generations = Annotated[
    int | None, typer.Option(min=1, max=MOST_PLANS, help="Generations of genetic and genetic-joint; default: 200.")
]
Orders = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST_ORDERS,
        help="Orders of the users in which a policy of the paper's network decides, the best plan kept; default: 1.",
    ),
]  # fmt: skip
Seed = Annotated[int | None, typer.Option(min=0, help="Random seed of genetic, genetic-joint and memetic; default: 0.")]
PlanGpus = Annotated[
    int | None, typer.Option("--gpus", help=f"{SCENARIO} number of edge GPUs. The users' alpha stays.")
]
InFlight = Annotated[
    int, typer.Option(min=0, max=MOST_LOAD, help="Images of earlier rounds that still step at the edge.")
]
OnTheRadio = Annotated[
    int, typer.Option(min=0, max=MOST_LOAD, help="Intermediates of earlier rounds that still share the bandwidth.")
]
Compare = Annotated[bool, typer.Option("--compare", help="Print all methods side by side.")]
Uncertain = Annotated[bool, typer.Option("--uncertainty", help="Add intervals over the PAI curve's bootstrap draws.")]
GpuSweep = Annotated[
    str | None, typer.Option(metavar="FROM:TO[:STEP]", help="Plan for each number of GPUs and draw it.")
]
PlacementSweep = Annotated[
    str | None,
    typer.Option(
        metavar="FROM:TO[:STEP]", help="Plan for each memory of every server, in GB, choosing the models, and draw it."
    ),
]


class PlanGroup(console.CommandGroup):
    """`plan`, whose help lists the methods, those of installed packages too."""

    FILE_OPTION = "--users"

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """The methods with their summaries."""
        from .methods.registry import known_methods

        with formatter.section("Methods"):
            formatter.write_dl([(name, entry.summary) for name, entry in known_methods().items()])


app = console.make_app(
    "Grant or deny every user's offloading request and split the denoising steps, with the proven gap to the "
    "optimum. `plan --users users.csv` does the whole job; `plan init` writes files to start from.",
    PlanGroup,
)


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    users: Users = None,
    scenario: ScenarioName = "default",
    method: MethodName = None,
    output: Output = None,
    as_json: AsJson = False,
    edge: Edge = None,
    pai: Pai = None,
    gpus: PlanGpus = None,
    max_batch: MaxBatch = None,
    bandwidth_mhz: Bandwidth = None,
    latent_bits: LatentBits = None,
    total_steps: TotalSteps = None,
    min_local_steps: MinLocalSteps = None,
    policy: PolicyName = None,
    orders: Orders = None,
    fixed_offload: FixedOffload = None,
    time_limit: TimeLimit = None,
    population: Population = None,
    generations: Generations = None,
    seed: Seed = None,
    compare: Compare = False,
    uncertain: Uncertain = False,
    gpu_sweep: GpuSweep = None,
    placement_sweep: PlacementSweep = None,
    in_flight: InFlight = 0,
    on_the_radio: OnTheRadio = 0,
) -> None:
    """Plan for the users of a file."""
    if context.invoked_subcommand:
        return
    if users is None:
        raise InputError("--users: found nothing, accepted: a users file; `plan init` writes one to start from")
    from .plan_command import PlanRequest, run_plan

    changes = in_use(edge=edge, pai=pai, gpus=gpus, max_batch=max_batch, bandwidth_mhz=bandwidth_mhz,
                     latent_bits=latent_bits, total_steps=total_steps, min_local_steps=min_local_steps)  # fmt: skip
    settings = in_use(policy=policy, orders=orders, offloaded_steps=fixed_offload, time_limit_s=time_limit,
                      population=population, generations=generations, seed=seed)  # fmt: skip
    run_plan(PlanRequest(users=users, scenario=scenario, changes=changes, method=method or "", settings=settings,
                         output=output, as_json=as_json, compare=compare, gpu_sweep=gpu_sweep,
                         placement_sweep=placement_sweep, uncertain=uncertain, in_flight=in_flight,
                         on_radio=on_the_radio))  # fmt: skip


def in_use(**options: Any) -> dict[str, Any]:
    """The options that the command line has."""
    return {name: value for name, value in options.items() if value is not None}


ALPHA = """Say what a device's alpha means: the range that is of use, and what every emphasis gives.

An alpha is the seconds of latency that a PAI of 1 is worth to a user (Remark 1 of the paper)."""
INIT = "Write a scenario.json and a users.csv to start from."
TRAIN = """Train a policy for your own scenario; after an interruption the same command goes on.

The default network, as that of plan's default policy, is ours and not the paper's. The method greedy of plan evaluate,
which has no network, captures as much."""
EVALUATE = """Score a policy on held-out instances, beside the exact optimum and the baselines.

The default policy has our network, not the paper's (that is paper-general). The method greedy has no network: it grants
while the objective rises."""
"""The help of the subcommands, which docstrings are not where Python leaves these out."""


@app.command(help=INIT)
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")] = Path(),
    servers: Annotated[
        int | None, typer.Option(min=1, max=100, help="An example of that many servers and four models instead.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write files to start from."""
    from .plan_command import write_start_files

    write_start_files(folder, force, servers)


AdvisedDevice = Annotated[str | None, typer.Option(help="The user's device: a latency profile's name or file.")]
StepLatency = Annotated[float | None, typer.Option(help="Seconds of one step on the device, in place of --device.")]
GrantedUsers = Annotated[
    str, typer.Option(help="Numbers of granted users to print seconds for: a list, or START:STOP:STEP.")
]
Picture = Annotated[Path | None, typer.Option("-o", "--output", help="Draw PAI and seconds here (.png, .svg, .pdf).")]


@app.command(help=ALPHA)
def alpha(
    device: AdvisedDevice = None,
    step_latency_s: StepLatency = None,
    batches: GrantedUsers = "1,5,10,20",
    scenario: ScenarioName = "default",
    edge: Edge = None,
    pai: Pai = None,
    gpus: PlanGpus = None,
    max_batch: MaxBatch = None,
    bandwidth_mhz: Bandwidth = None,
    latent_bits: LatentBits = None,
    total_steps: TotalSteps = None,
    min_local_steps: MinLocalSteps = None,
    output: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Say what a device's alpha means."""
    from .alpha_command import AlphaRequest, run_advice

    changes = in_use(edge=edge, pai=pai, gpus=gpus, max_batch=max_batch, bandwidth_mhz=bandwidth_mhz,
                     latent_bits=latent_bits, total_steps=total_steps, min_local_steps=min_local_steps)  # fmt: skip
    run_advice(AlphaRequest(device=device, step_latency_s=step_latency_s, batches=batches, scenario=scenario,
                            changes=changes, output=output, as_json=as_json))  # fmt: skip


ScopeChoice = Annotated[
    Scope, typer.Option(help="Rounds that the policy is for: any number of GPUs, the scenario's number, or --users.")
]
PresetChoice = Annotated[
    PresetName,
    typer.Option(
        help="Network and hyper-parameters: our network (set), the paper's network trained our way (flat-gain), or the "
        "paper's network trained as in the paper (paper). docs/drl.md lists them."
    ),
]
OwnRound = Annotated[Path | None, typer.Option("--users", help="Users of the one round that --scope specific is for.")]
LearningSteps = Annotated[int | None, typer.Option(min=1, help="Number of learning steps; default: by scope.")]
TrainingSeeds = Annotated[int | None, typer.Option(min=1, help="Number of training instances; default: by scope.")]
TrainingSeed = Annotated[
    int, typer.Option(min=0, max=999_999, help="Random seed of instances, first weights and exploration.")
]
OwnName = Annotated[str | None, typer.Option(help="Name of the policy; default: own-SCOPE.")]
HeldOut = Annotated[
    int | None,
    typer.Option(min=1, help="Number of held-out instances in each setting to score the policy on; default: 1000."),
]
PolicyFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the policy.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a policy of that name.")]


@app.command(help=TRAIN)
def train(
    scope: ScopeChoice = "general",
    preset: PresetChoice = "set",
    scenario: ScenarioName = "default",
    gpus: Gpus = None,
    edge: Edge = None,
    pai: Pai = None,
    users: OwnRound = None,
    steps: LearningSteps = None,
    seeds: TrainingSeeds = None,
    seed: TrainingSeed = 0,
    name: OwnName = None,
    instances: HeldOut = None,
    output: PolicyFolder = Path("policies"),
    force: Force = False,
) -> None:
    """Train a policy."""
    from .train_command import TrainRequest, run_training

    run_training(TrainRequest(scope=scope, preset=preset, scenario=scenario,
                              changes=in_use(gpus=gpus, edge=edge, pai=pai), users=users, steps=steps, seeds=seeds,
                              seed=seed, name=name, instances=instances, output=output, force=force))  # fmt: skip


ScoredPolicy = Annotated[str, typer.Argument(help="A shipped name or a .safetensors file.")]
ScoredScenario = Annotated[str | None, typer.Option("--scenario", help="Score it in this scenario.")]
ScoredRound = Annotated[Path | None, typer.Option("--users", help="Score it on the round of this users file.")]


@app.command(help=EVALUATE)
def evaluate(
    policy: ScoredPolicy = "set-general",
    scenario: ScoredScenario = None,
    users: ScoredRound = None,
    instances: HeldOut = None,
    orders: Orders = None,
    as_json: AsJson = False,
) -> None:
    """Score a policy."""
    from .evaluate_command import EvaluateRequest, run_evaluation

    run_evaluation(EvaluateRequest(policy=policy, scenario=scenario, users=users, instances=instances,
                                   orders=orders or 1, as_json=as_json))  # fmt: skip


def main() -> None:
    """The `plan` command."""
    console.run(app, "plan")
