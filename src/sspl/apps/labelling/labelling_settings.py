"""Limits and habits of the labelling page."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from sspl.apps.serving.serving_settings import Hosts
from sspl.data.adapters.table import UnknownValue
from sspl.settings import Settings


def _as_text(value: object) -> object:
    return str(value) if type(value) is int else value


class LabellingSettings(Settings):
    """How the page is served and how often suggestions are made anew."""

    hosts: Hosts = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="names by which it may be addressed"
    )
    every: int = Field(20, ge=1, description="answers after which suggestions are made anew")
    picture_side: int = Field(800, ge=32, le=4096, description="longest side of a shown face, px")
    max_bytes: int = Field(65_536, ge=256, description="size of a request")
    body_seconds: float = Field(20.0, gt=0, description="time in which a request must be complete")
    unknown: Annotated[UnknownValue | None, BeforeValidator(_as_text)] = Field(
        None, description="which of 0 and -1 means unknown in a file of answers that has both"
    )
