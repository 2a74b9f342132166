"""An edge server on its socket: faults are told before it listens, and whoever waits is answered when it stops."""

import socket
import ssl
from pathlib import Path
from typing import Any

import uvicorn

from ..common.errors import InputError, reason_of
from .rounds import Rounds

BACKLOG = 2048
"""Connections that may wait to be taken."""


class EdgeServer(uvicorn.Server):
    """uvicorn's server around the rounds: they start before it listens, and stop while devices still hear of it."""

    def __init__(self, config: uvicorn.Config, rounds: Rounds, grace_s: float) -> None:
        super().__init__(config)
        self.rounds, self.grace_s = rounds, grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the model, then listen.

        Raises:
            EngineError: where it cannot be loaded.
        """
        await self.rounds.start()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer everybody, then close the connections."""
        await self.rounds.stop(self.grace_s)
        await super().shutdown(sockets)


def config_of(app: Any, tls_cert: Path | None = None, tls_key: Path | None = None) -> uvicorn.Config:
    """uvicorn's settings for an application of ours."""
    return uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_keep_alive=65, timeout_graceful_shutdown=2,
        backlog=BACKLOG, ssl_certfile=tls_cert, ssl_keyfile=tls_key,
    )  # fmt: skip


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket on this address, not listening yet.

    Raises:
        InputError: for an address that is taken or none.
    """
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        raise InputError(
            f"--host, --port: found {host}:{port}, which cannot be listened on ({reason_of(error)}); take another"
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
