"""What steers learning: optimisers, schedules, averaged weights."""

from sspl.optim.averaging import averaged_model
from sspl.optim.optimiser import OptimSettings, make_optimiser, set_lr, step
from sspl.optim.schedules import ScheduleSettings, stepwise, warmup_cosine

__all__ = [
    "OptimSettings",
    "ScheduleSettings",
    "averaged_model",
    "make_optimiser",
    "set_lr",
    "step",
    "stepwise",
    "warmup_cosine",
]
