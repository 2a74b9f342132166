"""What `serve` does: put model, rounds and HTTP together, and listen."""

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..common.console import say
from ..common.errors import InputError, require
from ..common.files import read_text
from ..fitting.latency import LatencyModel, fit_latency
from ..optimizer.inputs.scenario import Resolved, overrides, resolve_scenario
from .call_log import CallLog
from .comparison import Way, find_way
from .engines import EdgeEngine, EmulatedEngine, EngineError, ProcessEngine
from .protocol import Facts
from .rounds import Rounds, RoundSettings
from .server import ServerSettings, Token, make_app

MODULES = ("fastapi", "uvicorn", "prometheus_client")
BYTE_BITS = 8
MESSAGE_BYTES = 1000
"""About what a hand-off has beside its latents."""


@dataclass(frozen=True, kw_only=True)
class ServeRequest:
    """The options of one `serve`; see its help.

    Attributes:
        changes: options that replace fields of the scenario, by field.
    """

    cluster: str | None
    device: str
    dtype: str
    guidance: float | None
    sampler: str | None
    host: str
    port: int
    scenario: str
    changes: dict[str, Any]
    method: str
    prices: str | None
    policy: str
    engine: str
    emulate_radio: bool
    frozen_profile: bool
    token_file: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    most_waiting: int
    calls_per_s: float
    body_s: float
    expiry_s: float
    grace_s: float
    log: Path | None


