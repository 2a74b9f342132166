"""Many devices in a process of their own, which ask a server as fast as it answers, for tests of its overload.

`python crowd.py PORT SECONDS DEVICES` reads the body of every request from its input, and prints one JSON object.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager


async def answered(reader):
    """The status and the headers of an answer, whose body is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(first.split()[1]), headers


async def ask_again_and_again(port, request, end, pause_s, seen, slowest):
    """Send a request whenever the one before is answered; its statuses are counted, the slowest answer noted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (before := time.monotonic()) < end:
        writer.write(request)
        status, headers = await answered(reader)
        seen[status] += 1
        slowest[0] = max(slowest[0], time.monotonic() - before)
        assert status != 429 or int(headers["retry-after"]) >= 1
        await asyncio.sleep(pause_s)
    writer.close()


async def measure_lateness(end, late):
    """How late this process is woken up, which has next to nothing to do: the noise of the machine."""
    while time.monotonic() < end:
        before = time.monotonic()
        await asyncio.sleep(0.01)
        late[0] = max(late[0], time.monotonic() - before - 0.01)


async def crowd(port, seconds, devices, body):
    """So many devices for so long; without a device, one that only looks at /healthz, twenty times a second."""
    end, seen, slowest, late = time.monotonic() + seconds, Counter(), [0.0], [0.0]
    head = "Host: x\r\nContent-Type: application/json\r\n"
    asked = f"POST /v1/requests HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    looked = f"GET /healthz HTTP/1.1\r\n{head}\r\n".encode()
    each = [(asked, 0.0)] * devices or [(looked, 0.05)]
    async with asyncio.TaskGroup() as group:
        for request, pause_s in each:
            group.create_task(ask_again_and_again(port, request, end, pause_s, seen, slowest))
        group.create_task(measure_lateness(end, late))
    return {"seen": {str(status): count for status, count in seen.items()}, "slowest_s": slowest[0], "late_s": late[0]}


@contextmanager
def crowding(port, seconds, devices, body=""):
    """The crowd in a process of its own; yields a function that waits for its end and returns what it saw."""
    command = [sys.executable, __file__, str(port), str(seconds), str(devices)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def result():
            printed = process.communicate(timeout=seconds + 60)[0]
            assert process.returncode == 0
            return json.loads(printed)

        process.stdin.write(body)
        process.stdin.close()
        process.stdin = None
        yield result
        process.kill()


if __name__ == "__main__":
    port, seconds, devices = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(asyncio.run(crowd(port, seconds, devices, sys.stdin.read()))))
