"""A local gateway with the shape of OpenAI's image API, so that programs which know that get pictures of one's own.

Every picture takes the way of `own_pictures`: the edge's help where there is some, else this device alone.
"""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from torch import Tensor

from ..common.errors import InputError
from ..diffusion.inference.sampling import LARGEST_SEED
from .asgi import bounded, hung_up, says_too_large, too_large
from .own_pictures import OwnPicture, PersonalDevice
from .personal import Watch, png
from .protocol import ProblemError

T = TypeVar("T")
HOSTS = ["127.0.0.1", "localhost"]
"""Names under which the gateway is asked; a page in a browser that points another name here gets nothing."""
MOST_WAITING = 64
"""Pictures that may be under way."""


class Generation(BaseModel):
    """The body of a request; what is not named here is OpenAI's and has no meaning for this model.

    Attributes:
        prompt: template with `{subject}`, or a prompt with the subject's words.
        model: name of the model; None for the one that there is.
        n: number of pictures, with one seed after the other.
        size: side of the pictures as SIDExSIDE, or "auto".
        response_format: b64_json.
        output_format: png.
        stream: whether events are sent as the picture comes about.
        partial_images: unfinished pictures among the events.
        seed: seed of the first picture; ours, as OpenAI's API has none. None for a random one.
    """

    model_config = ConfigDict(extra="ignore")

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: str | None = None
    response_format: str | None = None
    output_format: str | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = None


class RefusedError(Exception):
    """An answer in the shape of OpenAI's errors."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def answer(self) -> Response:
        """The answer."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        headers = {"Retry-After": "5"} if self.status == 429 else {}
        return JSONResponse({"error": error}, self.status, headers)


@dataclass
class GatewayState:
    """What the routes share.

    Attributes:
        device: what makes the pictures.
        name: name of the model.
        started: Unix time of the start.
        under_way: pictures that are being made or wait for that.
    """

    device: PersonalDevice
    name: str
    started: int = field(default_factory=lambda: int(time.time()))
    under_way: int = 0


@dataclass(frozen=True)
class Wanted:
    """A checked request."""

    template: str
    seeds: list[int]
    partials: int


def make_gateway(device: PersonalDevice, name: str) -> FastAPI:
    """The gateway as an ASGI application.

    Args:
        device: what makes the pictures.
        name: name of the model.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with device.client:
            yield

    state = GatewayState(device, name)
    app = FastAPI(title="edgesplit device", version=version("edgesplit"), lifespan=lifespan)
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(SmallBodies)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)

    @app.post("/v1/images/generations", response_class=JSONResponse)
    async def generations(request: Request, body: Generation) -> Response:
        """Make pictures of a prompt."""
        wanted = _wanted(state, body)
        if body.stream:
            return StreamingResponse(_events(state, wanted), media_type="text/event-stream")
        return await _while_there(request, _pictures(state, wanted))

    @app.get("/v1/models", response_class=JSONResponse)
    async def models() -> dict[str, Any]:
        """The one model."""
        entry = {"id": state.name, "object": "model", "created": state.started, "owned_by": "edgesplit"}
        return {"object": "list", "data": [entry]}

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok"

    return app


class SmallBodies:
    """Refuses bodies that are larger than any request here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif says_too_large(scope):
            problem = too_large()
            await RefusedError(problem.status, problem.detail).answer()(scope, receive, send)
        else:
            await self.app(scope, bounded(receive), send)


# -- a request ----------------------------------------------------------------------------------------------


def _wanted(state: GatewayState, body: Generation) -> Wanted:
    """The request, checked against what this model can do.

    Raises:
        RefusedError: naming the field.
    """
    own, count = state.device.own, body.n or 1
    side = f"{own.model.picture_side}x{own.model.picture_side}"
    if body.model is not None and body.model != state.name:
        raise RefusedError(404, f"model: found {body.model!r}, accepted: {state.name!r}", "model", "model_not_found")
    for param, found, accepted in (
        ("size", body.size, (None, "auto", side)),
        ("response_format", body.response_format, (None, "b64_json")),
        ("output_format", body.output_format, (None, "png")),
    ):
        if found not in accepted:
            words = " or ".join(word for word in accepted if word)
            raise RefusedError(400, f"{param}: found {found!r}, accepted: {words}", param, "invalid_value")
    if body.stream and count > 1:
        raise RefusedError(400, f"n: found {count}, accepted with stream: 1", "n", "invalid_value")
    if state.under_way + count > MOST_WAITING:
        raise RefusedError(
            429, f"{state.under_way} pictures are under way; ask again later", None, "rate_limit_exceeded"
        )
    seed = body.seed if body.seed is not None else secrets.randbelow(2**31)
    return Wanted(_template(state, body.prompt), [(seed + i) % (LARGEST_SEED + 1) for i in range(count)],
                  body.partial_images or 0)  # fmt: skip


