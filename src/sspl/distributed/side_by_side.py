"""Processes that each do work of their own, without talking to one another.

Unlike those of `group`, which train one network together. What is to be done once each is shared
out by whoever calls this, by locks say.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final, NamedTuple, NoReturn

from sspl.errors import SsplError

GRACE: Final = 20.0
"""Seconds that a process which is asked to end has for it."""

log = logging.getLogger(__name__)


class _Worker(NamedTuple):
    name: str
    process: SpawnProcess
    pipe: Connection


def side_by_side(works: Sequence[tuple[str, Callable[[], object]]]) -> list[str]:
    """Do each work, called by a name, in a process of its own; return the names of those that died.

    A work is pickled; each process has its share of the cores. A process that is killed, or ends
    by a fault of the program, is reported in one sentence, and the others go on. Raises the
    `SsplError` of the first process that has one; then, and on Ctrl-C, all others are ended.
    """
    context = multiprocessing.get_context("spawn")
    running: list[_Worker] = []
    died = []
    try:
        for part, (name, work) in enumerate(works):
            ours, theirs = context.Pipe(duplex=False)
            level = logging.getLogger().getEffectiveLevel()
            process = context.Process(target=_work, args=(name, work, theirs, level))
            # torch counts the cores as it is loaded, so they are its share from the beginning.
            with some_cores(part, len(works)):
                process.start()
            theirs.close()
            running.append(_Worker(name, process, ours))
        while running:
            ended = wait([worker.process.sentinel for worker in running])
            for worker in [w for w in running if w.process.sentinel in ended]:
                running.remove(worker)
                if not _ended_well(worker):
                    died.append(worker.name)
    finally:
        _stop(running)
    return died


@contextmanager
def some_cores(part: int, parts: int) -> Iterator[None]:
    """Let what is started in the block run on one of `parts` equal shares of the cores.

    Where there are fewer cores than shares, or the system cannot tell processes where to run, they
    have all of them.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    every = sorted(os.sched_getaffinity(0))
    own = every[len(every) * part // parts : len(every) * (part + 1) // parts]
    os.sched_setaffinity(0, own if len(every) >= parts else every)
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def _ended_well(worker: _Worker) -> bool:
    worker.process.join()
    code = worker.process.exitcode or 0
    # A process that was killed while it spoke has said nothing.
    if code > 0 and worker.pipe.poll():
        raise SsplError(worker.pipe.recv())
    if code:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        log.warning(
            "the process on %s ended %s; what it worked on is free again, and the others go on.",
            worker.name,
            how,
        )
    return not code


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(GRACE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(name: str, work: Callable[[], object], pipe: Connection, level: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the one that started the others ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TQDM_DISABLE"] = "1"  # bars of several processes would write over one another
    logging.basicConfig(level=level, format=f"{name}: %(message)s", force=True)
    try:
        work()
    except SsplError as error:
        pipe.send(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
