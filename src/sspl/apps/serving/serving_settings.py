"""Limits of the server."""

from typing import Annotated

from pydantic import Field

from sspl.settings import Settings

Hosts = Annotated[
    tuple[Annotated[str, Field(pattern=r"^(\*|(\*\.)?[^\s*/]+)$")], ...], Field(min_length=1)
]
"""Names of a machine; `*.` may stand before one, or `*` for any."""


class ServeSettings(Settings):
    """What one server takes on; everything beyond it is refused with a clear status."""

    hosts: Hosts = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="names by which it may be addressed"
    )
    max_bytes: int = Field(10_000_000, ge=1, description="size of an uploaded picture")
    max_pixels: int = Field(40_000_000, ge=1, description="width times height of a picture")
    body_seconds: float = Field(20.0, gt=0, description="time in which an upload must be complete")
    rate: float = Field(100.0, gt=0, description="pictures per second of one address, sustained")
    burst: int = Field(400, ge=1, description="pictures of one address at once")
    max_batch: int = Field(32, ge=1, description="pictures scored together")
    max_wait: float = Field(0.005, ge=0, description="seconds to wait for company in a batch")
    max_waiting: int = Field(512, ge=1, description="pictures that are read, wait or are looked at")
    max_uploads: int = Field(128_000_000, ge=1, description="bytes of uploads held at once")
    max_decoded: int = Field(
        720_000_000, ge=1, description="bytes that pictures and faces may take at once"
    )
    max_faces: int = Field(100, ge=1, description="faces of one picture, the largest")
    patience: float = Field(10.0, ge=0, description="seconds to wait for memory before 503")
    readers: int = Field(0, ge=0, description="threads that decode and find faces; 0: one a core")
