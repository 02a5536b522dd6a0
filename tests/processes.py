"""Run a function in several processes that train together, by gloo on this machine."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from sspl.distributed.group import joined


def in_processes(count: int, work: Callable[[], object], folder: Path) -> list[Any]:
    """Return what `work` returns in each of `count` processes, an exception where it raises.

    None stands for a process that ended before it had a result.
    """
    torch.multiprocessing.start_processes(
        _run, (count, free_port(), work, folder), count, start_method="fork"
    )
    files = [folder / f"{rank}.pt" for rank in range(count)]
    return [torch.load(f, weights_only=False) if f.exists() else None for f in files]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(rank: int, count: int, port: int, work: Callable[[], object], folder: Path) -> None:
    # A forked process has none of its parent's OpenMP threads and must not wait for them.
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with joined():
            result = work()
    except Exception as error:
        result = error
    folder.mkdir(exist_ok=True)
    torch.save(result, folder / f"{rank}.pt")
