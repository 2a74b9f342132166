"""What `device` does: one picture of a user's own with the help of an edge, or a gateway that makes many."""

import asyncio
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import data
from ..common.console import say
from ..common.errors import InputError, nearest, require
from ..common.files import make_folder
from ..common.progress import progress_bar
from ..common.tables import plain_table, print_table
from ..diffusion.inference.references import (
    MODULES,
    check_device,
    check_format,
    check_models,
    cohort_models,
    pick_device,
    subjects,
    usual_guidance,
    usual_scheduler,
)
from ..diffusion.inference.sampling import Sampling, check_seed
from ..diffusion.inference.templates import check_template, with_subject
from ..fitting.library import load_profile
from .client import EdgeClient
from .device import DeviceResult

if TYPE_CHECKING:
    from .own_pictures import OwnPicture, PersonalDevice
    from .personal import PersonalModel

HOST = "127.0.0.1"
"""Where the gateway listens: it is for programs of this machine."""
PARTS = ("wait_s", "edge_s", "transmit_s", "local_s", "latency_s")


@dataclass(frozen=True, kw_only=True)
class DeviceRequest:
    """The options of one `device`; see its help."""

    server: str
    user: str | None
    model: str | None
    prompt: str | None
    output: Path
    seed: int
    step_latency_s: float | None
    profile: str | None
    measure: bool
    alpha: float | None
    emphasis: float | None
    steps: int | None
    guidance: float | None
    scheduler: str | None
    dtype: str
    device: str
    token: str | None
    listen: int | None
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class OwnModel:
    """The model that the options name, not loaded yet.

    Attributes:
        reference: its folder or hub id.
        sampling: how its pictures are made.
        words: what may stand for the subject in a prompt.
        step_latency_s: L_i(1) where the options say it; None to measure it.
        decode_s: seconds in which a profile says that a picture is decoded; None where none says.
    """

    reference: str
    sampling: Sampling
    words: tuple[str, ...]
    step_latency_s: float | None
    decode_s: float | None = None


def run_own_device(request: DeviceRequest) -> None:
    """Make a picture, or listen for programs that want some.

    Raises:
        InputError: one line.
    """
    require("models", *MODULES)
    require("serve", "httpx", *(("fastapi", "uvicorn") if request.listen else ()))
    chosen = _chosen(request)  # needs no torch, so that wrong options are refused at once
    client = EdgeClient(request.server, request.token)
    warnings.filterwarnings("ignore", module="diffusers|transformers|peft")
    device = _device(request, chosen, client)
    if request.listen:
        _listen(request, device)
    else:
        asyncio.run(_one(request, device, chosen.decode_s))


# -- options ------------------------------------------------------------------------------------------------


def _chosen(request: DeviceRequest) -> OwnModel:
    """The options, checked as far as that needs no model."""
    reference, toy = _reference(request)
    check_models([reference])
    sampling = Sampling(
        total_steps=(50 if toy else 200) if request.steps is None else request.steps,
        guidance_scale=usual_guidance(reference, request.guidance, toy),
        scheduler=usual_scheduler(reference, request.scheduler),
    )
    check_format(request.dtype)
    check_seed(request.seed)
    check_device(request.device)
    _only_one(request, "--step-latency-s", "--profile", "--measure")
    _only_one(request, "--alpha", "--emphasis")
    words = tuple(subjects([reference]))
    if request.listen is None:
        _check_picture(request, words)
    latency, decode_s = request.step_latency_s, None
    if request.profile:
        profile = load_profile(request.profile)
        latency, decode_s = float(profile.fit.model().step_latency(1)), profile.decode_s
    return OwnModel(reference=reference, sampling=sampling, words=words, step_latency_s=latency, decode_s=decode_s)


def _reference(request: DeviceRequest) -> tuple[str, bool]:
    """The personal model, and whether it is one of the toy world's."""
    if (request.user is None) == (request.model is None):
        found = "neither" if request.user is None else "both"
        raise InputError(f"--user, --model: found {found}, accepted: a user of the toy world, or a model of your own")
    if request.model is not None:
        return str(Path(request.model).expanduser()) if request.model.startswith("~") else request.model, False
    users = cohort_models(data.FOLDER / "toyworld")[1]
    if request.user not in users:
        raise InputError(f"--user: found {request.user!r}, accepted: a user of the toy world; "
                         + nearest(str(request.user), users))  # fmt: skip
    return users[request.user], True


def _only_one(request: DeviceRequest, *options: str) -> None:
    """Refuse options that say the same thing twice."""
    given = [option for option in options if getattr(request, option[2:].replace("-", "_")) not in (None, False)]
    if len(given) > 1:
        raise InputError(f"{', '.join(given)}: found together, accepted: one of them")


