"""Chromium without a window, spoken to over two pipes with its DevTools protocol; no package is needed for it."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_S = 60


class Page:
    """A tab.

    Attributes:
        complaints: errors that the page has caused so far, on its console or thrown.
    """

    def __init__(self, requests, answers):
        self._requests, self._answers, self._buffer = requests, answers, b""
        self._number, self._session, self.complaints = 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """What a method of the protocol answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while (answer := self._next(deadline)).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self, deadline):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            self._buffer += os.read(self._answers, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"])
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.complaints.append(params["args"])

    def show(self, width, height, scheme="light"):
        """Give the tab a size in CSS pixels and a colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address):
        """Go to an address, and wait until its document is there."""
        self.call("Page.navigate", url=address)
        self.until('location.protocol === "http:" && document.readyState === "complete"')

    def value(self, expression):
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression):
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.1)

    def picture(self):
        """The whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"])


@contextmanager
def browsing(profile):
    """A tab of a browser that runs while the block does; its files lie in this folder."""
    (their_requests, requests), (answers, their_answers) = os.pipe(), os.pipe()
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-extensions", "--no-proxy-server", f"--user-data-dir={profile}", "--remote-debugging-pipe",
    ]  # fmt: skip
    process = start(command, their_requests, their_answers)
    try:
        yield Page(requests, answers)
    finally:
        os.close(requests)
        os.close(answers)
        end(process)


def start(command, requests, answers):
    """Start a browser that reads from 3 and writes to 4, as Chromium does; returns its process id."""
    apart = [fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (requests, answers)]  # neither is 3 or 4
    silent = [(os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)]
    moved = [(os.POSIX_SPAWN_DUP2, pipe, place) for pipe, place in zip(apart, (3, 4), strict=True)]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=silent + moved)
    for pipe in (requests, answers, *apart):
        os.close(pipe)
    return process


def end(process):
    """End a process that we have started; one that does not end is killed."""
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
