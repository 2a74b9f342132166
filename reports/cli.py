"""`reproduce`: every figure and table of the paper."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console

app = console.make_app(
    "Rebuild every figure and table of the paper from parameter files: PNG, SVG and CSV, and report.html with the "
    "paper's claims beside verdicts computed from the numbers. A run that was killed goes on with the same command."
)

SCENARIO = "Replace the scenario's"


@app.command()
def reproduce(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for everything.")] = Path("reproduction"),
    quick: Annotated[bool, typer.Option("--quick", help="All figures from fewer cases, in under two minutes.")] = False,
    cases: Annotated[
        int | None,
        typer.Option(
            min=2, help="Random cases per point; default: 100, quick 20, and 2 of Fig. 11. A folder takes more later."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    scenario: Annotated[str, typer.Option(help="Scenario: a JSON file or a shipped name.")] = "default",
    edge: Annotated[str | None, typer.Option(help=f"{SCENARIO} edge GPU: a profile's name or file.")] = None,
    pai: Annotated[str | None, typer.Option(help=f"{SCENARIO} PAI curve: a name or file.")] = None,
    gpus: Annotated[int | None, typer.Option(help=f"{SCENARIO} number of edge GPUs.")] = None,
    devices: Annotated[
        str | None, typer.Option(help="Users' devices: profiles, names or files, with commas; default: the paper's.")
    ] = None,
    policy: Annotated[str, typer.Option(help="The policy of the proposed method.")] = "set-general",
    population: Annotated[int, typer.Option(min=4, help="P of the genetic algorithms.")] = 100,
    generations: Annotated[int, typer.Option(min=1, help="M of the genetic algorithms.")] = 200,
    time_limit: Annotated[float, typer.Option(min=0.1, help="Seconds that branch & bound may take for a plan.")] = 60.0,
    latency_goal: Annotated[
        float | None, typer.Option(min=0.001, help="A wanted average latency, seconds: say how many GPUs it needs.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per CPU.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier run's folder aside.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Compute, draw and judge."""
    from .reproduce_command import Request, run

    run(
        Request(
            output=output,
            quick=quick,
            cases=cases,
            scenario=scenario,
            options={"edge": edge, "pai": pai, "gpus": gpus},
            devices=devices,
            others={
                "policy": policy,
                "seed": seed,
                "population": population,
                "generations": generations,
                "time_limit_s": time_limit,
            },
            workers=workers,
            latency_goal_s=latency_goal,
            fresh=fresh,
            as_json=as_json,
        )
    )


def main() -> None:
    """The entry point."""
    console.run(app, "reproduce")
