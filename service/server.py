"""The edge server's HTTP: devices ask, fetch their hand-offs, and report what they measured.

Errors are problem documents (RFC 9457). docs/server.md describes the protocol; /openapi.json does so for machines.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from .asgi import BODY_S, bounded, hung_up, says_too_large, too_large
from .dashboard import PAGE
from .ledger import Entry
from .protocol import (
    AGAIN_HEADER,
    DIGEST_HEADER,
    KEY_HEADER,
    MEDIA_HANDOFF,
    MEDIA_PROBLEM,
    SPLIT_HEADER,
    WAIT_HEADER,
    Ask,
    Decision,
    Facts,
    LatencyParts,
    ProblemError,
)
from .rate import RateLimit, network_of
from .rounds import AT_ONCE, Rounds
from .telemetry import ServerTelemetry

OPEN_PATHS = ("/healthz", "/readyz")
"""What needs no token."""
ASK_PATH = "/v1/requests"
"""Where devices ask."""
CALLS = ("handoff", "report", "cancel")
"""What can be called of a request that was decided."""
LINK = {"parameters": {"name": "$response.body#/id"}}
"""How the documentation says that they take its name."""
COMMON = (401, 413, 429)
"""What every call may be answered that needs a token."""
MOST_SHOWN = 200
"""Characters of a device's own that an answer repeats at most."""
EVENT_S = 1.0
"""Seconds between two events of the dashboard."""


@dataclass(frozen=True)
class Token:
    """A bearer token.

    Attributes:
        secret: the token.
        expires_s: Unix time after which it is refused; None for never.
    """

    secret: str
    expires_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the HTTP side allows.

    Attributes:
        facts: what is served.
        tokens: bearer tokens, of which a request must have one; none for an open server.
        grace_s: seconds for images in flight when the server stops.
        wait_s: longest time that a hand-off is waited for in one call, seconds.
        body_s: seconds that a request's body may take to come.
        calls_per_s: calls a second of one token or address; 0 for no bound.
    """

    facts: Facts
    tokens: tuple[Token, ...] = ()
    grace_s: float = 10.0
    wait_s: float = 300.0
    body_s: float = BODY_S
    calls_per_s: float = 0.0


@dataclass
class ServerState:
    """What the routes share."""

    rounds: Rounds
    settings: ServerSettings
    telemetry: ServerTelemetry
    rate: RateLimit


def make_app(rounds: Rounds, settings: Callable[[dict[str, Any]], ServerSettings]) -> FastAPI:
    """The server as an ASGI application.

    Args:
        rounds: the core, not started yet.
        settings: function of what the engine says of its model.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        made = settings(await rounds.start())
        app.state.served = ServerState(rounds, made, ServerTelemetry(), RateLimit(made.calls_per_s))
        app.state.served.telemetry.watch(rounds)
        yield
        await rounds.stop(made.grace_s)

    from importlib.metadata import version

    app = FastAPI(title="edgesplit edge server", version=version("edgesplit"), lifespan=lifespan)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http)
    _add_device_routes(app)
    _add_handoff_route(app)
    _add_last_routes(app)
    _add_operator_routes(app)
    app.add_middleware(Guard, app_state=app.state)
    return app


# -- devices ------------------------------------------------------------------------------------------------


def _add_device_routes(app: FastAPI) -> None:
    @app.get("/v1/facts", responses=_problems())
    async def facts(request: Request) -> Facts:
        """What is served: model, steps, scheduler, latents, and how long a round lasts."""
        return _served(request).settings.facts

    granted: dict[int | str, dict[str, Any]] = {200: {"links": {name: LINK | {"operationId": name} for name in CALLS}}}

    @app.post(ASK_PATH, responses=granted | _problems(400, 408, 409, 422, 503))
    async def ask(
        request: Request, body: Ask, key: Annotated[str | None, Header(alias=KEY_HEADER, max_length=200)] = None
    ) -> Decision:
        """Ask for the first steps of an image; answered at the end of the round."""
        served = _served(request)
        _check_ask(body, served.settings.facts)
        entry = served.rounds.ask(body, key)
        decision: Decision = await _while_there(request, served.rounds, entry, entry.decision)
        return decision


