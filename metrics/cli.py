"""`pai-sweep`: what an early or late hand-off does to personalisation."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console
from ..common.errors import InputError
from ..fitting.pai import GAIN, THRESHOLD

app = console.make_app(
    "Sweep the split point over prompts, seeds and users; measure CLIP, LPIPS and the Personalised Accuracy Index; fit "
    "a_F and b_F. Without --cluster or --cohort it runs on the shipped toy world. A run that was killed goes on."
)

Kappa = Annotated[float | None, typer.Option(help="Of eq. (1); default: 3, for toy models 1 / CLIP at n = N.")]
Gain = Annotated[float, typer.Option(help="Of eq. (1): gain of the sigmoid of LPIPS-bar.")]
Threshold = Annotated[float, typer.Option(help="Of eq. (1): LPIPS-bar at which the sigmoid is 1/2.")]
Personal = Annotated[float, typer.Option(help="LPIPS-bar that N-hat's 95 % interval must lie above.")]
TwoParameter = Annotated[bool, typer.Option("--two-parameter", help="Fit the paper's form only: no amplitude, floor.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the curve as JSON.")]


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    prompts: Annotated[
        Path | None, typer.Option(help="A prompt a line, with {subject}; default for toy models: the shipped ones.")
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="Folder that dreambooth wrote.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Cluster-wide model: folder or hub id.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="NAME=MODEL of a user; repeat for more.")] = None,
    subject: Annotated[str | None, typer.Option(help="Class word, at the edge; default: the models', or dog.")] = None,
    words: Annotated[
        list[str] | None, typer.Option(help="NAME=WORDS for the subject on the user's model, such as 'sks dog'.")
    ] = None,
    describe: Annotated[
        list[str] | None, typer.Option(help="NAME=TEXT: what the user's subject looks like, for CLIP.")
    ] = None,
    splits: Annotated[
        str | None, typer.Option(help="Local steps n: START:STOP:STEP or a list, N for all; default: 0:N:N/10.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="N; default: 50 for toy models, else 200.")] = None,
    seeds: Annotated[int, typer.Option(help="Initial noises per prompt.")] = 20,
    guidance: Annotated[float | None, typer.Option(help="Scale; default: 3 for toy models, else 7.5.")] = None,
    scheduler: Annotated[str, typer.Option(help="ddim, euler, euler-ancestral or ddpm.")] = "ddim",
    batch: Annotated[str, typer.Option(help="Most pictures in one pass; auto: what fits, up to 64.")] = "auto",
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if any.")] = "",
    clip: Annotated[
        str | None, typer.Option(help="open_clip model, NAME/PRETRAINED or folder; default: ViT-L-14/openai or toy's.")
    ] = None,
    lpips: Annotated[str | None, typer.Option(help="alex, vgg, squeeze or toyworld; default: alex or toy's.")] = None,
    long_prompts: Annotated[str, typer.Option(help="Texts too long for CLIP: refuse, or window (mean).")] = "refuse",
    kappa: Kappa = None,
    gain: Gain = GAIN,
    threshold: Threshold = THRESHOLD,
    personal: Personal = THRESHOLD,
    two_parameter: TwoParameter = False,
    engine: Annotated[str, typer.Option(help="local, or ray to use a Ray cluster (extra: ray).")] = "local",
    workers: Annotated[int, typer.Option(help="Of --engine ray; 0: as many as the cluster holds.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")] = Path("pai-sweep"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an old folder aside and begin anew.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure, fit and write the curve, the table, the pictures and Fig. 4."""
    if context.invoked_subcommand:
        _refuse_ignored(context)
        return
    from .options import Equation, SweepRequest
    from .pai_sweep_command import run_sweep

    run_sweep(
        SweepRequest(
            prompts=prompts,
            cohort=cohort,
            cluster=cluster,
            users=user or [],
            subject=subject,
            words=words or [],
            descriptions=describe or [],
            splits=splits,
            steps=steps,
            seeds=seeds,
            guidance=guidance,
            scheduler=scheduler,
            batch=batch,
            dtype=dtype,
            device=device,
            clip=clip,
            lpips=lpips,
            long_prompts=long_prompts,
            equation=Equation(kappa, gain, threshold, personal, two_parameter),
            engine=engine,
            workers=workers,
            output=output,
            fresh=fresh,
            as_json=as_json,
        )
    )


def _refuse_ignored(context: typer.Context) -> None:
    """Options that stand before a command and belong to the sweep would be dropped."""
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"{option.opts[0]}: found before {context.invoked_subcommand}, accepted: after it")


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="measurements.parquet of a sweep, or a CSV with its columns.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The curve's file.")] = Path("pai_curve.json"),
    steps: Annotated[int | None, typer.Option(help="N; default: the table's own, or its largest n.")] = None,
    kappa: Kappa = None,
    gain: Gain = GAIN,
    threshold: Threshold = THRESHOLD,
    personal: Personal = THRESHOLD,
    two_parameter: TwoParameter = False,
    as_json: AsJson = False,
) -> None:
    """Fit the curve again from a table of measurements, without pictures."""
    from .options import Equation
    from .pai_sweep_command import run_fit

    run_fit(table, output, steps, Equation(kappa, gain, threshold, personal, two_parameter), as_json)


def main() -> None:
    """The `pai-sweep` command."""
    console.run(app, "pai-sweep")
