"""Optimiser and budget, as settings."""

from typing import Literal

from pydantic import Field

from sspl.optim.schedules import ScheduleSettings
from sspl.settings import Settings


class OptimSettings(Settings):
    """Optimiser and budget; `batch_size` counts the faces of a step over all processes.

    Examples:
        >>> OptimSettings(lr=3e-3, schedule={"warmup_epochs": 2}).schedule.warmup_epochs
        2
    """

    name: Literal["adam", "adamw"] = Field("adamw", description="optimiser")
    lr: float = Field(1e-3, gt=0, description="largest learning rate")
    weight_decay: float = Field(0.05, ge=0, description="pull of the weights towards 0")
    batch_size: int = Field(64, ge=2, description="faces of a step, over all processes")
    epochs: int = Field(30, ge=1, description="passes over the faces")
    accumulate: int = Field(
        1, ge=1, description="parts in which a process works through its share of a batch"
    )
    sync_batchnorm: bool = Field(
        True, description="among several processes, take BatchNorm's statistics over all of them"
    )
    clip: float = Field(5.0, ge=0, description="largest gradient norm; 0: whatever it is")
    schedule: ScheduleSettings = ScheduleSettings(warmup_epochs=1)
