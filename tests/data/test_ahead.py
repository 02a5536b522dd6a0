"""Batches on their way to the device: in order, one ahead, waited for by the arithmetic alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from sspl.data.canvases import CanvasBatch, ahead


def test_on_a_cpu_a_batch_is_what_it_was() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    batch = CanvasBatch(torch.arange(2), images, images[:, 0])
    (same,) = ahead(iter([batch]), torch.device("cpu"))
    assert same.images is images
    assert same.masks is batch.masks


def test_elsewhere_pictures_move_and_places_stay() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    batches = [CanvasBatch(torch.arange(2), images, m) for m in (images[:, 0], None)]
    masked, plain = ahead(iter(batches), torch.device("meta"))
    assert masked.masks is not None
    assert [t.device.type for t in (masked.images, masked.masks, plain.images)] == ["meta"] * 3
    assert (masked.index.device.type, plain.masks) == ("cpu", None)


@dataclass
class Numbered:
    """A batch that is known by its number."""

    number: int
    log: list[Any]

    def to(self, device: torch.device) -> "Numbered":
        self.log.append(("sent", self.number))
        return self

    def tensors(self) -> list[Any]:
        return [Recorded(self.number, self.log)]


@dataclass
class Recorded:
    """A tensor whose memory is kept until a stream is done with it."""

    number: int
    log: list[Any]

    def record_stream(self, stream: object) -> None:
        self.log.append(("kept", self.number, stream))


class Stream:
    """A stream of a GPU that is not there."""

    def __init__(self, log: list[Any]) -> None:
        self.log, self.inside = log, False

    def record_event(self) -> str:
        assert self.inside
        return f"copy {sum(entry[0] == 'sent' for entry in self.log)}"

    def wait_event(self, event: object) -> None:
        self.log.append(("waits", event))


def test_on_a_gpu_the_next_batch_is_sent_before_the_last_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[Any] = []
    copies, arithmetic = Stream(log), Stream(log)

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        stream.inside = True
        yield
        stream.inside = False

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: copies)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: arithmetic)
    numbered: Any = (Numbered(i, log) for i in (1, 2))
    for batch in ahead(numbered, torch.device("cuda")):
        log.append(("used", batch.number))  # type: ignore[attr-defined]
    assert log == [
        ("sent", 1), ("sent", 2),
        ("waits", "copy 1"), ("kept", 1, arithmetic), ("used", 1),
        ("waits", "copy 2"), ("kept", 2, arithmetic), ("used", 2),
    ]  # fmt: skip


def test_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    assert list(ahead(iter(list[CanvasBatch]()), torch.device("cuda"))) == []
