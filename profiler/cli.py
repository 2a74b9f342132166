"""`hwprof`: measure a GPU's step latency against batch size, and fit k and h."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .. import data
from ..common import console
from .workload import Dtype, Quantized

app = console.make_app(
    "Measure one denoising step at growing batch sizes, fit L(b) = k b + h with intervals, and write the latency "
    "profile that `plan` reads. `hwprof bench --gpu 0` does the whole job; --device cpu --model tiny needs no GPU."
)


class Device(StrEnum):
    """The kind of device to measure."""

    CUDA = "cuda"
    MPS = "mps"
    XPU = "xpu"
    CPU = "cpu"

    def numbered(self, number: int) -> str:
        """The device of this kind with a number, as torch names it; there is one processor and one Apple GPU."""
        return f"{self}:{number}" if self in (Device.CUDA, Device.XPU) else str(self)


Gpu = Annotated[int, typer.Option(min=0, help="Number of the NVIDIA or Intel GPU.")]
DeviceKind = Annotated[
    Device, typer.Option(help="What to measure: an NVIDIA, Apple or Intel GPU, or this machine's processor.")
]
ModelName = Annotated[str, typer.Option(help=f"{', '.join(data.shipped('networks'))}, or a diffusers folder.")]
Batches = Annotated[str, typer.Option(help="Batch sizes: 1:16, 1:16:3, 1,2,4 or a mix.")]
Sides = Annotated[str | None, typer.Option(help="Pixels: a square's side, or WIDTHxHEIGHT; default: the model's own.")]
NumberFormat = Annotated[Dtype | None, typer.Option(help="Number format; default: fp16, on a CPU fp32.")]
Quantize = Annotated[
    Quantized | None, typer.Option(help="Quantise the weights of linear layers by torchao; fp8 the activations, too.")
]
Guidance = Annotated[
    bool, typer.Option("--guidance/--no-guidance", help="Whether the network sees b images as 2 b samples.")
]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Keep channels last in memory.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")]
CudaGraph = Annotated[bool, typer.Option("--cuda-graph", help="Capture a step as a CUDA graph and replay it.")]
Precision = Annotated[
    float | None,
    typer.Option(
        help="Relative half-width wanted of the medians' 95 % intervals; default: 0.01, for tiny on a CPU 0.02."
    ),
]
MaxSeconds = Annotated[
    float | None, typer.Option(help="Sampling time for all batch sizes together; default: 120, for tiny on a CPU 40.")
]
ProfileName = Annotated[str | None, typer.Option(help="The profile's name; default: derived from the device.")]
ProfileFile = Annotated[
    Path | None, typer.Option("-o", "--output", help="The profile's file; default: one of your own profiles.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Print a profile that is finished, and measure nothing anew.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin anew, also where a run was interrupted.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the profile as JSON.")]
AllAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
SamplesFile = Annotated[
    Path, typer.Argument(help="CSV or Parquet with columns batch and duration_s, one row per step.")
]
PictureFile = Annotated[Path, typer.Option("-o", "--output", help="The picture, written as .png and as .svg.")]


BENCH = """Measure, fit, and write a profile and its picture.

After an interruption the same command goes on."""
FIT = "Fit measurements from elsewhere."
LIST = "List shipped and own profiles."
SHOW = "Show one profile: fit, points, provenance."
COMPARE = "Compare profiles: a table, and a picture like the paper's figure 3."
"""The help of the subcommands, which docstrings are not where Python leaves these out."""


@app.command(help=BENCH)
def bench(
    gpu: Gpu = 0,
    device: DeviceKind = Device.CUDA,
    model: ModelName = "sd15",
    batches: Batches = "1:16",
    resolution: Sides = None,
    dtype: NumberFormat = None,
    quantize: Quantize = None,
    guidance: Guidance = True,
    channels_last: ChannelsLast = False,
    compile_: Compile = False,
    cuda_graph: CudaGraph = False,
    precision: Precision = None,
    max_seconds: MaxSeconds = None,
    name: ProfileName = None,
    output: ProfileFile = None,
    resume: Resume = False,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Measure, fit, and write a profile and its picture."""
    from .hwprof_command import run_bench
    from .options import BenchRequest

    request = BenchRequest(
        device=device.numbered(gpu), model=model, batches=batches, resolution=resolution, dtype=dtype,
        quantize=quantize, guidance=guidance, channels_last=channels_last, compile=compile_, cuda_graph=cuda_graph,
        precision=precision, max_seconds=max_seconds, name=name, output=output, resume=resume, fresh=fresh,
        as_json=as_json,
    )  # fmt: skip
    run_bench(request)


@app.command(help=FIT)
def fit(
    samples: SamplesFile,
    name: Annotated[str | None, typer.Option(help="The profile's name; default: the file's.")] = None,
    device: Annotated[str, typer.Option(help="Name of the device that was measured.")] = "unknown",
    model: Annotated[str, typer.Option(help="Name of the network.")] = "sd15",
    resolution: Annotated[str, typer.Option(help="Pixels: a square's side, or WIDTHxHEIGHT.")] = "512",
    dtype: Annotated[Dtype, typer.Option(help="Number format.")] = "fp16",
    guidance: Guidance = True,
    output: ProfileFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit measurements from elsewhere."""
    from .hwprof_command import run_fit
    from .options import FitRequest

    request = FitRequest(
        samples=samples, name=name, device=device, model=model, resolution=resolution, dtype=dtype, guidance=guidance,
        output=output, as_json=as_json,
    )  # fmt: skip
    run_fit(request)


@app.command("list", help=LIST)
def list_(as_json: AllAsJson = False) -> None:
    """List shipped and own profiles."""
    from .hwprof_command import list_profiles

    list_profiles(as_json)


@app.command(help=SHOW)
def show(
    profile: Annotated[str, typer.Argument(help="A profile's name or file.")],
    as_json: AsJson = False,
) -> None:
    """Show one profile: fit, points, provenance."""
    from .hwprof_command import show_profile

    show_profile(profile, as_json)


@app.command(help=COMPARE)
def compare(
    profiles: Annotated[list[str], typer.Argument(help="Two or more names or files.")],
    output: PictureFile = Path("compare.png"),
    as_json: AllAsJson = False,
) -> None:
    """Compare profiles: a table, and a picture like the paper's figure 3."""
    from .hwprof_command import compare_profiles

    compare_profiles(profiles, output, as_json)


def main() -> None:
    """Run `hwprof`."""
    console.run(app, "hwprof")
