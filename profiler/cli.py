"""`hwprof`: measure a GPU's step latency against batch size, and fit k and h."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..common import console

app = console.make_app(
    "Measure one denoising step at growing batch sizes, fit L(b) = k b + h with intervals, and write the latency "
    "profile that `plan` reads. `hwprof bench --gpu 0` does the whole job; --device cpu --model tiny needs no GPU."
)


Dtype = Literal["fp16", "bf16", "fp32"]


class Device(StrEnum):
    """Where to measure."""

    CUDA = "cuda"
    CPU = "cpu"


@app.command()
def bench(
    gpu: Annotated[int, typer.Option(min=0, help="Number of the NVIDIA GPU.")] = 0,
    device: Annotated[Device, typer.Option(help="cpu measures this machine's processor.")] = Device.CUDA,
    model: Annotated[
        str, typer.Option(help="sd15, sd21, sdxl, bk-sdm-small, tiny, or a diffusers UNet folder.")
    ] = "sd15",
    batches: Annotated[str, typer.Option(help="Sizes: 1:16, 1:16:3, 1,2,4 or a mix.")] = "1:16",
    resolution: Annotated[int | None, typer.Option(help="Pixels of a side; default: the model's own.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Number format; default fp16, on a CPU fp32.")] = None,
    guidance: Annotated[bool, typer.Option("--guidance/--no-guidance", help="The UNet sees 2 b.")] = True,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Memory format.")] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="Through torch.compile.")] = False,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="Replay a captured step.")] = False,
    precision: Annotated[
        float | None, typer.Option(help="Wanted half-width of the medians' 95 % intervals; default 0.01, tiny 0.02.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Sampling time in all, shared over the batches; default 120, tiny 40.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The profile's name; default: after the device.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Profile file; default: your own.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after a kill.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile.")] = False,
) -> None:
    """Measure, fit, and write a profile and its picture."""
    from .hwprof_command import BenchRequest, run_bench

    run_bench(
        BenchRequest(
            device="cpu" if device is Device.CPU else f"cuda:{gpu}",
            model=model,
            batches=batches,
            resolution=resolution,
            dtype=dtype,
            guidance=guidance,
            channels_last=channels_last,
            compile=compile_,
            cuda_graph=cuda_graph,
            precision=precision,
            max_seconds=max_seconds,
            name=name,
            output=output,
            resume=resume,
            as_json=as_json,
        )
    )


@app.command()
def fit(
    samples: Annotated[Path, typer.Argument(help="CSV with columns batch and duration_s, one row per step.")],
    name: Annotated[str | None, typer.Option(help="The profile's name; default: the file's.")] = None,
    device: Annotated[str, typer.Option(help="What was measured.")] = "unknown",
    model: Annotated[str, typer.Option(help="The UNet.")] = "sd15",
    resolution: Annotated[int, typer.Option(min=1, help="Pixels of a side.")] = 512,
    dtype: Annotated[Dtype, typer.Option(help="Number format.")] = "fp16",
    guidance: Annotated[bool, typer.Option("--guidance/--no-guidance", help="The UNet saw 2 b.")] = True,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Profile file; default: your own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile.")] = False,
) -> None:
    """Fit measurements from elsewhere."""
    from .hwprof_command import FitRequest, run_fit

    run_fit(FitRequest(samples, name, device, model, resolution, dtype, guidance, output, as_json))


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """List shipped and own profiles."""
    from .hwprof_command import list_profiles

    list_profiles(as_json)


@app.command()
def show(
    profile: Annotated[str, typer.Argument(help="A profile's name or file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile.")] = False,
) -> None:
    """Show one profile: fit, points, provenance."""
    from .hwprof_command import show_profile

    show_profile(profile, as_json)


@app.command()
def compare(
    profiles: Annotated[list[str], typer.Argument(help="Two or more names or files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture, written as .png and .svg.")] = Path(
        "compare.png"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare profiles: a table, and a picture like the paper's figure 3."""
    from .hwprof_command import compare_profiles

    compare_profiles(profiles, output, as_json)


def main() -> None:
    """The `hwprof` command."""
    console.run(app, "hwprof")