def _add_handoff_route(app: FastAPI) -> None:
    binary = {"schema": {"type": "string", "format": "binary"}}
    message: dict[int | str, dict[str, Any]] = {
        200: {"description": "safetensors message", "content": {MEDIA_HANDOFF: binary}}
    }
    problems = _problems(404, 408, 409, 410, 422, 503, 504)

    @app.get(
        "/v1/requests/{name}/handoff", responses=message | problems, response_class=Response, operation_id="handoff"
    )
    async def handoff(request: Request, name: str) -> Response:
        """Wait for the hand-off of a granted request: a safetensors message, with its SHA-256 as Repr-Digest."""
        served = _served(request)
        entry = served.rounds.find(name)
        wait_s = min(served.settings.wait_s, _preferred_s(request))
        payload: bytes = await _while_there(request, served.rounds, entry, entry.handoff, wait_s)
        served.rounds.fetched(entry)
        served.telemetry.sent(len(payload))
        digest = base64.b64encode(hashlib.sha256(payload).digest()).decode()
        timing = f"edge;dur={1e3 * entry.edge_s:.3f}"
        headers = {
            DIGEST_HEADER: f"sha-256=:{digest}:",
            "Server-Timing": timing,
            SPLIT_HEADER: str(entry.local_steps),
        }
        return Response(payload, media_type=MEDIA_HANDOFF, headers=headers)


def _add_last_routes(app: FastAPI) -> None:
    @app.post(
        "/v1/requests/{name}/report",
        status_code=204,
        responses=_problems(400, 404, 408, 422),
        response_class=Response,
        operation_id="report",
    )
    async def report(request: Request, name: str, body: LatencyParts) -> Response:
        """Tell what the device measured of a request."""
        served = _served(request)
        entry = served.rounds.find(name)
        if served.rounds.reported(entry, body):
            served.telemetry.reported(entry, body)
        return Response(status_code=204)

    @app.delete(
        "/v1/requests/{name}",
        status_code=204,
        responses=_problems(404, 422),
        response_class=Response,
        operation_id="cancel",
    )
    async def cancel(request: Request, name: str) -> Response:
        """Cancel a request, wherever it is."""
        served = _served(request)
        served.rounds.cancel(served.rounds.find(name))
        return Response(status_code=204)


def _check_ask(ask: Ask, facts: Facts) -> None:
    """Refuse what this server cannot serve, before any step runs.

    Raises:
        ProblemError: naming what differs.
    """
    if "{subject}" not in ask.prompt_template:
        raise ProblemError(
            422, "no-subject", "prompt_template: found no {subject}; put it where the subject's words go"
        )
    for name, theirs, ours in (
        ("total_steps", ask.total_steps, facts.total_steps),
        ("scheduler_hash", ask.scheduler_hash, facts.scheduler_hash),
        ("latent_shape", ask.latent_shape, facts.latent_shape),
    ):
        if theirs is not None and theirs != ours:
            raise ProblemError(
                409, "cannot-hand-off", f"{name}: found {theirs}, accepted: {ours}, that of this server's model"
            )


