"""`dreambooth`: make the models of a cohort. `hybrid`: run them, the edge's part and the devices' part."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console
from ..common.errors import InputError

dreambooth_app = console.make_app(
    "Fine-tune the cluster-wide model and every user's personal model of a cohort (DreamBooth), and judge each at a "
    "quality gate. A run that was killed goes on where it was; finished models are kept."
)
hybrid_app = console.make_app(
    "Generate pictures by hybrid inference: the first N - n steps on the cluster-wide model, for all users in one "
    "pass, the last n on each user's own model. Without --cohort or --cluster it runs on the shipped toy world."
)

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if there is one.")]

CohortToml = Annotated[Path | None, typer.Argument(help="The cohort's TOML file.")]
ModelsFolder = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the models; default: named after the file.")
]
Example = Annotated[
    Path | None, typer.Option(help="Folder to write rendered photos and a cohort file into, instead of training.")
]
GatesAsJson = Annotated[bool, typer.Option("--json", help="Print the gates as JSON.")]

Prompts = Annotated[
    list[str] | None,
    typer.Option(
        help="Template with {subject} or the subject's words; repeat for more. [default: one about the toy world]"
    ),
]
CohortFolder = Annotated[Path | None, typer.Option(help="Folder that dreambooth wrote.")]
Cluster = Annotated[str | None, typer.Option(help="Cluster-wide model: folder, checkpoint or hub id.")]
Users = Annotated[list[str] | None, typer.Option(help="NAME=MODEL of a user; repeat for more.")]
LocalSteps = Annotated[
    str | None,
    typer.Option(
        help="Split points n for every user: START:STOP:STEP or a list such as 0,30,50; 0 runs all steps at the edge. "
        "Or a split of each user's own: NAME=n,NAME=n."
    ),
]
PlanFile = Annotated[
    Path | None, typer.Option(help="Table that plan wrote, with each user's own n; users are matched by name.")
]
Steps = Annotated[
    int | None, typer.Option(help="N, number of steps in all; default: the plan's, 50 for the toy world, else 200.")
]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance scale; default: 3 for the toy world, else the models' usual.")
]
SCHEDULERS = "ddim, euler, euler-ancestral or ddpm; flow-euler for flow matching. [default: that of the models]"
Scheduler = Annotated[str | None, typer.Option(help=SCHEDULERS)]
Seed = Annotated[
    int, typer.Option(help="Seed of the initial noise; with own splits every further user has the next seed.")
]
Dtype = Annotated[str, typer.Option(help="Number format of the models: fp32, fp16 or bf16.")]
PicturesFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")]
ReportAsJson = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]


@dreambooth_app.command()
def dreambooth(
    cohort: CohortToml = None,
    output: ModelsFolder = None,
    device: Device = "",
    example: Example = None,
    as_json: GatesAsJson = False,
) -> None:
    """Train the models of COHORT."""
    from .dreambooth_command import run_dreambooth, write_example

    if example:
        write_example(example)
    elif cohort:
        run_dreambooth(cohort, output, device, as_json)
    else:
        raise InputError("COHORT: missing; `dreambooth --example FOLDER` writes one to start from")


@hybrid_app.command()
def hybrid(
    prompt: Prompts = None,
    cohort: CohortFolder = None,
    cluster: Cluster = None,
    user: Users = None,
    local_steps: LocalSteps = None,
    plan: PlanFile = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    seed: Seed = 0,
    dtype: Dtype = "fp32",
    device: Device = "",
    output: PicturesFolder = Path("hybrid"),
    as_json: ReportAsJson = False,
) -> None:
    """Generate every prompt for every user, at every split or at the user's own."""
    from .hybrid_command import HybridRequest, run_hybrid

    request = HybridRequest(
        prompts=prompt or [],
        cohort=cohort,
        cluster=cluster,
        users=user or [],
        local_steps=local_steps,
        plan=plan,
        total_steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        seed=seed,
        dtype=dtype,
        device=device,
        output=output,
    )
    run_hybrid(request, as_json)


def dreambooth_main() -> None:
    """Run `dreambooth`."""
    console.run(dreambooth_app, "dreambooth")


def hybrid_main() -> None:
    """Run `hybrid`."""
    console.run(hybrid_app, "hybrid")
