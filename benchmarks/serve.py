"""How a server stands a steady load of requests: python -m benchmarks.serve [rate] [seconds]

Starts a server on this machine and asks it to read a digit of 28x28 pixels, `rate` times a second
(default 200) for so many seconds (default 20), whether or not it has answered those before. A
request's time is counted from when it was due.
"""

import argparse
import asyncio
import io
import math
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Outcome:
    """How long each request that was answered took, and the statuses of the others, 0 for none."""

    seconds: list[float] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


async def load(host: str, port: int, body: bytes, rate: float, seconds: float) -> Outcome:
    """Asks `rate` times a second for `seconds`; connections are kept and used again."""
    outcome = Outcome()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    head = f"POST /v1/recognize HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"

    async def ask(due: float) -> None:
        status = 0
        try:
            while idle and idle[-1][0].at_eof():  # the server has closed it meanwhile
                idle.pop()[1].close()
            reader, writer = idle.pop() if idle else await asyncio.open_connection(host, port)
            writer.write(head.encode() + body)
            told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(told.partition("content-length: ")[2].split()[0]))
            status = int(told.split()[1])
            idle.append((reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        if status == 200:
            outcome.seconds.append(time.perf_counter() - due)
        else:
            outcome.failed.append(status)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as asked:
        for n in range(round(rate * seconds)):
            due = begun + n / rate
            await asyncio.sleep(max(0, due - time.perf_counter()))
            asked.create_task(ask(due))
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()
    return outcome


def digit() -> bytes:
    """A PNG of 28x28 pixels with one of the embedded digits, light on dark as MNIST's."""
    from PIL import Image

    from lenet_jax.data import digits

    png = io.BytesIO()
    Image.fromarray(digits.load()["test_images"][0]).save(png, "PNG")
    return png.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.serve", description=__doc__)
    parser.add_argument("rate", nargs="?", type=float, default=200.0, help="requests a second")
    parser.add_argument("seconds", nargs="?", type=float, default=20.0)
    given = parser.parse_args()
    rate, seconds = given.rate, given.seconds
    if not (0 < rate < math.inf and 0 < seconds < math.inf):
        parser.error(f"rate {rate:g}, seconds {seconds:g}: both must be positive")
    command = [sys.executable, "-m", "lenet_jax.serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline().partition("127.0.0.1:")[2].split()[0])
        outcome = asyncio.run(load("127.0.0.1", port, digit(), rate, seconds))
        server.terminate()
    p50, p99 = np.percentile(outcome.seconds, (50, 99)) * 1000
    print("| requests/s | for | answered | failed | p50 | p99 |\n|---|---|---|---|---|---|")
    print(
        f"| {rate:g} | {seconds:g} s | {len(outcome.seconds)} | {len(outcome.failed)} | "
        f"{p50:.1f} ms | {p99:.1f} ms |"
    )


if __name__ == "__main__":
    main()