async def _while_there(
    request: Request, rounds: Rounds, entry: Entry, future: "asyncio.Future[Any]", wait_s: float | None = None
) -> Any:
    """Wait for an answer as long as the device does; one that hangs up cancels its request.

    Raises:
        ProblemError: as the future has it; 504 where it takes too long.
    """
    if future.done():
        return future.result()
    gone = asyncio.create_task(hung_up(request))
    entry.waiting += 1
    try:
        await asyncio.wait({future, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if gone.done() and entry.waiting == 1:
            rounds.hung_up(entry)
    finally:
        entry.waiting -= 1
        gone.cancel()
    if gone.done():
        gone.result()  # a body that is too large or too slow
        raise ProblemError(499, "hung-up", "the device hung up; its request is cancelled unless it waits elsewhere")
    detail = "the hand-off is not ready; wait for it again, or run all steps locally"
    raise ProblemError(504, "too-slow", detail, {AGAIN_HEADER: str(int(rounds.expected_s(entry)))})


def _preferred_s(request: Request) -> float:
    """Seconds that a device wants to wait at most, as RFC 7240 has it; infinite where it does not say."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*(\d{1,9})", request.headers.get(WAIT_HEADER, ""))
    return float(found[1]) if found else math.inf


# -- operators ----------------------------------------------------------------------------------------------


def _add_operator_routes(app: FastAPI) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, responses=_problems(413, common=()))
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse, responses=_problems(413, 503, common=()))
    async def readyz(request: Request) -> str:
        """Whether images can be taken."""
        if not _served(request).rounds.ready:
            raise ProblemError(
                503, "not-ready", "the model is being loaded; try again in a while", {"Retry-After": "5"}
            )
        return "ready"

    @app.get("/v1/scenario", responses=_problems())
    async def scenario(request: Request) -> dict[str, Any]:
        """Every number that plans reckon with now; for reports and simulations."""
        return asdict(_served(request).rounds.scenario())

    @app.get("/metrics", response_class=PlainTextResponse, responses=_problems())
    async def metrics(request: Request) -> Response:
        """The state for Prometheus; no user is in a label."""
        body, kind = _served(request).telemetry.page()
        return Response(body, media_type=kind)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def dashboard() -> str:
        """A page that shows what the server does."""
        return PAGE

    @app.get("/events", response_class=StreamingResponse, include_in_schema=False)
    async def events(request: Request) -> StreamingResponse:
        """The dashboard's numbers, one event a second."""
        return StreamingResponse(_events(_served(request)), media_type="text/event-stream")


async def _events(served: ServerState) -> AsyncIterator[str]:
    while not served.rounds.stopping:
        yield f"data: {json.dumps(served.telemetry.snapshot())}\n\n"
        await asyncio.sleep(EVENT_S)


# -- answers ------------------------------------------------------------------------------------------------


def _served(request: Request) -> ServerState:
    served: ServerState = request.app.state.served
    return served


def _problems(*statuses: int, common: tuple[int, ...] = COMMON) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of answers that are problems."""
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in
              (("type", "string"), ("title", "string"), ("status", "integer"), ("detail", "string"))}}  # fmt: skip
    return {
        status: {"description": "problem document", "content": {MEDIA_PROBLEM: {"schema": schema}}}
        for status in sorted({*statuses, *common})
    }


def problem_response(problem: ProblemError) -> Response:
    """A problem as an answer."""
    body = json.dumps(problem.document()).encode()
    return Response(body, status_code=problem.status, media_type=MEDIA_PROBLEM, headers=problem.headers)


async def _on_problem(request: Request, error: Exception) -> Response:  # noqa: ARG001 - FastAPI's signature
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for nothing else
    return problem_response(error)


async def _on_malformed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])[:MOST_SHOWN]
    return problem_response(ProblemError(422, "malformed", f"{place}: {first['msg']}"))


async def _on_http(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error.__cause__, ProblemError):  # what FastAPI met while it read the body
        return problem_response(error.__cause__)
    kind = {404: "not-found", 405: "method-not-allowed", 400: "malformed"}.get(error.status_code, "http")
    headers = dict(error.headers or {})
    return problem_response(ProblemError(error.status_code, kind, str(error.detail), headers))


class Guard:
    """Before any route, and before anything is read: how often one calls, the token, the body's size, a full queue.

    Some calls at a time begin, so that however many come at once, what else the event loop does has its turn.
    """

    def __init__(self, app: ASGIApp, app_state: Any) -> None:
        self.app, self.state = app, app_state
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a call through, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self._turns.acquire()
        asyncio.get_running_loop().call_soon(self._turns.release)  # when all others have had theirs
        served: ServerState = self.state.served
        try:
            _check_call(scope, served)
        except ProblemError as problem:
            await problem_response(problem)(scope, receive, send)
            return
        await self.app(scope, bounded(receive, served.settings.body_s), send)


def _check_call(scope: Scope, served: ServerState) -> None:
    """Refuse a call by what its head says.

    Raises:
        ProblemError: saying why.
    """
    if says_too_large(scope):
        raise too_large()
    if scope["path"] in OPEN_PATHS:
        return
    headers = dict(scope["headers"])
    tokens = served.settings.tokens
    token = _known(tokens, headers.get(b"authorization", b""))
    client = token.secret if token else network_of(scope["client"][0] if scope["client"] else "")
    again_s = served.rate.excess_s(client, time.monotonic())
    if again_s:
        detail = f"accepted: {served.settings.calls_per_s:g} calls a second of one token or address"
        raise ProblemError(429, "too-many-calls", detail, {"Retry-After": str(math.ceil(again_s))})
    if tokens and token is None:
        detail = "a bearer token that this server knows is needed; it may have expired"
        raise ProblemError(401, "unauthorised", detail, {"WWW-Authenticate": "Bearer"})
    if scope["method"] == "POST" and scope["path"] == ASK_PATH:
        key = headers.get(KEY_HEADER.lower().encode())
        served.rounds.check_room(None if key is None else key.decode("latin-1"))


def _known(tokens: tuple[Token, ...], header: bytes) -> Token | None:
    """The token in a header, where it is good now."""
    scheme, _, given = header.partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    now = time.time()
    good = [token for token in tokens if hmac.compare_digest(token.secret.encode(), given.strip())]
    return next((token for token in good if token.expires_s is None or now < token.expires_s), None)
