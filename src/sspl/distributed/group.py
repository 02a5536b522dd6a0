"""The processes of a run, by torch.distributed.

`torchrun` starts them and tells each its rank. Gradients are averaged by DistributedDataParallel;
the first process writes the files.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sspl.errors import ReportedElsewhereError, SsplError, TrainingError

PATIENCE: Final = timedelta(minutes=30)
"""How long processes wait for each other: one may decode a whole data set meanwhile."""

LOST: Final = ("gloo", "Connection", "NCCL", "Timed out", "timed out", "Broken pipe")

T = TypeVar("T")


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that `torchrun` started, for as the block runs.

    Alone, it does nothing. Raises `SsplError` when they cannot reach each other; inside the
    block the death of another process becomes one, too.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or _grouped():
        yield
        return
    try:
        dist.init_process_group(timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise SsplError(
            f"the processes cannot reach each other ({str(error).splitlines()[0]}); start them "
            "with torchrun and check its --nnodes, --rdzv-endpoint and the network."
        ) from None
    with _losses_explained():
        yield
    # Not after an error: a process that waits for a dead one would wait here again.
    dist.destroy_process_group()


@contextmanager
def _losses_explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(w in str(error) for w in LOST):
            raise
        if process_rank():
            raise ReportedElsewhereError from None
        raise TrainingError(
            "another process of this run stopped; its own message, if it had the time for one, "
            "says why: go on with --resume."
        ) from None


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def process_rank() -> int:
    """Return which of the processes this is, from 0."""
    return dist.get_rank() if _grouped() else 0


def process_count() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if _grouped() else 1


def is_first() -> bool:
    """Tell whether this is the process that writes files and speaks."""
    return process_rank() == 0


def local_rank() -> int:
    """Return which of this machine's processes this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if process_count() > 1 else 0


def local_count() -> int:
    """Return how many processes this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if process_count() > 1 else 1


def gathered(mine: T) -> list[T]:
    """Return what each process hands in, in the order of their ranks; all must call it."""
    if process_count() == 1:
        return [mine]
    everyones: list[Any] = [None] * process_count()
    dist.all_gather_object(everyones, mine)
    return everyones


def agreed(work: Callable[[], T]) -> T:
    """Do the same work in all processes; where one of them fails, all of them do.

    The first process that failed raises its own error, the others `ReportedElsewhereError`.
    """
    result, error = None, None
    try:
        result = work()
    except SsplError as problem:
        error = problem
    failed = [r for r, message in enumerate(gathered(error and str(error))) if message is not None]
    if failed and error is not None and failed[0] == process_rank():
        raise error
    if failed:
        raise ReportedElsewhereError
    return result  # type: ignore[return-value]


def in_turn(work: Callable[[], T]) -> T:
    """Do the same work in the first process and then in the others; errors as in `agreed`."""
    result = agreed(lambda: work() if is_first() else None)
    return agreed(lambda: result if is_first() else work())  # type: ignore[return-value]


def same_everywhere(fact: object, what: str) -> None:
    """Raise `SsplError` when the processes do not hold the same fact."""
    if any(other != fact for other in gathered(fact)):
        problem = SsplError(
            f"the processes do not see the same of {what}; "
            "all machines must share the disk that it is on."
        )
        raise problem if is_first() else ReportedElsewhereError


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, without a gradient."""
    value = value.detach()
    if process_count() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= process_count()
    return value


def shared_count(own: Tensor) -> Tensor:
    """Return what to divide this process's sum of losses by, for a mean over the whole batch.

    `own` int64 () counts this process's terms. The result, float32 (), is all processes' terms
    (1 where there are none) divided by the number of processes, which averaging the gradients
    makes up for.
    """
    total = own.detach().float()
    if process_count() > 1:
        total = total.clone()
        dist.all_reduce(total)
    return total.clamp(min=1) / process_count()


def mean_over_known(losses: Tensor, known: Tensor) -> Tensor:
    """Average losses (n, k) where bool `known` (n, k) holds; 0 where nothing is known.

    Among several processes the average is over the whole batch (`shared_count`).
    """
    return (losses * known).sum() / shared_count(known.sum())


def for_all_processes(network: nn.Module, all_used: bool = True) -> nn.Module:
    """Return the network to call in training, so that gradients are averaged over processes.

    Its weights are the network's own, and become the first process's everywhere. `all_used`
    tells that every parameter has a part in every loss; else torch looks for those that have none.
    """
    if process_count() == 1:
        return network
    return DistributedDataParallel(network, find_unused_parameters=not all_used)


def gradients_wait(network: nn.Module) -> AbstractContextManager[object]:
    """Return a context in which gradients add up in each process and are not averaged yet."""
    if isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


def level(network: nn.Module) -> None:
    """Give all processes the mean of their BatchNorm averages."""
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.copy_(mean_over_processes(buffer))
