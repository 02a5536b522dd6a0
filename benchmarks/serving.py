"""Many clients at once against `sspl serve` on this machine.

    python benchmarks/serving.py MODEL --clients 200 --seconds 60

Starts the server on a free port of the loopback, sends synthetic faces, and prints requests a
second, latencies, how many failed and the server's largest resident memory. Exits with 1 when a
request failed.
"""

import asyncio
import io
import subprocess
import sys
import time
from pathlib import Path

import click
import httpx
import numpy as np
from PIL import Image

from sspl.data.synthetic.render import render_face


def pictures(count: int, side: int) -> list[bytes]:
    made = []
    for i in range(count):
        file = io.BytesIO()
        Image.fromarray(render_face(11, i, side).image).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


def start_server(model: Path, extra: list[str]) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "sspl", "serve", str(model), "--port", "0", *extra]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "running on " in line:
            return server, line.split("running on ")[1].split()[0]
    raise SystemExit("the server did not start")


async def load(
    address: str, faces: list[bytes], clients: int, seconds: float
) -> tuple[list[float], list[str]]:
    times: list[float] = []
    failures: list[str] = []
    end = time.monotonic() + seconds

    async def client(number: int, http: httpx.AsyncClient) -> None:
        turn = number
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                reply = await http.post(
                    "/v1/predict", content=faces[turn % len(faces)],
                    headers={"Content-Type": "image/jpeg"},
                )  # fmt: skip
                if reply.status_code != 200:
                    failures.append(f"{reply.status_code} {reply.text[:80]}")
            except httpx.HTTPError as error:
                failures.append(repr(error))
            times.append(time.monotonic() - started)
            turn += clients

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as http:
        await asyncio.gather(*(client(i, http) for i in range(clients)))
    return times, failures


def peak_memory(process: int) -> float:
    """Return the largest resident memory so far in MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--clients", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seconds", type=float, default=60, show_default=True)
@click.option("--side", type=int, default=128, show_default=True, help="Of the faces, px.")
@click.option("--detect/--no-detect", default=False, show_default=True)
def main(model: Path, clients: int, seconds: float, side: int, detect: bool) -> None:
    server, address = start_server(model, ["--detect" if detect else "--no-detect"])
    try:
        faces = pictures(64, side)
        asyncio.run(load(address, faces, 4, 2))
        before = peak_memory(server.pid)
        times, failures = asyncio.run(load(address, faces, clients, seconds))
        after = peak_memory(server.pid)
    finally:
        server.terminate()
        server.wait(20)
    p50, p95, p99 = (1000 * np.quantile(times, q) for q in (0.5, 0.95, 0.99))
    click.echo(f"{clients} clients, {seconds:g} s: {len(times)} requests, {len(failures)} failed")
    click.echo(
        f"{len(times) / seconds:.0f} requests/s; ms p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f}"
    )
    click.echo(f"peak memory {before:.0f} MB with 4 clients, {after:.0f} MB with {clients}")
    for failure in sorted(set(failures))[:5]:
        click.echo(f"failed: {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
