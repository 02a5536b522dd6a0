"""What `sspl learn` is asked for, as settings."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from sspl.settings import Settings


class LearnSettings(Settings):
    """From a folder of photographs to a model."""

    photographs: Path = Field(description="folder of photographs")
    attributes: tuple[str, ...] = Field((), description="what to learn; all that have labels")
    labels: Path | None = Field(
        None, description="CSV file of labels by photograph; without one a page asks for them"
    )
    test: float = Field(0.2, gt=0, lt=0.9, description="share of the labelled faces held out")
    minutes: float = Field(15.0, gt=0, description="budget of stage 1 on the photographs' faces")
    features: tuple[str, ...] = Field(
        (), description="networks of others that know faces: PATH[,key=value...]"
    )
    seed: int = Field(0, ge=0, description="of all that is by chance")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.labels is None and not self.attributes:
            raise ValueError("give --labels FILE.csv, or --attributes A,B to label by hand")
        return self
