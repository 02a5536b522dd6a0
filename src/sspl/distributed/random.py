"""Random draws for the faces of a batch, the same however many processes deal with it.

They are made on the CPU, and sent to where the faces are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Rows = slice | Sequence[int]
"""Which faces of a batch."""


class RowsGenerator(torch.Generator):
    """A CPU generator for some of the faces of a batch.

    `rand`, `randint` and `bernoulli` draw with it for every face of the batch and return the rows
    of its own faces, so that a face gets the same numbers whichever process has it. Other functions
    take it as the plain generator it is.
    """

    rows: Rows
    total: int


def generator_of_rows(generator: torch.Generator, rows: Rows, total: int) -> torch.Generator:
    """Return a generator for `rows` of a batch of `total` faces, in the state of `generator`.

    For the whole of a batch that is `generator` itself.
    """
    if _count(rows, total) == total:
        return generator
    own = RowsGenerator()
    own.set_state(generator.get_state())
    own.rows, own.total = rows, total
    return own


def turn_to(generator: torch.Generator, rows: Rows, total: int) -> None:
    """Let a share's generator go on for rows of another batch."""
    if isinstance(generator, RowsGenerator):
        generator.rows, generator.total = rows, total


def rand(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return float32 draws from [0, 1), one row a face, on the CPU."""
    if isinstance(generator, RowsGenerator):
        return _own(torch.rand((generator.total, *shape[1:]), generator=generator), generator)
    return torch.rand(shape, generator=generator)


def randint(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return int64 draws from 0 to `high` - 1, one row a face, on the CPU."""
    if isinstance(generator, RowsGenerator):
        drawn = torch.randint(high, (generator.total, *shape[1:]), generator=generator)
        return _own(drawn, generator)
    return torch.randint(high, shape, generator=generator)


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return float32 draws from [low, high), one row a face, on the CPU."""
    return rand(shape, generator) * (high - low) + low


def bernoulli(chance: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return float32 draws, 1 with a `chance` and else 0, on the CPU.

    There may be several rows a face, those of one face together.
    """
    faces, rest = shape[0], shape[1:]
    if isinstance(generator, RowsGenerator):
        each, left = divmod(faces, _count(generator.rows, generator.total))
        if not left:
            drawn = torch.empty(generator.total, each, *rest)
            return _own(drawn.bernoulli_(chance, generator=generator), generator).flatten(0, 1)
    return torch.empty(shape).bernoulli_(chance, generator=generator)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without waiting for what the device has to do before.

    A copy from memory that is not pinned would wait.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    # MPS reads the memory later, when it may be another tensor's.
    return tensor.to(device, non_blocking=device.type != "mps")


def _count(rows: Rows, total: int) -> int:
    return len(range(total)[rows]) if isinstance(rows, slice) else len(rows)


def _own(drawn: Tensor, generator: RowsGenerator) -> Tensor:
    return drawn[generator.rows]
