"""Which faces of a batch each process has, and each micro-batch of a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from sspl.distributed.group import process_count, process_rank
from sspl.errors import SettingsError


@dataclass(frozen=True)
class MicroBatches:
    """How a batch is divided: micro-batch after micro-batch, process after process.

    Args:
        batch: faces of a whole batch.
        parts: micro-batches of a batch, whose gradients are added up.
        rank: the process whose faces are asked for.
        processes: how many share each micro-batch.
    """

    batch: int
    parts: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def size(self) -> int:
        """How many faces one process has of one micro-batch."""
        return self.batch // (self.parts * self.processes)

    def rows(self, part: int) -> slice:
        """Return which rows of a batch the process has in a 0-based micro-batch."""
        start = (part * self.processes + self.rank) * self.size
        return slice(start, start + self.size)


def micro_batches_of(batch: int, faces: int, parts: int) -> MicroBatches:
    """Return this process's micro-batches of `batch` faces, or of fewer if there are fewer.

    Raises `SettingsError` when a batch cannot be dealt out evenly.
    """
    divisor = parts * process_count()
    who = f"{process_count()} processes with optim.accumulate={parts}"
    if batch % divisor:
        raise SettingsError(
            f"optim.batch_size: {batch} faces cannot be dealt out to {who}; "
            f"choose a multiple of {divisor}."
        )
    whole = min(batch, faces // divisor * divisor)
    if not whole:
        raise SettingsError(f"data: {faces} faces are too few for {who}; start fewer processes.")
    return MicroBatches(whole, parts, process_rank(), process_count())


class RankSampler(Sequence[int]):
    """One process's faces of an order, micro-batch after micro-batch."""

    def __init__(self, order: Sequence[int], micro: MicroBatches) -> None:
        self.order, self.micro = order, micro

    def __len__(self) -> int:
        micro = self.micro
        return len(self.order) // micro.batch * micro.parts * micro.size

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        """Return the faces at a place or at a slice of places."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number, row = divmod(range(len(self))[place], self.micro.size)
        batch, part = divmod(number, self.micro.parts)
        face: int = self.order[batch * self.micro.batch + self.micro.rows(part).start + row]
        return face


def epoch_batches(
    order: Sequence[int], batch: int, parts: int
) -> list[tuple[MicroBatches, Sequence[int]]]:
    """Return the full batches of an order and, if there is one, the smaller last batch.

    Faces that cannot be dealt out evenly are left over, and a last batch of a single face too:
    BatchNorm cannot train on it. Raises `SettingsError` as `micro_batches_of`.
    """
    micro = micro_batches_of(batch, len(order), parts)
    full = len(order) // micro.batch * micro.batch
    rest = len(order) - full
    if rest < max(2, parts * process_count()):
        return [(micro, order[:full])]
    last = micro_batches_of(batch, rest, parts)
    return [(micro, order[:full]), (last, order[full : full + last.batch])]


def own_places(total: int) -> range:
    """Return this process's stretch of `total` places; all stretches together are all places."""
    rank, count = process_rank(), process_count()
    return range(total * rank // count, total * (rank + 1) // count)
