"""What a device says to an edge server, checked: an asynchronous client, and a plain one around it."""

import asyncio
import base64
import hashlib
import json
import re
import ssl
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from ..common.errors import InputError, reason_of
from .protocol import DIGEST_HEADER, KEY_HEADER, Ask, Decision, Facts, LatencyParts

T = TypeVar("T")
TIMEOUT_S = 10.0
"""Seconds for an answer that does not wait for anything."""


class EdgeError(Exception):
    """The edge cannot help: it is unreachable, slow, full or wrong; the message says which."""


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
        self.server = server.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        self._http = httpx.AsyncClient(
            base_url=self.server, headers=headers, timeout=TIMEOUT_S, limits=limits, verify=verify
        )

    async def __aenter__(self) -> "EdgeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def facts(self) -> Facts:
        """What the server serves."""
        return _record(Facts, await self._call("GET", "/v1/facts"))

    async def scenario(self) -> dict[str, Any]:
        """Every number that its plans reckon with now."""
        answer: dict[str, Any] = (await self._call("GET", "/v1/scenario")).json()
        return answer

    async def ask(self, ask: Ask, wait_s: float, key: str | None = None) -> Decision:
        """Ask for the first steps of an image; the answer comes at the end of the round.

        Raises:
            EdgeError: where the edge cannot help.
        """
        headers = {KEY_HEADER: key or str(uuid.uuid4())}
        answer = await self._call("POST", "/v1/requests", wait_s, json=ask.model_dump(), headers=headers)
        return _record(Decision, answer)

    async def handoff(self, name: str, wait_s: float) -> tuple[bytes, float]:
        """Wait for a hand-off; returns it, checked against its digest, and the seconds that it was at the edge.

        Raises:
            EdgeError: where the edge cannot help.
        """
        answer = await self._call("GET", f"/v1/requests/{name}/handoff", wait_s)
        digest = base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
        if answer.headers.get(DIGEST_HEADER) != f"sha-256=:{digest}:":
            raise EdgeError("the hand-off was damaged on its way")
        found = re.search(r"edge;dur=([0-9.]+)", answer.headers.get("Server-Timing", ""))
        return answer.content, float(found[1]) / 1e3 if found else 0.0

    async def report(self, name: str, measured: LatencyParts) -> None:
        """Tell what was measured."""
        await self._call("POST", f"/v1/requests/{name}/report", json=measured.model_dump())

    async def cancel(self, name: str) -> None:
        """Cancel a request."""
        await self._call("DELETE", f"/v1/requests/{name}")

    async def _call(self, method: str, path: str, wait_s: float = TIMEOUT_S, **rest: Any) -> httpx.Response:
        """One call; whatever goes wrong is one sentence."""
        timeout = httpx.Timeout(TIMEOUT_S, read=max(wait_s, 0.001))
        try:
            async with asyncio.timeout(wait_s + TIMEOUT_S):
                answer = await self._http.request(method, path, timeout=timeout, **rest)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise EdgeError(f"no answer from {self.server} within {wait_s:.3g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EdgeError(f"{self.server} cannot be reached ({reason_of(error)})") from error
        if answer.is_error:
            raise EdgeError(_problem(answer))
        return answer


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

    def handoff(self, name: str, wait_s: float) -> tuple[bytes, float]:
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


def _record(kind: type[R], answer: httpx.Response) -> R:
    """An answer as a record."""
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        what = "; ".join(str(problem["msg"]) for problem in error.errors()[:1])
        raise EdgeError(f"the server's answer is none of this version ({what})") from error


def _problem(answer: httpx.Response) -> str:
    """What an answer with an error says."""
    try:
        detail = json.loads(answer.content)["detail"]
    except (ValueError, LookupError, TypeError):
        detail = answer.reason_phrase
    return f"the server answered {answer.status_code}: {str(detail)[:200]}"