def _check_picture(request: DeviceRequest, words: tuple[str, ...]) -> None:
    """Refuse a prompt or a file that cannot be."""
    if request.prompt is None:
        raise InputError("--prompt: missing; give a template such as 'a photo of {subject} in snow', or --listen PORT")
    check_template(with_subject(request.prompt, words))
    if request.output.suffix.casefold() != ".png":
        raise InputError(f"--output: found {str(request.output)!r}, accepted: a file that ends in .png")
    make_folder(request.output.parent)


# -- the device ---------------------------------------------------------------------------------------------


def _device(request: DeviceRequest, chosen: OwnModel, client: EdgeClient) -> "PersonalDevice":
    """The device with its model loaded and its step latency known."""
    from ..optimizer.inputs.users import DEFAULT_EMPHASIS
    from .own_pictures import PersonalDevice
    from .own_step import own_step_latency

    own = _loaded(request, chosen)
    latency = chosen.step_latency_s
    return PersonalDevice(
        client=client,
        own=own,
        step_latency_s=own_step_latency(own, request.measure) if latency is None else latency,
        alpha=request.alpha,
        emphasis=DEFAULT_EMPHASIS if request.emphasis is None else request.emphasis,
    )


def _loaded(request: DeviceRequest, chosen: OwnModel) -> "PersonalModel":
    from ..diffusion.inference.gpu import gpu_memory
    from ..diffusion.inference.models import load_model
    from .personal import REMEDY, PersonalModel

    with gpu_memory("the model", REMEDY):
        model = load_model(chosen.reference, dtype=request.dtype, device=pick_device(request.device))
    own = PersonalModel(model=model, sampling=chosen.sampling, words=chosen.words)
    if request.prompt is not None:
        own.template(request.prompt)
    return own


def _listen(request: DeviceRequest, device: "PersonalDevice") -> None:
    from .gateway import make_gateway
    from .listening import OrderlyServer, bound_socket, config_of

    name = request.user or Path(str(request.model)).name
    say(f"device: http://{HOST}:{request.listen}/v1/images/generations, model {name!r}; Ctrl-C stops it")
    with bound_socket(HOST, request.listen or 0, "--listen") as taken:
        OrderlyServer(config_of(make_gateway(device, name))).run(sockets=[taken])


async def _one(request: DeviceRequest, device: "PersonalDevice", decode_s: float | None) -> None:
    """One picture, written whole, and what became of it."""
    from ..diffusion.inference.pictures import save_image
    from .personal import Watch

    template, total = device.own.template(str(request.prompt)), device.own.sampling.total_steps
    async with device.client:
        with progress_bar("device", total, "steps") as progress:
            made = await device.picture(template, request.seed, Watch(step=lambda left: progress(total - left)))
    save_image(request.output, made.picture)
    report = _report(request, device, template, made) | {"planned_decode_s": decode_s}
    if request.as_json:
        print(json.dumps(report, indent=1, allow_nan=False))
    else:
        _print(report, made.result)
    say(f"wrote {request.output}")


# -- the report ---------------------------------------------------------------------------------------------


def _report(request: DeviceRequest, device: "PersonalDevice", template: str, made: "OwnPicture") -> dict[str, Any]:
    result, total = made.result, device.own.sampling.total_steps
    n = result.local_steps
    return {
        "prompt_template": template,
        "seed": request.seed,
        "granted": result.granted,
        "local_steps": n,
        "offloaded_steps": total - n,
        "reason": result.reason,
        "step_latency_s": device.step_latency_s,
        "alpha": made.alpha,
        "planned": _parts(result.decision.planned) if result.decision else None,
        "measured": _parts(result.measured),
        "decode_s": made.decode_s,
        "picture": str(request.output),
    }


def _parts(parts: Any) -> dict[str, float]:
    return {name: getattr(parts, name) for name in PARTS}


def _print(report: dict[str, Any], result: DeviceResult) -> None:
    """What ran where, and planned against measured seconds."""
    n, offloaded = report["local_steps"], report["offloaded_steps"]
    if result.granted:
        print(f"granted: {offloaded} steps at the edge, {n} here")
    else:
        print(f"all {n} steps here: {result.reason or 'the edge denied it, as the plan is better so'}")
    table = plain_table("seconds", "planned", "measured")
    planned = report["planned"]
    for part in PARTS:
        table.add_row(part.removesuffix("_s"), f"{planned[part]:.3f}" if planned else "-",
                      f"{report['measured'][part]:.3f}")  # fmt: skip
    decoding = report["planned_decode_s"]
    table.add_row("decode", "-" if decoding is None else f"{decoding:.3f}", f"{report['decode_s']:.3f}")
    print_table(table)
