"""What a device says to an edge server, checked: an asynchronous client, and a plain one around it."""

import asyncio
import base64
import hashlib
import re
import ssl
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import httpx
from pydantic import ValidationError

from ..common.errors import InputError, reason_of, shown
from ..common.json_text import parse_json
from ..optimizer.model.qoe import Scenario
from .protocol import (
    AGAIN_HEADER,
    DIGEST_HEADER,
    KEY_HEADER,
    SPLIT_HEADER,
    WAIT_HEADER,
    Ask,
    Decision,
    Facts,
    LatencyParts,
    scenario_of,
)

T = TypeVar("T")
TIMEOUT_S = 10.0
"""Seconds for an answer that does not wait for anything."""
NOT_READY = 504
"""Status of an answer that there is nothing yet."""
MOST_ANSWER = 64 << 20
"""Bytes of an answer at most; a hand-off of Stable Diffusion has some 33,000."""


class EdgeError(Exception):
    """The edge cannot help: it is unreachable, slow, full or wrong; the message says which."""


class NotReadyError(EdgeError):
    """The edge is at work on a hand-off that is not there yet.

    Attributes:
        expected_s: seconds after which it expects to have it.
    """

    def __init__(self, message: str, expected_s: float) -> None:
        super().__init__(message)
        self.expected_s = expected_s


