"""The command-line options that replace fields of a scenario, for every command that plans."""

from typing import Annotated

import typer

SCENARIO = "Replace the scenario's"
ScenarioName = Annotated[str, typer.Option(help="Scenario: a JSON file or a shipped name.")]
Edge = Annotated[str | None, typer.Option(help=f"{SCENARIO} edge GPU: a profile's name or file.")]
Pai = Annotated[str | None, typer.Option(help=f"{SCENARIO} PAI curve, total and least local steps: a name or file.")]
Gpus = Annotated[int | None, typer.Option(help=f"{SCENARIO} number of edge GPUs.")]
MaxBatch = Annotated[int | None, typer.Option(help=f"{SCENARIO} largest number of granted users in a round.")]
Bandwidth = Annotated[float | None, typer.Option(help=f"{SCENARIO} shared bandwidth, MHz.")]
LatentBits = Annotated[float | None, typer.Option(help=f"{SCENARIO} size of an intermediate, bit.")]
TotalSteps = Annotated[int | None, typer.Option(help=f"{SCENARIO} steps of one image.")]
MinLocalSteps = Annotated[int | None, typer.Option(help=f"{SCENARIO} last steps that stay local.")]
