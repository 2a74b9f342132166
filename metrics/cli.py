"""`pai-sweep`: what an early or late hand-off does to personalisation."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console
from ..common.errors import InputError
from ..fitting.pai import GAIN, THRESHOLD


class SweepGroup(console.CommandGroup):
    """`pai-sweep` and its subcommand."""

    FILE_OPTION = "--prompts"


app = console.make_app(
    "Sweep the split point over prompts, seeds and users; measure CLIP, LPIPS and the Personalised Accuracy Index; fit "
    "a_F and b_F. Without --cluster or --cohort it runs on the shipped toy world. After an interruption the same "
    "command goes on.",
    SweepGroup,
)

Prompts = Annotated[
    Path | None,
    typer.Option(help="File with a prompt a line, with {subject} in it; default for toy models: the shipped file."),
]
Cohort = Annotated[Path | None, typer.Option(help="Folder that dreambooth wrote, with all the models.")]
ClusterModel = Annotated[str | None, typer.Option(help="Cluster-wide model: folder, checkpoint or hub id.")]
Users = Annotated[list[str] | None, typer.Option(help="NAME=MODEL of a user; repeat for more users.")]
Subject = Annotated[
    str | None, typer.Option(help="Word for the subject at the edge; default: the one stored with the model, or dog.")
]
Words = Annotated[
    list[str] | None, typer.Option(help="NAME=WORDS for the subject on the user's model, such as 'sks dog'.")
]
Descriptions = Annotated[
    list[str] | None, typer.Option(help="NAME=TEXT: what the user's subject looks like, for CLIP.")
]
Splits = Annotated[
    str | None, typer.Option(help="Local steps n: START:STOP:STEP or a list, with N for all; default: 0:N:N/10.")
]
Steps = Annotated[int | None, typer.Option(help="N; default: 50 for toy models, else 200.")]
Seeds = Annotated[int, typer.Option(help="Number of initial noises per prompt.")]
Guidance = Annotated[
    float | None,
    typer.Option(help="Scale of classifier-free guidance; default: 3 for toy models, else the models' usual."),
]
SCHEDULERS = "ddim, euler, euler-ancestral or ddpm; flow-euler for flow matching. [default: that of the models]"
Scheduler = Annotated[str | None, typer.Option(help=SCHEDULERS)]
BatchSize = Annotated[str, typer.Option(help="Most pictures in one pass; auto: what fits, up to 64.")]
NumberFormat = Annotated[str, typer.Option(help="Number format of the models: fp32, fp16 or bf16.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if any.")]
ClipModel = Annotated[
    str | None,
    typer.Option(help="open_clip model: NAME/PRETRAINED or a folder; default: ViT-L-14/openai, for toy models theirs."),
]
Backbone = Annotated[
    str | None,
    typer.Option(help="Backbone of LPIPS: alex, vgg, squeeze or toyworld; default: alex, or the toy models'."),
]
LongPrompts = Annotated[
    str, typer.Option(help="Texts too long for CLIP: refuse them, or window to average over their parts.")
]
Kappa = Annotated[float | None, typer.Option(help="kappa of eq. (1); default: 3, for toy models 1 / CLIP at n = N.")]
Gain = Annotated[float, typer.Option(help="Gain of the sigmoid of LPIPS-bar in eq. (1).")]
Threshold = Annotated[float, typer.Option(help="LPIPS-bar at which the sigmoid in eq. (1) is 1/2.")]
Personal = Annotated[float, typer.Option(help="LPIPS-bar that N-hat's 95 % interval must lie above.")]
TwoParameter = Annotated[
    bool, typer.Option("--two-parameter", help="Fit the paper's form only, without amplitude and offset.")
]
EngineName = Annotated[str, typer.Option(help="local, or ray to use a Ray cluster (extra: ray).")]
Workers = Annotated[int, typer.Option(help="Workers of --engine ray; 0: as many as the Ray cluster holds.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Move an old folder aside and begin anew.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the curve as JSON.")]
Table = Annotated[Path, typer.Argument(help="Folder of a sweep, its measurements.parquet, or a CSV with its columns.")]
CurveFile = Annotated[Path, typer.Option("-o", "--output", help="The curve's file.")]
TableSteps = Annotated[int | None, typer.Option(help="N; default: the table's own, or its largest n.")]


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    prompts: Prompts = None,
    cohort: Cohort = None,
    cluster: ClusterModel = None,
    user: Users = None,
    subject: Subject = None,
    words: Words = None,
    describe: Descriptions = None,
    splits: Splits = None,
    steps: Steps = None, seeds: Seeds = 20,
    guidance: Guidance = None, scheduler: Scheduler = None,
    batch: BatchSize = "auto", dtype: NumberFormat = "fp32", device: Device = "",
    clip: ClipModel = None, lpips: Backbone = None, long_prompts: LongPrompts = "refuse",
    kappa: Kappa = None, gain: Gain = GAIN, threshold: Threshold = THRESHOLD,
    personal: Personal = THRESHOLD, two_parameter: TwoParameter = False,
    engine: EngineName = "local", workers: Workers = 0,
    output: Folder = Path("pai-sweep"), fresh: Fresh = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Measure, fit and write the curve, the table, the pictures and Fig. 4."""
    if context.invoked_subcommand:
        _refuse_ignored(context)
        return
    from .options import CurveOptions, SweepRequest
    from .pai_sweep_command import run_sweep

    curve = CurveOptions(kappa=kappa, gain=gain, threshold=threshold, personal=personal, two_parameter=two_parameter)
    request = SweepRequest(
        prompts=prompts, cohort=cohort, cluster=cluster, users=user or [], subject=subject, words=words or [],
        descriptions=describe or [], splits=splits, steps=steps, seeds=seeds, guidance=guidance, scheduler=scheduler,
        batch=batch, dtype=dtype, device=device, clip=clip, lpips=lpips, long_prompts=long_prompts, curve=curve,
        engine=engine, workers=workers, output=output, fresh=fresh, as_json=as_json,
    )  # fmt: skip
    run_sweep(request)


def _refuse_ignored(context: typer.Context) -> None:
    """Refuse options of the sweep that stand before a subcommand, as nothing would come of them."""
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"{option.opts[0]}: found before {context.invoked_subcommand}, accepted: after it")


FIT = "Fit the curve again from a table of measurements, without pictures."
"""The help of the subcommand, which a docstring is not where Python leaves these out."""


@app.command(help=FIT)
def fit(
    table: Table,
    output: CurveFile = Path("pai_curve.json"),
    steps: TableSteps = None,
    kappa: Kappa = None,
    gain: Gain = GAIN,
    threshold: Threshold = THRESHOLD,
    personal: Personal = THRESHOLD,
    two_parameter: TwoParameter = False,
    as_json: AsJson = False,
) -> None:
    """Fit the curve again from a table of measurements, without pictures."""
    from .options import CurveOptions
    from .pai_sweep_command import run_fit

    curve = CurveOptions(kappa=kappa, gain=gain, threshold=threshold, personal=personal, two_parameter=two_parameter)
    run_fit(table, output, steps, curve, as_json)


def main() -> None:
    """Run `pai-sweep`."""
    console.run(app, "pai-sweep")