class HandedOff(NamedTuple):
    """A hand-off.

    Attributes:
        payload: the message.
        edge_s: seconds that its image was at the edge, as the server measured them.
        local_steps: steps n that it leaves to the device; None where the server does not say.
    """

    payload: bytes
    edge_s: float
    local_steps: int | None


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end."""

    headers: Mapping[str, str]
    content: bytes


class EdgeClient:
    """A device's side of the protocol.

    Attributes:
        server: address such as http://127.0.0.1:8440.
    """

    def __init__(self, server: str, token: str | None = None, verify: ssl.SSLContext | bool = True) -> None:
        """A client; `async with` opens and closes its connections.

        Args:
            server: address of the edge server.
            token: bearer token, where the server wants one.
            verify: whether, or against what, its certificate is checked.

        Raises:
            InputError: for an address that is none.
        """
        if not re.fullmatch(r"https?://[^\s/]+/?", server):
            raise InputError(f"--server: found {server!r}, accepted: an address such as http://127.0.0.1:8440")
        if not (token or "").isascii() or not (token or "").isprintable():
            raise InputError("--token: found characters that no token has, accepted: printable ASCII")
        self.server = server.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        try:
            self._http = httpx.AsyncClient(
                base_url=self.server, headers=headers, limits=limits, verify=verify,
                timeout=None,  # noqa: S113 - every call has its own
            )  # fmt: skip
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError(f"--server: found {shown(server)}, which is no address ({reason_of(error)})") from error

    async def __aenter__(self) -> "EdgeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def facts(self, wait_s: float = TIMEOUT_S) -> Facts:
        """What the server serves."""
        return _record(Facts, await self._call("GET", "/v1/facts", wait_s))

    async def scenario(self, wait_s: float = TIMEOUT_S) -> Scenario:
        """Every number that its plans reckon with now."""
        return served_scenario((await self._call("GET", "/v1/scenario", wait_s)).content)

    async def ask(self, ask: Ask, wait_s: float, key: str | None = None) -> Decision:
        """Ask for the first steps of an image; the answer comes at the end of the round.

        Raises:
            EdgeError: where the edge cannot help.
        """
        headers = {KEY_HEADER: key or str(uuid.uuid4())}
        answer = await self._call("POST", "/v1/requests", wait_s, json=ask.model_dump(), headers=headers)
        return _record(Decision, answer)

    async def handoff(self, name: str, wait_s: float, word_s: int | None = None) -> HandedOff:
        """Wait for a hand-off, which is checked against its digest.

        Args:
            name: name of the request.
            wait_s: seconds after which the wait is over.
            word_s: seconds after which the edge is to say what it expects, where the hand-off is not there yet.

        Raises:
            NotReadyError: where the edge says that it is still at work on it.
            EdgeError: where the edge cannot help.
        """
        headers = {} if word_s is None else {WAIT_HEADER: f"wait={word_s}"}
        answer = await self._call("GET", f"/v1/requests/{name}/handoff", wait_s, headers=headers)
        digest = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
        if answer.headers.get(DIGEST_HEADER) != f"sha-256=:{digest}:":
            raise EdgeError("the hand-off was damaged on its way")
        found = re.search(r"edge;dur=([0-9.]+)", answer.headers.get("Server-Timing", ""))
        n = answer.headers.get(SPLIT_HEADER, "")
        return HandedOff(answer.content, float(found[1]) / 1e3 if found else 0.0, int(n[:9]) if n.isdecimal() else None)

    async def report(self, name: str, measured: LatencyParts) -> None:
        """Tell what was measured."""
        await self._call("POST", f"/v1/requests/{name}/report", json=measured.model_dump())

    async def cancel(self, name: str) -> None:
        """Cancel a request."""
        await self._call("DELETE", f"/v1/requests/{name}")

    async def _call(self, method: str, path: str, wait_s: float = TIMEOUT_S, **rest: Any) -> Answer:
        """One call, over after `wait_s` whatever the other side does; whatever goes wrong is one sentence."""
        try:
            async with asyncio.timeout(wait_s), self._http.stream(method, path, **rest) as answer:
                content = await _read(answer)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise EdgeError(f"no answer from {self.server} within {wait_s:.3g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EdgeError(f"{self.server} cannot be reached ({reason_of(error)})") from error
        again = answer.headers.get(AGAIN_HEADER, "")
        if answer.status_code == NOT_READY and again.isdecimal():
            raise NotReadyError(_problem(answer, content), float(again[:9]))
        if not answer.is_success:
            raise EdgeError(_problem(answer, content))
        return Answer(answer.headers, content)


class PlainClient:
    """The same, for code that is not asynchronous; each call runs to its end."""

    def __init__(self, server: str, token: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = EdgeClient(server, token)

    def facts(self) -> Facts:
        """What the server serves."""
        return self._run(self._client.facts())

    def ask(self, ask: Ask, wait_s: float, key: str | None = None) -> Decision:
        """Ask for the first steps of an image."""
        return self._run(self._client.ask(ask, wait_s, key))

    def handoff(self, name: str, wait_s: float) -> HandedOff:
        """Wait for a hand-off."""
        return self._run(self._client.handoff(name, wait_s))

    def report(self, name: str, measured: LatencyParts) -> None:
        """Tell what was measured."""
        self._run(self._client.report(name, measured))

    def cancel(self, name: str) -> None:
        """Cancel a request."""
        self._run(self._client.cancel(name))

    def close(self) -> None:
        """Close the connections."""
        self._run(self._client.__aexit__())
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)


R = TypeVar("R", Facts, Decision)


async def _read(answer: httpx.Response) -> bytes:
    """The body of an answer.

    Raises:
        EdgeError: for one without end.
    """
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > MOST_ANSWER:
            raise EdgeError(f"the server's answer has more than {MOST_ANSWER >> 20} MiB")
    return b"".join(parts)


def _record(kind: type[R], answer: Answer) -> R:
    """An answer as a record."""
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        what = "; ".join(str(problem["msg"]) for problem in error.errors()[:1])
        raise EdgeError(f"the server's answer is none of this version ({what})") from error


def served_scenario(content: bytes) -> Scenario:
    """The scenario of a server's answer.

    Raises:
        EdgeError: for an answer that is none.
    """
    try:
        numbers = parse_json(content)
        known = {name: numbers[name] for name in Scenario.__dataclass_fields__ if name in numbers}
        return scenario_of(known)
    except (ValueError, LookupError, TypeError, InputError) as error:
        raise EdgeError(f"the server's scenario is none of this version ({reason_of(error)})") from error


def _problem(answer: httpx.Response, content: bytes) -> str:
    """What an answer with an error says."""
    try:
        detail = parse_json(content)["detail"]
    except (ValueError, LookupError, TypeError):
        detail = answer.reason_phrase
    return f"the server answered {answer.status_code}: {str(detail)[:200]}"
