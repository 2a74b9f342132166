"""The command-line options of `simulate` and `trace`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..optimizer.options import SCENARIO

Users = Annotated[
    Path | None,
    typer.Option(help="Users, CSV or Parquet, drawn with replacement; default: the paper's random users."),
]
Arrivals = Annotated[
    str,
    typer.Option(
        metavar="PROCESS|FILE",
        help="poisson:RATE (per second), bursts:LOW,HIGH,SECONDS, or a table with the column time_s (CSV or Parquet).",
    ),
]
MethodName = Annotated[
    str,
    typer.Option(
        metavar="METHOD",
        help="How rounds are decided: blind, aware, aware-delay, price, trained, or a method of `plan`.",
    ),
]
Compare = Annotated[
    str | None,
    typer.Option(metavar="METHOD,...", help="Play several methods on equal arrivals, beside all local and hindsight."),
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the requests, figures and report.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Length of the arrivals in rounds; default: 60, or the trace.")]
Hours = Annotated[float | None, typer.Option(min=1e-6, max=1e6, help="Length of the arrivals in hours.")]
Worlds = Annotated[int, typer.Option(min=1, max=10_000, help="Number of worlds, each with arrivals of its own.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of arrivals and users.")]
SpeedUp = Annotated[float, typer.Option(min=1e-9, max=1e9, help="Factor by which a trace's time is compressed.")]
GpuRange = Annotated[
    str | None,
    typer.Option("--gpus", metavar="NUMBER|FROM:TO", help=f"{SCENARIO} number of edge GPUs; or a range, for --goal."),
]
GpusOverTime = Annotated[
    str | None,
    typer.Option(
        metavar="PROCESS|FILE",
        help="How the number of edge GPUs changes: random:SECONDS,G,G,..., or a table with time_s and gpus.",
    ),
]
PhysicsName = Annotated[
    Literal["continuous", "queue"],
    typer.Option(help="Images of several rounds step together, or a round's batch waits for the one before."),
]
StepOverhead = Annotated[float, typer.Option(min=0, max=1e6, help="Seconds that every edge step takes beyond L_e.")]
DecodeSeconds = Annotated[float, typer.Option(min=0, max=1e6, help="Seconds to decode an image on its device.")]
DeviceQueueing = Annotated[
    bool, typer.Option("--device-queueing", help="A device works on one of its requests at a time.")
]
Patience = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which a request is given up; default: never, or the trace's.")
]
Prices = Annotated[str, typer.Option(help="Prices of the method trained: a shipped name or a file of `simulate tune`.")]
GoalText = Annotated[str | None, typer.Option(metavar="GOAL", help="What should hold, such as 'p95_latency_s < 20'.")]
Cost = Annotated[float | None, typer.Option(min=0, help="Cost of a GPU for an hour; prints the cost of an image.")]
Hindsight = Annotated[
    bool, typer.Option("--hindsight/--no-hindsight", help="Whether a comparison looks for the best in hindsight.")
]
Log = Annotated[bool, typer.Option("--log", help="Write the scheduler's calls into the folder, as calls.jsonl.")]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="Play the worlds here, or on a Ray cluster.")]

TunedArrivals = Annotated[
    list[str] | None,
    typer.Option(
        "--arrivals", metavar="PROCESS|FILE", help="As in `simulate`; repeat for more. Default: a mixture of loads."
    ),
]
TunedWorlds = Annotated[int, typer.Option("--worlds", min=1, max=1000, help="Number of training worlds of each kind.")]
Evaluations = Annotated[int, typer.Option(min=10, help="Number of prices to try, about.")]
PriceOutput = Annotated[Path, typer.Option("-o", "--output", help="File for the prices.")]

TraceFile = Annotated[Path, typer.Argument(help="The file, CSV or Parquet.")]
Source = Annotated[str, typer.Option("--from", help="Whose file it is: gentd26, or csv with columns that you name.")]
TimeColumn = Annotated[str | None, typer.Option("--time", help="Column of the times: seconds, or dates with times.")]
UserColumn = Annotated[str | None, typer.Option("--user", help="Column of the users.")]
ImagesColumn = Annotated[str | None, typer.Option("--images", help="Column of the images per request.")]
StepsColumn = Annotated[str | None, typer.Option("--steps", help="Column of the denoising steps.")]
TraceOutput = Annotated[Path, typer.Option("-o", "--output", help="The trace, .csv or .parquet.")]
TracePicture = Annotated[
    Path | None, typer.Option("-o", "--output", help="The picture; default: beside the file, .png.")
]
