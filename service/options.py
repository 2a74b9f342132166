"""The command-line options of `simulate`, `trace`, `serve`, `load` and `device`."""

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
        help="How rounds are decided: blind, aware, aware-delay, price, trained, learned, or a method of `plan`. With "
        "+revise behind aware, price or trained, images in flight get new splits every round; learned does that too.",
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
DecodeSeconds = Annotated[
    float | None,
    typer.Option(min=0, max=1e6, help="Seconds to decode an image on its device; default: as the users' profiles say."),
]
DeviceQueueing = Annotated[
    bool, typer.Option("--device-queueing", help="A device works on one of its requests at a time.")
]
Patience = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which a request is given up; default: never, or the trace's.")
]
Prices = Annotated[
    str | None,
    typer.Option(
        help="Prices of trained: a shipped name or a file of `simulate tune`; default: mixed, with +revise revised."
    ),
]
LearnedPolicy = Annotated[
    str, typer.Option("--policy", metavar="POLICY", help="Policy of the method learned: a shipped name or a file.")
]
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
TunedRevise = Annotated[
    bool, typer.Option("--revise", help="Tune for trained+revise: images in flight get new splits every round.")
]
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

Cluster = Annotated[
    str | None, typer.Option(help="Cluster-wide model: folder, checkpoint or hub id; default: that of the toy world.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if there is one.")]
Dtype = Annotated[str, typer.Option(help="Number format of the model: fp32, fp16 or bf16.")]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance scale; default: 3 for the toy world, else the models' usual.")
]
SCHEDULERS = "ddim, euler, euler-ancestral or ddpm; flow-euler for flow matching. [default: that of the model]"
Sampler = Annotated[str | None, typer.Option("--scheduler", help=SCHEDULERS)]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")]
ServeEngine = Annotated[
    Literal["process", "ray", "emulated"],
    typer.Option(
        "--engine",
        help="The model in a process of its own, on every GPU of a Ray cluster (--gpus of them), or only a clock that "
        "takes the time of its steps.",
    ),
]
EmulateRadio = Annotated[
    bool, typer.Option("--emulate-radio", help="Pace hand-offs as on the scenario's shared radio, for experiments.")
]
FrozenProfile = Annotated[
    bool, typer.Option("--frozen-profile", help="Do not correct step latency and bandwidth by what is measured.")
]
TokenFile = Annotated[Path | None, typer.Option(help="File of bearer tokens, one a line, with an expiry if you like.")]
TlsCert = Annotated[Path | None, typer.Option(help="Certificate for HTTPS, PEM.")]
TlsKey = Annotated[Path | None, typer.Option(help="Its private key, PEM.")]
MostWaiting = Annotated[int, typer.Option(min=1, max=1_000_000, help="Requests that may wait for a round's end.")]
CallsPerSecond = Annotated[
    float,
    typer.Option("--calls-per-s", min=0, max=1e6, help="Calls a second of one token or address; 0 for no bound."),
]
BodySeconds = Annotated[
    float, typer.Option("--body-s", min=0.1, max=3600, help="Seconds for a request's body to come.")
]
Expiry = Annotated[float, typer.Option(min=1, max=86_400, help="Seconds until an unfetched hand-off is forgotten.")]
Grace = Annotated[float, typer.Option(min=0, max=3600, help="Seconds for images in flight when the server stops.")]
CallLog = Annotated[Path | None, typer.Option("--log", help="File for the scheduler's calls, a line of JSON each.")]
Server = Annotated[str, typer.Option(help="Address of the edge server.")]
Duration = Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds of arrivals.")]
LoadPrompt = Annotated[str, typer.Option("--prompt", help="Template with {subject} that every request has.")]
TokenText = Annotated[
    str | None, typer.Option("--token", envvar="EDGESPLIT_TOKEN", help="Bearer token, where the server wants one.")
]
Wait = Annotated[float, typer.Option("--wait", min=0, max=3600, help="Seconds to wait until the server answers.")]
LoadOutput = Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the report and the requests.")]

OwnUser = Annotated[str | None, typer.Option("--user", help="User of the toy world: anna, ben or cleo.")]
OwnModelFolder = Annotated[
    str | None, typer.Option("--model", help="Personal model of your own: folder, also a LoRA's, checkpoint or hub id.")
]
OwnPrompt = Annotated[
    str | None, typer.Option("--prompt", help="Template with {subject}, or a prompt with the subject's words.")
]
PictureFile = Annotated[Path, typer.Option("-o", "--output", help="The picture, .png.")]
NoiseSeed = Annotated[int, typer.Option("--seed", help="Seed of the initial noise.")]
OwnStepLatency = Annotated[
    float | None,
    typer.Option(
        "--step-latency-s", min=1e-9, max=1e9, help="L_i, seconds of a step on this device; default: measured."
    ),
]
OwnProfile = Annotated[str | None, typer.Option("--profile", help="Latency profile, name or file, to take L_i of.")]
Measure = Annotated[bool, typer.Option("--measure", help="Measure L_i anew, though a measurement is kept.")]
OwnAlpha = Annotated[
    float | None, typer.Option("--alpha", min=0, max=1e9, help="Seconds of latency that a PAI of 1 is worth to you.")
]
OwnEmphasis = Annotated[
    float | None,
    typer.Option(
        "--emphasis", min=0, max=1, help="From fast (0) to one's own (1), in place of --alpha; default: 0.25."
    ),
]
OwnSteps = Annotated[
    int | None, typer.Option("--steps", help="N, number of steps in all; default: 50 for the toy world, else 200.")
]
Listen = Annotated[
    int | None,
    typer.Option(min=1, max=65_535, help="Be a gateway on this port of this machine: /v1/images/generations."),
]
