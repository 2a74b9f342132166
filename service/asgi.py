"""What every HTTP application here needs of a connection: bodies with bounds, and whether the other side is there."""

import asyncio

from fastapi import Request
from starlette.types import Message, Receive, Scope

from .protocol import MOST_BODY, ProblemError

BODY_S = 10.0
"""Seconds that a body may take to come, unless an option says otherwise."""
CLOSE = {"Connection": "close"}
"""What an answer says whose request was not read to its end."""


def too_large() -> ProblemError:
    """The answer to a body that is too large."""
    return ProblemError(413, "too-large", f"body: accepted: {MOST_BODY} bytes at most", CLOSE)


def says_too_large(scope: Scope) -> bool:
    """Whether a request says of itself that its body is too large, or not how large it is in digits."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return not length.isdigit() or int(length[:12]) > MOST_BODY


def bounded(receive: Receive, body_s: float = BODY_S) -> Receive:
    """The same, but a body that grows too large, or is not there after so many seconds, ends in a problem."""
    size, ended = 0, False
    end_s = asyncio.get_running_loop().time() + body_s

    async def received() -> Message:
        nonlocal size, ended
        try:
            async with asyncio.timeout_at(None if ended else end_s):
                message = await receive()
        except TimeoutError:
            detail = f"body: it was not there within {body_s:g} s; send it at once"
            raise ProblemError(408, "slow-body", detail, CLOSE) from None
        size += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if size > MOST_BODY:
            raise too_large()
        return message

    return received


async def hung_up(request: Request) -> None:
    """Return when the other side closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
