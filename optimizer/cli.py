"""`plan`: who offloads and how many steps."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..common import console
from ..common.errors import InputError


class Methods(StrEnum):
    """The keys of planner.METHODS, here so that --help needs no NumPy."""

    DRL = "drl"
    EXACT = "exact"
    GENETIC = "genetic"
    GENETIC_JOINT = "genetic-joint"
    ILP_FIXED = "ilp-fixed"
    ILP_JOINT = "ilp-joint"
    ALL_LOCAL = "all-local"
    OFFLOAD_ALL = "offload-all"
    OFFLOAD_ALL_FIXED = "offload-all-fixed"


app = console.make_app(
    "Grant or deny every user's offloading request and split the denoising steps, with the proven gap to the "
    "optimum. `plan --users users.csv` does the whole job; `plan init` writes files to start from."
)

SCENARIO = "Replace the scenario's"


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    users: Annotated[Path | None, typer.Option(help="Users, CSV or Parquet; one row each.")] = None,
    scenario: Annotated[str, typer.Option(help="Scenario: a JSON file or a shipped name.")] = "default",
    method: Annotated[
        Methods, typer.Option(metavar="METHOD", help=f"How to decide: {', '.join(Methods)}; drl is DRL-convex.")
    ] = Methods.DRL,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the plan (.csv, .parquet), or --gpu-sweep's picture, here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    edge: Annotated[str | None, typer.Option(help=f"{SCENARIO} edge GPU: a profile's name or file.")] = None,
    pai: Annotated[
        str | None, typer.Option(help=f"{SCENARIO} PAI curve, total and least local steps: a name or file.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help=f"{SCENARIO} number of edge GPUs; alpha stays.")] = None,
    max_batch: Annotated[int | None, typer.Option(help=f"{SCENARIO} most granted users of a round.")] = None,
    bandwidth_mhz: Annotated[float | None, typer.Option(help=f"{SCENARIO} shared bandwidth, MHz.")] = None,
    latent_bits: Annotated[float | None, typer.Option(help=f"{SCENARIO} size of an intermediate, bit.")] = None,
    total_steps: Annotated[int | None, typer.Option(help=f"{SCENARIO} steps of one image.")] = None,
    min_local_steps: Annotated[int | None, typer.Option(help=f"{SCENARIO} last steps that stay local.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="The policy of drl: a shipped name or a .safetensors file; default: set-general.")
    ] = None,
    fixed_offload: Annotated[
        int | None, typer.Option(help="Steps that offload-all-fixed offloads; default: all it may.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds that ilp-fixed or ilp-joint may take for the whole plan; default: 60. Building a large "
            "program counts, but is not cut short.",
        ),
    ] = None,
    population: Annotated[
        int | None, typer.Option(min=4, help="Population of genetic and genetic-joint; default: 100.")
    ] = None,
    generations: Annotated[int | None, typer.Option(min=1, help="Generations of them; default: 200.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of them; default: 0.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Print all methods side by side.")] = False,
    uncertain: Annotated[
        bool, typer.Option("--uncertainty", help="Add intervals over the PAI curve's bootstrap draws.")
    ] = False,
    gpu_sweep: Annotated[
        str | None, typer.Option(metavar="FROM:TO[:STEP]", help="Plan for each number of GPUs and draw it.")
    ] = None,
) -> None:
    """Plan for the users of a file."""
    if context.invoked_subcommand:
        return
    if users is None:
        raise InputError("--users: found nothing, accepted: a users file; `plan init` writes one to start from")
    options = {
        "edge": edge, "pai": pai, "gpus": gpus, "max_batch": max_batch, "bandwidth_mhz": bandwidth_mhz,
        "latent_bits": latent_bits, "total_steps": total_steps, "min_local_steps": min_local_steps,
    }  # fmt: skip
    from .plan_command import Request, run

    given = {
        "fixed_offload": fixed_offload, "time_limit_s": time_limit, "population": population,
        "generations": generations, "seed": seed,
    }  # fmt: skip
    told = {name: value for name, value in given.items() if value is not None}
    run(Request(users, scenario, options, str(method), policy, told, output, as_json, compare, gpu_sweep, uncertain))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a scenario.json and a users.csv to start from."""
    from .plan_command import write_start_files

    write_start_files(folder, force)


class Scopes(StrEnum):
    """For what rounds a policy is trained, section 6.1.2."""

    GENERAL = "general"
    GPU = "gpu"
    SPECIFIC = "specific"


class Presets(StrEnum):
    """The keys of dqn.PRESETS."""

    SET = "set"
    PAPER = "paper"
    LITERAL = "literal"


@app.command()
def train(
    scope: Annotated[Scopes, typer.Option(help="Any number of GPUs, the scenario's, or one round's users.")] = (
        Scopes.GENERAL
    ),
    preset: Annotated[Presets, typer.Option(help="Network and hyper-parameters; docs/drl.md has them.")] = Presets.SET,
    scenario: Annotated[str, typer.Option(help="Scenario: a JSON file or a shipped name.")] = "default",
    gpus: Annotated[int | None, typer.Option(help=f"{SCENARIO} number of edge GPUs.")] = None,
    edge: Annotated[str | None, typer.Option(help=f"{SCENARIO} edge GPU: a profile's name or file.")] = None,
    pai: Annotated[str | None, typer.Option(help=f"{SCENARIO} PAI curve: a name or file.")] = None,
    users: Annotated[Path | None, typer.Option(help="The round that --scope specific is for.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Learning steps; default: by scope.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Training instances; default: by scope.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="Of everything random.")] = 0,
    name: Annotated[str | None, typer.Option(help="Of the policy; default: own-SCOPE.")] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Held-out instances that the policy is scored on; default: 1000.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the policy.")] = Path("policies"),
    force: Annotated[bool, typer.Option("--force", help="Replace a policy of that name.")] = False,
) -> None:
    """Train a policy for your own scenario; the same command goes on after an interruption."""
    from ..common.errors import require

    require("train", "torch", "gymnasium", "tensorboard")
    from .train_command import TrainRequest, run_training

    run_training(
        TrainRequest(
            scope=scope.value,
            preset=str(preset),
            scenario=scenario,
            options={"gpus": gpus, "edge": edge, "pai": pai},
            users=users,
            steps=steps,
            seeds=seeds,
            seed=seed,
            name=name,
            instances=instances,
            output=output,
            force=force,
        )
    )


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="A shipped name or a .safetensors file.")] = "set-general",
    scenario: Annotated[str | None, typer.Option(help="Score it in this scenario.")] = None,
    users: Annotated[Path | None, typer.Option(help="Score it on this round.")] = None,
    instances: Annotated[int | None, typer.Option(min=1, help="Held-out instances per setting; default: 1000.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a policy on held-out instances, beside the exact optimum and the baselines."""
    from .train_command import EvaluateRequest, run_evaluation

    run_evaluation(EvaluateRequest(policy=policy, scenario=scenario, users=users, instances=instances, as_json=as_json))


def main() -> None:
    """The `plan` command."""
    console.run(app, "plan")
