"""An edge server on its socket: faults are told before it listens, and whoever waits is answered when it stops."""

import asyncio
import gc
import socket
import ssl
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..common.errors import InputError, reason_of
from .asgi import BODY_S
from .rounds import Rounds

BACKLOG = 2048
"""Connections that may wait to be taken."""
ANSWER_S = 1.0
"""Seconds after which a connection is closed that the application should have answered."""


class OrderlyServer(uvicorn.Server):
    """uvicorn's server, which ends in order however often it is told to; nothing of it lasts long."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; uvicorn would leave the application where it is at the second Ctrl-C, with a traceback."""
        super().handle_exit(sig, frame)
        self.force_exit = False


class EdgeServer(OrderlyServer):
    """A server around the rounds: they start before it listens, and stop while devices still hear of it."""

    def __init__(self, config: uvicorn.Config, rounds: Rounds, grace_s: float) -> None:
        super().__init__(config)
        self.rounds, self.grace_s = rounds, grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the model, then listen.

        Raises:
            EngineError: where it cannot be loaded.
        """
        await self.rounds.start()
        gc.collect()
        gc.freeze()  # what is there now stays, and to go through it again would hold everybody up
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; when told again, without the time for images in flight."""
        if self.should_exit:
            self.rounds.hurry()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer everybody, then close the connections."""
        await self.rounds.stop(self.grace_s)
        await super().shutdown(sockets)
        gc.unfreeze()


class PunctualProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, but a connection is closed whose request takes too long to come.

    The application answers a slow body with 408; this is for slow headers, for silence, and for bodies that go on after
    the answer.
    """

    def __init__(self, *given: Any, late_s: float, **named: Any) -> None:
        super().__init__(*given, **named)
        self._late_s = late_s
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_the_rest()

    def data_received(self, data: bytes) -> None:
        """Take some bytes, and wait for the rest of the request where there is one to come."""
        super().data_received(data)
        self._wait_for_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        if self._late:
            self._late.cancel()

    def _wait_for_the_rest(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            if self._late:
                self._late.cancel()
            self._late = None
        elif self._late is None:
            self._late = self.loop.call_later(self._late_s, self.transport.close)


def config_of(
    app: Any, tls_cert: Path | None = None, tls_key: Path | None = None, body_s: float = BODY_S
) -> uvicorn.Config:
    """uvicorn's settings for an application of ours.

    Args:
        app: the application.
        tls_cert: certificate, for HTTPS.
        tls_key: its private key.
        body_s: seconds that the application gives a body to come.
    """
    return uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_keep_alive=65, timeout_graceful_shutdown=2,
        backlog=BACKLOG, ssl_certfile=tls_cert, ssl_keyfile=tls_key,
        http=partial(PunctualProtocol, late_s=body_s + ANSWER_S),  # type: ignore[arg-type]
    )  # fmt: skip


def bound_socket(host: str, port: int, option: str = "--host, --port") -> socket.socket:
    """A socket on this address, not listening yet.

    Args:
        host: address of this machine.
        port: port; 0 for any.
        option: what named them.

    Raises:
        InputError: for an address that is taken or none.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY where it says TCP
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise InputError(
            f"{option}: found {host}:{port}, which cannot be listened on ({reason_of(error)}); take another"
        ) from error
    return taken


def check_tls(cert: Path | None, key: Path | None) -> None:
    """Refuse TLS files that do not serve.

    Raises:
        InputError: naming them.
    """
    if bool(cert) != bool(key):
        raise InputError("--tls-cert, --tls-key: found one of them, accepted: both or none")
    if cert is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--tls-cert, --tls-key: {cert}, {key}: found no certificate and its key as PEM without a password "
            f"({reason_of(error)})"
        ) from error