def run_serve(request: ServeRequest) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        InputError: one line, before anything listens.
    """
    require("serve", *MODULES)
    from .listening import check_tls

    toy = request.cluster is None
    changes = ({"pai": "toyworld", "gpus": 1} if toy else {}) | request.changes
    resolved = resolve_scenario(request.scenario, overrides(**changes))
    way = find_way(request.method, request.prices, request.policy)
    tokens = read_tokens(request.token_file) if request.token_file else ()
    check_tls(request.tls_cert, request.tls_key)
    engine, guidance = make_engine(request, resolved, toy)
    rounds = Rounds(lambda facts: round_settings(request, resolved, way, facts), engine)
    app = make_app(rounds, lambda facts: server_settings(request, resolved, guidance, tokens, facts))
    with ExitStack() as stack:
        if request.log:
            log = stack.enter_context(closing(CallLog(request.log, request.method, request.prices, request.policy)))
            rounds.watch(log.begin, log.write)
        _listen(request, rounds, app)


def _listen(request: ServeRequest, rounds: Rounds, app: Any) -> None:
    """Take the address, load the model, and serve.

    Raises:
        InputError: for an address that is taken, or a model that cannot be loaded.
    """
    from .listening import EdgeServer, bound_socket, config_of

    with bound_socket(request.host, request.port) as taken:
        scheme = "https" if request.tls_cert else "http"
        host = f"[{request.host}]" if ":" in request.host else request.host
        say(f"serve: {scheme}://{host}:{taken.getsockname()[1]} once its model is loaded; Ctrl-C stops it")
        server = EdgeServer(config_of(app, request.tls_cert, request.tls_key, request.body_s), rounds, request.grace_s)
        try:
            server.run(sockets=[taken])
        except EngineError as error:
            raise InputError(f"serve: {error}") from error


def make_engine(request: ServeRequest, resolved: Resolved, toy: bool) -> tuple[EdgeEngine, float]:
    """What runs the steps, and the guidance scale that it has."""
    from .. import data
    from ..diffusion.inference.references import MODULES as MODEL_MODULES
    from ..diffusion.inference.references import (
        check_format,
        check_models,
        pick_device,
        usual_guidance,
        usual_scheduler,
    )

    cluster = request.cluster or str(data.FOLDER / "toyworld" / "cluster")
    guidance = usual_guidance(cluster, request.guidance, toy)
    if request.engine == "emulated":
        return EmulatedEngine(resolved.scenario.edge, resolved.scenario.gpus), guidance
    require("models", *MODEL_MODULES)
    from .edge_worker import work

    check_format(request.dtype)
    check_models([cluster])
    settings = {
        "cluster": cluster,
        "dtype": request.dtype,
        "handoff_dtype": "fp16",
        "device": pick_device(request.device),
        "total_steps": resolved.scenario.total_steps,
        "guidance_scale": guidance,
        "scheduler": usual_scheduler(cluster, request.sampler),
        "most": resolved.edge.max_batch or 64,
        "measure": "edge" not in request.changes,
    }
    if request.engine == "ray":
        from .ray_engine import RayEdgeEngine

        return RayEdgeEngine(settings, resolved.scenario.gpus, settings["device"] != "cpu"), guidance
    return ProcessEngine(work, settings), guidance


def round_settings(request: ServeRequest, resolved: Resolved, way: Way, facts: dict[str, Any]) -> RoundSettings:
    """How the server decides, once it is known what its model is and how long its steps take."""
    scenario = resolved.scenario
    if facts.get("step_s"):
        scenario = replace(scenario, edge=measured_latency(facts["step_s"]))
        say(f"serve: a step of one image takes {1e3 * float(scenario.edge.step_latency(1)):.1f} ms here, measured")
    if "latent_bits" not in request.changes and request.engine != "emulated":
        scenario = replace(scenario, latent_bits=message_bits(facts["latent_shape"]))
    return RoundSettings(
        scenario=scenario,
        plan=way.plan,
        revise=way.revise,
        counts_steps=way.counts_steps,
        images_each=resolved.edge.max_batch,
        emulate_radio=request.emulate_radio,
        frozen_profile=request.frozen_profile,
        most_pending=request.most_waiting,
        expiry_s=request.expiry_s,
    )


def measured_latency(step_s: dict[str, float]) -> LatencyModel:
    """The step latency of medians by number of images."""
    sizes = sorted(int(size) for size in step_s)
    return fit_latency(sizes, [step_s[str(size)] for size in sizes]).model


def message_bits(latent_shape: list[int]) -> float:
    """The size of a hand-off with fp16 latents of this shape, bits."""
    numbers = 1
    for side in latent_shape:
        numbers *= side
    return float(BYTE_BITS * (2 * numbers + MESSAGE_BYTES))


def server_settings(
    request: ServeRequest, resolved: Resolved, guidance: float, tokens: tuple[Token, ...], facts: dict[str, Any]
) -> ServerSettings:
    """What the HTTP side says and allows."""
    scenario = resolved.scenario
    served = Facts(
        model=Path(facts["name"]).name,
        total_steps=scenario.total_steps,
        min_local_steps=scenario.min_local_steps,
        guidance_scale=guidance,
        scheduler=facts.get("scheduler") or request.sampler or "ddim",
        scheduler_hash=facts["scheduler_hash"],
        latent_shape=facts["latent_shape"],
        latents=facts.get("latents", {}),
        interval_s=scenario.interval_s,
        version=version("edgesplit"),
    )
    return ServerSettings(
        facts=served, tokens=tokens, grace_s=request.grace_s, body_s=request.body_s, calls_per_s=request.calls_per_s
    )


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Bearer tokens of a file: one a line, and after a space, if it has one, the time when it expires (ISO 8601).

    Raises:
        InputError: for a file without a token, or a time that is none.
    """
    tokens = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        secret, _, expires = line.strip().partition(" ")
        if not secret or secret.startswith("#"):
            continue
        try:
            expires_s = datetime.fromisoformat(expires.strip()).timestamp() if expires.strip() else None
        except ValueError as error:
            raise InputError(
                f"{path}: line {number}: found {expires.strip()!r}, accepted: a time such as 2030-01-31T12:00:00+00:00"
            ) from error
        tokens.append(Token(secret, expires_s))
    if not tokens:
        raise InputError(f"{path}: found no token, accepted: one a line")
    return tuple(tokens)
