"""What every HTTP application here needs of a connection: bodies with a bound, and whether the other side is there."""

from fastapi import Request
from starlette.types import Message, Receive, Scope

from .protocol import MOST_BODY, ProblemError


def too_large() -> ProblemError:
    """The answer to a body that is too large."""
    return ProblemError(413, "too-large", f"body: accepted: {MOST_BODY} bytes at most")


def says_too_large(scope: Scope) -> bool:
    """Whether a request says of itself that its body is too large, or not how large it is in digits."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return not length.isdigit() or int(length[:12]) > MOST_BODY


def bounded(receive: Receive) -> Receive:
    """The same, but a body that grows too large ends in a problem."""
    size = 0

    async def received() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BODY:
            raise too_large()
        return message

    return received


async def hung_up(request: Request) -> None:
    """Return when the other side closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
