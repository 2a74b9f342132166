"""`reproduce`: every figure and table of the paper."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console
from ..optimizer.options import SCENARIO, Edge, Pai, ScenarioName

app = console.make_app(
    "Rebuild every figure and table of the paper from parameter files: PNG, SVG and CSV, and report.html with the "
    "paper's claims beside verdicts computed from the numbers. A run that was killed goes on with the same command."
)

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for all files.")]
Quick = Annotated[bool, typer.Option("--quick", help="Make all figures from fewer cases, in under two minutes.")]
Cases = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Random cases per point; default: 100, or with --quick 20, and 2 in Fig. 11. A folder takes more later.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of the cases and of the genetic algorithms.")]
Gpus = Annotated[  # unlike plan's: random users are drawn for this number
    int | None, typer.Option(help=f"{SCENARIO} number of edge GPUs.")
]
Devices = Annotated[
    str | None,
    typer.Option(help="Users' devices: names or files of profiles, separated by commas; default: the paper's."),
]
Proposed = Annotated[
    str,
    typer.Option(
        metavar="METHOD",
        help="Method that stands as the proposed one in Figs. 10, 11 and Table 1: a name that plan knows, or "
        "package.module:function.",
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(help="Policy of the proposed method drl: a shipped name or a file; default: paper-general."),
]
Population = Annotated[int, typer.Option(min=4, help="Population of the genetic algorithms, P in Table 1.")]
Generations = Annotated[int, typer.Option(min=1, help="Generations of the genetic algorithms, M in Table 1.")]
TimeLimit = Annotated[float, typer.Option(min=0.1, help="Seconds that branch & bound may take for a plan.")]
LatencyGoal = Annotated[
    float | None, typer.Option(min=0.001, help="Wanted average latency in seconds: say how many GPUs it needs.")
]
Workers = Annotated[int, typer.Option(min=0, help="Number of processes; 0: one per CPU.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Move the folder of an earlier run aside.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")]


@app.command()
def reproduce(
    output: Output = Path("reproduction"),
    quick: Quick = False,
    cases: Cases = None,
    seed: Seed = 0,
    scenario: ScenarioName = "default",
    edge: Edge = None,
    pai: Pai = None,
    gpus: Gpus = None,
    devices: Devices = None,
    proposed: Proposed = "drl",
    policy: PolicyName = None,
    population: Population = 100,
    generations: Generations = 200,
    time_limit: TimeLimit = 20.0,
    latency_goal: LatencyGoal = None,
    workers: Workers = 0,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Compute, draw and judge."""
    from .reproduce_command import ReproduceRequest, run_reproduction

    run_reproduction(ReproduceRequest(
        output=output, quick=quick, cases=cases, scenario=scenario,
        changes={"edge": edge, "pai": pai, "gpus": gpus}, devices=devices, proposed=proposed, policy=policy, seed=seed,
        population=population, generations=generations, time_limit=time_limit, latency_goal=latency_goal,
        workers=workers, fresh=fresh, as_json=as_json,
    ))  # fmt: skip


def main() -> None:
    """Run `reproduce`."""
    console.run(app, "reproduce")
