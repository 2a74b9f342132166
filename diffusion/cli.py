"""`dreambooth`: make the models of a cohort. `hybrid`: run them, edge part and device part."""

from pathlib import Path
from typing import Annotated

import typer

from ..common import console
from ..common.errors import InputError

dreambooth_app = console.make_app(
    "Fine-tune the cluster-wide model and every user's personal model of a cohort (DreamBooth), with a quality gate "
    "after each. A run that was killed goes on; finished models are kept."
)
hybrid_app = console.make_app(
    "Generate pictures by hybrid inference: the first N - n steps on the cluster-wide model, for all users in one "
    "pass, the last n on each user's own. Without --cluster it runs on the shipped toy world."
)


@dreambooth_app.command()
def dreambooth(
    cohort: Annotated[Path | None, typer.Argument(help="The cohort's TOML file.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder; default: named after the file.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if any.")] = "",
    example: Annotated[
        Path | None, typer.Option(help="Write rendered photos and a cohort file into this folder, and stop.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the gates as JSON.")] = False,
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
    prompt: Annotated[
        list[str] | None, typer.Option(help="Template with {subject}; repeat for more. [default: one of the toy world]")
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="Folder that dreambooth wrote.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Cluster-wide model: folder or hub id.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="NAME=MODEL of a user; repeat for more.")] = None,
    local_steps: Annotated[
        str | None,
        typer.Option(
            help="Split points n, for every user: START:STOP:STEP or a list such as 0,30,50; 0 is all at the edge. Or "
            "each user's own: NAME=n,NAME=n."
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Each user's own n from a CSV that plan wrote, users matched by name.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="N, steps in all; default: the plan's, 50 for the toy world, else 200.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale; default: 3 for the toy world, else 7.5.")
    ] = None,
    scheduler: Annotated[str, typer.Option(help="ddim, euler, euler-ancestral or ddpm.")] = "ddim",
    seed: Annotated[int, typer.Option(help="Of the initial noise; with own splits the next user's is one more.")] = 0,
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1; default: the first GPU, if any.")] = "",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")] = Path("hybrid"),
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Generate every prompt for every user, at every split or at the user's own."""
    from .hybrid_command import HybridRequest, run_hybrid

    run_hybrid(
        HybridRequest(
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
            as_json=as_json,
        )
    )


def dreambooth_main() -> None:
    """Run `dreambooth`."""
    console.run(dreambooth_app, "dreambooth")


def hybrid_main() -> None:
    """Run `hybrid`."""
    console.run(hybrid_app, "hybrid")