def _template(state: GatewayState, prompt: str) -> str:
    try:
        return state.device.own.template(prompt)
    except InputError as error:
        raise RefusedError(400, str(error), "prompt", "invalid_value") from error


async def _picture(state: GatewayState, template: str, seed: int, watch: Watch) -> OwnPicture:
    """One picture, counted."""
    state.under_way += 1
    try:
        return await state.device.picture(template, seed, watch)
    except InputError as error:
        raise RefusedError(500, str(error)) from error
    finally:
        state.under_way -= 1


async def _pictures(state: GatewayState, wanted: Wanted) -> Response:
    """All pictures of a request: asked of the edge together, finished one after the other."""
    made = await asyncio.gather(*(_picture(state, wanted.template, seed, Watch()) for seed in wanted.seeds))
    data = [{"b64_json": _encoded(one.picture)} for one in made]
    ways = [_way(one, seed) for one, seed in zip(made, wanted.seeds, strict=True)]
    return JSONResponse({"created": int(time.time()), "data": data, "edgesplit": ways})


async def _events(state: GatewayState, wanted: Wanted) -> AsyncIterator[str]:
    """Unfinished pictures as they come about, and the finished one, as server-sent events."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
    side = state.device.own.model.picture_side
    shared = {"created_at": int(time.time()), "size": f"{side}x{side}", "output_format": "png"}

    def partial(number: int, picture: Tensor) -> None:
        event = {"type": "image_generation.partial_image", "partial_image_index": number, "b64_json": _encoded(picture)}
        loop.call_soon_threadsafe(events.put_nowait, shared | event)

    async def make() -> None:
        (seed,) = wanted.seeds
        try:
            made = await _picture(state, wanted.template, seed, Watch(partials=wanted.partials, partial=partial))
            done = {"type": "image_generation.completed", "b64_json": _encoded(made.picture)}
            events.put_nowait(shared | done | {"edgesplit": [_way(made, seed)]})
        except RefusedError as error:
            events.put_nowait({"type": "error", "error": {"message": error.message, "type": "server_error"}})
        events.put_nowait(None)

    making = asyncio.create_task(make())
    try:
        while (event := await events.get()) is not None:
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    finally:  # who hangs up needs no picture
        making.cancel()


async def _while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Work as long as the other side is there."""
    working, gone = asyncio.create_task(work), asyncio.create_task(hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RefusedError(499, "the other side hung up")
    finally:
        working.cancel()
        gone.cancel()


# -- answers ------------------------------------------------------------------------------------------------


def _encoded(picture: Tensor) -> str:
    return base64.b64encode(png(picture)).decode()


def _way(made: OwnPicture, seed: int) -> dict[str, Any]:
    """How a picture came about; beside OpenAI's fields, which clients let pass."""
    result = made.result
    planned = result.decision.planned.model_dump() if result.decision else None
    return {
        "seed": seed,
        "granted": result.granted,
        "local_steps": result.local_steps if result.granted else None,
        "reason": result.reason,
        "planned": planned,
        "measured": result.measured.model_dump(),
        "decode_s": made.decode_s,
    }


async def _on_refused(request: Request, error: Exception) -> Response:  # noqa: ARG001 - FastAPI's signature
    assert isinstance(error, RefusedError)  # noqa: S101 - registered for nothing else
    return error.answer()


async def _on_problem(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, ProblemError)  # noqa: S101
    return RefusedError(error.status, error.detail).answer()


async def _on_malformed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return RefusedError(400, f"{place}: {first['msg']}", place, "invalid_value").answer()


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if isinstance(error.__cause__, ProblemError):  # what FastAPI met while it read the body
        return await _on_problem(request, error.__cause__)
    return RefusedError(error.status_code, str(error.detail)).answer()
