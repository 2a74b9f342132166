"""What the options of `hwprof` mean: the step to time, when to stop, and where the profile goes."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import InputError, shown
from ..common.figures import FORMATS
from ..common.files import resolved
from ..common.ranges import parse_ranges
from ..fitting.library import own_folder
from ..fitting.resolution import MOST_PIXELS, Resolution, resolution_of
from .configs import family_of, most_pixels, pixel_step, read_config
from .quantize import check_quantize
from .samples import MOST_BATCH
from .timing import TimingSettings
from .workload import Dtype, Quantized, Workload

DIGITS = re.compile(r"[0-9]{1,7}")
INVALID = re.compile("[\ud800-\udfff]")
"""What stands for bytes of the command line that are no text."""
MOST_SIDE = 4096
"""Most pixels of a side of the pictures that are timed."""


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """The options of `hwprof bench`, which its help explains.

    Raises:
        InputError: for options that contradict each other.
    """

    device: str
    model: str
    batches: str
    resolution: str | None
    dtype: Dtype | None
    quantize: Quantized | None
    guidance: bool
    channels_last: bool
    compile: bool
    cuda_graph: bool
    precision: float | None
    max_seconds: float | None
    name: str | None
    output: Path | None
    resume: bool
    fresh: bool
    as_json: bool

    def __post_init__(self) -> None:
        if self.resume and self.fresh:
            raise InputError("--fresh: found --resume as well, accepted: one of the two")


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """The options of `hwprof fit`, which its help explains.

    Raises:
        InputError: for an empty device or model, and for what is no resolution.
    """

    samples: Path
    name: str | None
    device: str
    model: str
    resolution: str
    dtype: Dtype
    guidance: bool
    output: Path | None
    as_json: bool

    def __post_init__(self) -> None:
        for option, value in (("--device", self.device), ("--model", self.model)):
            _check_name(option, value)
        parsed_resolution(self.resolution, MOST_PIXELS)


def _check_name(option: str, value: str) -> None:
    """Refuse a name that no profile can hold.

    Raises:
        InputError: naming the option.
    """
    if not value or INVALID.search(value):
        raise InputError(f"{option}: found {shown(value)}, accepted: a name in UTF-8")


def workload_of(request: BenchRequest) -> Workload:
    """The step that the options describe.

    Raises:
        InputError: for an unknown model, a resolution out of range, or a package that is missing.
    """
    check_quantize(request.quantize)
    config = read_config(request.model)
    _check_name("--model", request.model)
    step, most = pixel_step(request.model, config), min(MOST_SIDE, most_pixels(request.model, config))
    resolution = None if request.resolution is None else parsed_resolution(request.resolution, most, step)
    return Workload(
        model=request.model,
        device=request.device,
        resolution=resolution,
        dtype=request.dtype or ("fp32" if request.device == "cpu" else "fp16"),
        quantize=request.quantize,
        guidance=request.guidance and family_of(config).DOUBLES,
        channels_last=request.channels_last,
        compile=request.compile,
        cuda_graph=request.cuda_graph,
    )


def parsed_resolution(text: str, most: int, step: int = 1) -> Resolution:
    """The resolution that `--resolution` names: pixels of a square's side, or width and height as "1024x768".

    Args:
        text: value of the option.
        most: most pixels of a side.
        step: number of which the sides are multiples.

    Raises:
        InputError: for anything else.
    """
    sides = [int(side) if DIGITS.fullmatch(side) else 0 for side in text.split("x")]
    if len(sides) > 2 or not all(0 < side <= most and side % step == 0 for side in sides):
        multiple = f"multiples of {step}" if step > 1 else "pixels"
        raise InputError(
            f"--resolution: found {shown(text)}, accepted: {multiple} up to {most}, as one number or as WIDTHxHEIGHT"
        )
    return resolution_of(sides[0], sides[-1])


def timing_of(request: BenchRequest) -> TimingSettings:
    """When sampling stops; the tiny model on a CPU is for trying things out, and stops sooner.

    Raises:
        InputError: for a precision or a time out of range.
    """
    trial = request.device == "cpu" and request.model == "tiny"
    precision = request.precision if request.precision is not None else (0.02 if trial else 0.01)
    max_seconds = request.max_seconds if request.max_seconds is not None else (40.0 if trial else 120.0)
    for option, value, most in (("--precision", precision, 1.0), ("--max-seconds", max_seconds, 1e6)):
        if not 0 < value <= most:
            raise InputError(f"{option}: found {value}, accepted: a number above 0, up to {most:g}")
    return TimingSettings(precision=precision, max_seconds=max_seconds)


def batches_of(request: BenchRequest) -> list[int]:
    """The batch sizes to time, ascending.

    Raises:
        InputError: for fewer than two, or sizes out of range.
    """
    return parse_ranges("--batches", request.batches, 1, MOST_BATCH, fewest=2)


def check_output(output: Path | None) -> None:
    """Refuse a profile's file whose name does not end in .json.

    Raises:
        InputError: naming the suffix.
    """
    if output is not None and output.suffix != ".json":
        raise InputError(f"{output}: found suffix '{output.suffix}', accepted: .json")


def profile_path(output: Path | None, name: str) -> Path:
    """The file of a profile: `output`, or one of its name among the user's own."""
    return output or own_folder("profiles") / f"{name}.json"


def check_writable(file: Path) -> None:
    """Refuse a file, or a picture beside it, that cannot be a regular file, before anything is measured or drawn.

    Raises:
        InputError: naming the file.
    """
    for path in (file, *(file.with_suffix(f".{kind}") for kind in FORMATS)):
        resolved(path)
        if os.path.exists(path) and not os.path.isfile(path):
            raise InputError(f"{path}: cannot write: it is not a regular file; choose another place with -o")
