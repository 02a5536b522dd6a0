"""Many clients at once against `sspl serve` on this machine.

    python benchmarks/serving.py MODEL --clients 200 --seconds 60
    python benchmarks/serving.py MODEL --clients 50 --requests 5000
    python benchmarks/serving.py MODEL --clients 150 --seconds 35 --large --route both

Starts the server on a free port of the loopback, sends synthetic faces or, with `--large`, 1-bit
pictures of 6320 x 6320 px in some 5 KB, and prints requests a second, latencies, how they were
answered, and the server's resident memory: the most ever, and of so many requests how much it was
after each 500. Exits with 1 when a request failed, or memory went beyond `--most`. A refusal with
503 and Retry-After is a failure for faces and an answer for large pictures.
"""

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import numpy as np
from PIL import Image

from sspl.data.synthetic.render import render_face

LARGE = 6320
STEP = 500


def pictures(count: int, side: int) -> list[bytes]:
    made = []
    for i in range(count):
        file = io.BytesIO()
        Image.fromarray(render_face(11, i, side).image).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


def large_picture() -> bytes:
    file = io.BytesIO()
    Image.new("1", (LARGE, LARGE), 1).save(file, "PNG", optimize=True)
    return file.getvalue()


@contextmanager
def serving(model: Path, extra: list[str]) -> Iterator[tuple[int, str, list[str]]]:
    """A server of its own process; yields its number, its address and the lines of its log."""
    command = [sys.executable, "-m", "sspl", "serve", str(model), "--port", "0", *extra]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    lines: list[str] = []
    for line in server.stderr:
        if "running on " in line:
            break
        lines.append(line)
    else:
        raise SystemExit("the server did not start: " + "".join(lines))
    reading = threading.Thread(target=lines.extend, args=(server.stderr,))
    reading.start()
    try:
        yield server.pid, line.split("running on ")[1].split()[0], lines
    finally:
        server.terminate()
        status = server.wait(60)
        reading.join()
        traces = sum("Traceback" in line for line in lines)
        click.echo(f"the server ended with {status}; {len(lines)} lines of log, {traces} traces")


class Load:
    """What clients send, and how it was answered."""

    def __init__(self, address: str, bodies: list[bytes], routes: list[str], busy_is_fine: bool):
        self.address, self.bodies, self.routes = address, bodies, routes
        self.busy_is_fine = busy_is_fine
        self.times: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.failures: list[str] = []

    async def run(self, clients: int, seconds: float, requests: int) -> None:
        self._end = time.monotonic() + seconds
        self._turns = iter(range(requests) if requests else iter(int, 1))
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx.AsyncClient(base_url=self.address, limits=limits, timeout=120) as http:
            await asyncio.gather(*(self._client(i, http) for i in range(clients)))

    async def _client(self, number: int, http: httpx.AsyncClient) -> None:
        for turn, _ in enumerate(self._turns, number):
            if time.monotonic() > self._end:
                return
            started = time.monotonic()
            try:
                self._note(
                    await http.post(
                        self.routes[turn % len(self.routes)],
                        content=self.bodies[turn % len(self.bodies)],
                    )
                )
            except httpx.HTTPError as error:
                self.statuses["none"] += 1
                self.failures.append(repr(error))
            self.times.append(time.monotonic() - started)

    def _note(self, reply: httpx.Response) -> None:
        self.statuses[str(reply.status_code)] += 1
        refused = reply.status_code == 503 and "Retry-After" in reply.headers
        if reply.status_code != 200 and not (refused and self.busy_is_fine):
            self.failures.append(f"{reply.status_code} {reply.text[:80]}")


def memory_of(process: int, field: str = "VmRSS") -> float:
    """Return the resident memory now, or the largest so far (`VmHWM`), in MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


async def tell_memory(load: Load, process: int) -> None:
    """Print the memory now and after each `STEP` requests, until cancelled."""
    told = 0
    while True:
        while len(load.times) >= STEP * told:
            click.echo(f"{STEP * told} requests: {memory_of(process):.0f} MB")
            told += 1
        await asyncio.sleep(0.02)


async def run(load: Load, process: int, clients: int, seconds: float, requests: int) -> None:
    telling = asyncio.create_task(tell_memory(load, process)) if requests else None
    await load.run(clients, seconds, requests)
    if telling is not None:
        await asyncio.sleep(0.1)
        telling.cancel()


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--clients", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seconds", type=float, default=60, show_default=True)
@click.option("--requests", type=int, default=0, help="So many, in place of seconds.")
@click.option("--side", type=int, default=128, show_default=True, help="Of the faces, px.")
@click.option("--large", is_flag=True, help="Large pictures of few bytes in place of faces.")
@click.option("--route", type=click.Choice(["predict", "explain", "both"]), default="predict")
@click.option("--most", type=float, default=0, help="MB of memory beyond which it has failed.")
@click.option("--detect/--no-detect", default=False, show_default=True)
def main(
    model: Path,
    clients: int,
    seconds: float,
    requests: int,
    side: int,
    large: bool,
    route: str,
    most: float,
    detect: bool,
) -> None:
    limits = ["--detect" if detect else "--no-detect", "rate=100000", "burst=100000"]
    with serving(model, limits) as (process, address, _):
        name = httpx.get(f"{address}/v1/model").json()["attributes"][0]
        paths = {"predict": "/v1/predict", "explain": f"/v1/explain?attribute={name}"}
        routes = list(paths.values()) if route == "both" else [paths[route]]
        faces = pictures(64, side)
        asyncio.run(Load(address, faces, routes, False).run(4, 2, 0))
        before = memory_of(process, "VmHWM")
        load = Load(address, [large_picture()] if large else faces, routes, large)
        started = time.monotonic()
        span = 1e9 if requests else seconds
        asyncio.run(run(load, process, clients, span, requests))
        took = time.monotonic() - started
        peak = memory_of(process, "VmHWM")
        time.sleep(5)
        after = memory_of(process)
    p50, p95, p99 = (1000 * np.quantile(load.times, q) for q in (0.5, 0.95, 0.99))
    count, failed = len(load.times), len(load.failures)
    told = ", ".join(f"{n} with {status}" for status, n in sorted(load.statuses.items()))
    click.echo(f"{clients} clients, {took:.0f} s: {count} requests, {failed} failed ({told})")
    click.echo(f"{count / took:.0f} requests/s; ms p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f}")
    click.echo(
        f"memory: {before:.0f} MB with 4 clients, {peak:.0f} MB the most with {clients}, "
        f"{after:.0f} MB 5 s after them"
    )
    for failure in sorted(set(load.failures))[:5]:
        click.echo(f"failed: {failure}")
    sys.exit(1 if load.failures or (most and peak > most) else 0)


if __name__ == "__main__":
    main()
